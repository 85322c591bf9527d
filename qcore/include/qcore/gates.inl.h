// The cells of recurrent layers: gates of 16 hidden values at a time, the new state in place. Included once per ISA, after elementwise.inl.h.

namespace qcore::QCORE_ISA {
namespace {

// exp(y) for y in [-87, 0], as `power` * (1 + `part`).
struct Exponential {
  F32 power, part;
};

QCORE_INLINE Exponential exponential(const F32& y) {
  const I32 n = round_i32(mul(y, set_f32(1.4426950408889634f)));
  const F32 whole = to_f32(n);
  const F32 r = sub(sub(y, mul(whole, set_f32(45426.0f / 65536.0f))), mul(whole, set_f32(1.4286068203094173e-06f)));
  F32 series = add(mul(set_f32(0.0013946424f), r), set_f32(0.008366572f));
  series = add(mul(series, r), set_f32(0.041666284f));
  series = add(mul(series, r), set_f32(0.16666543f));
  series = add(mul(series, r), set_f32(0.5f));
  return {power_of_two(n), add(mul(mul(r, r), series), r)};
}

// A NaN passes the lower bound as the bound, and comes back at the end.
QCORE_INLINE F32 bounded(const F32& y) { return max(y, set_f32(-87.0f)); }

QCORE_INLINE F32 sigmoid(const F32& x) {
  const F32 one = set_f32(1.0f);
  const Exponential e = exponential(bounded(mul(magnitude(x), set_f32(-1.0f))));
  const F32 t = add(mul(e.power, e.part), e.power);
  return keep_nan(div(where_negative(x, t, one), add(t, one)), x);
}

QCORE_INLINE F32 tanh(const F32& x) {
  const Exponential e = exponential(bounded(mul(magnitude(x), set_f32(-2.0f))));
  const F32 p = add(mul(e.power, e.part), sub(e.power, set_f32(1.0f)));
  return keep_nan(with_sign(div(p, add(p, set_f32(2.0f))), x), x);
}

// What one row of a step gives to its cell: gate(i) of the linears of the input and of the state, and the former state.
struct CellLanes {
  const float* input;
  const float* state;
  F32 h, c;

  QCORE_INLINE F32 of_input(int gate) const { return load_f32(input + gate * kLanes); }
  QCORE_INLINE F32 of_state(int gate) const { return load_f32(state + gate * kLanes); }
  QCORE_INLINE F32 sum(int gate) const { return add(of_state(gate), of_input(gate)); }
};

struct LstmCell {
  static constexpr bool kHasC = true;
  static QCORE_INLINE F32 step(CellLanes& v) {
    v.c = add(mul(sigmoid(v.sum(1)), v.c), mul(sigmoid(v.sum(0)), tanh(v.sum(2))));
    return mul(sigmoid(v.sum(3)), tanh(v.c));
  }
};

struct GruCell {
  static constexpr bool kHasC = false;
  static QCORE_INLINE F32 step(CellLanes& v) {
    const F32 n = tanh(add(v.of_input(2), mul(v.of_state(2), sigmoid(v.sum(0)))));
    return add(mul(sub(v.h, n), sigmoid(v.sum(1))), n);
  }
};

struct RnnTanhCell {
  static constexpr bool kHasC = false;
  static QCORE_INLINE F32 step(CellLanes& v) { return tanh(v.sum(0)); }
};

struct RnnReluCell {
  static constexpr bool kHasC = false;
  static QCORE_INLINE F32 step(CellLanes& v) { return max(set_f32(0.0f), v.sum(0)); }
};

QCORE_INLINE F32 load_some(const float* p, int count) { return count >= kLanes ? load_f32(p) : load_f32(some(p, count).v); }

template <class Cell>
void cell(const CellStep& s) {
  for (int64_t row = 0; row < s.rows; ++row) {
    float* h = s.h + row * s.hidden;
    float* c = Cell::kHasC ? s.c + row * s.hidden : nullptr;
    CellLanes v{s.input + row * s.stride, s.state + row * s.stride, load_some(h, s.columns), set_f32(0.0f)};
    if constexpr (Cell::kHasC) v.c = load_some(c, s.columns);
    const F32 next = Cell::step(v);
    if constexpr (Cell::kHasC) store_f32(c, v.c, s.columns);
    store_f32(h, next, s.columns);
    store_f32(s.y + row * s.y_stride, next, s.columns);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
