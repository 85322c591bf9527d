// The cells of recurrent layers: gates of 16 hidden values at a time, the new state in place.
#pragma once

#include <cstdint>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// exp(y) for y in [-87, 0], as `power` * (1 + `part`).
struct Exponential {
  F32 power, part;
};

QCORE_INLINE Exponential exponential(const F32& y) {
  const I32 n = round_i32(mul(y, set_f32(1.4426950408889634f)));
  const F32 whole = to_f32(n);
  const F32 r = sub(sub(y, mul(whole, set_f32(45426.0f / 65536.0f))),
                    mul(whole, set_f32(1.4286068203094173e-06f)));
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

// 16 values of each gate in one row, from the linears of the input and of the state.
struct GateLanes {
  const float* input;
  const float* state;

  QCORE_INLINE F32 of_input(int gate) const { return load_f32(input + gate * kLanes); }
  QCORE_INLINE F32 of_state(int gate) const { return load_f32(state + gate * kLanes); }
  QCORE_INLINE F32 sum(int gate) const { return add(of_state(gate), of_input(gate)); }
};

// A cell does its step in two halves, each for some rows in turn: the chains of operations of
// several rows overlap then.
struct HalfStep {
  F32 a, b;
};

struct LstmCell {
  static constexpr bool kHasC = true;
  static QCORE_INLINE HalfStep begin(const GateLanes& gates, const F32& c) {
    return {add(mul(sigmoid(gates.sum(1)), c), mul(sigmoid(gates.sum(0)), tanh(gates.sum(2)))),
            sigmoid(gates.sum(3))};
  }
  static QCORE_INLINE F32 end(const HalfStep& half, const F32& /*h*/) {
    return mul(half.b, tanh(half.a));
  }
};

struct GruCell {
  static constexpr bool kHasC = false;
  static QCORE_INLINE HalfStep begin(const GateLanes& gates, const F32& /*c*/) {
    return {add(gates.of_input(2), mul(gates.of_state(2), sigmoid(gates.sum(0)))),
            sigmoid(gates.sum(1))};
  }
  static QCORE_INLINE F32 end(const HalfStep& half, const F32& h) {
    const F32 n = tanh(half.a);
    return add(mul(sub(h, n), half.b), n);
  }
};

struct RnnTanhCell {
  static constexpr bool kHasC = false;
  static QCORE_INLINE HalfStep begin(const GateLanes& gates, const F32& c) {
    return {gates.sum(0), c};
  }
  static QCORE_INLINE F32 end(const HalfStep& half, const F32& /*h*/) { return tanh(half.a); }
};

struct RnnReluCell : RnnTanhCell {
  static QCORE_INLINE F32 end(const HalfStep& half, const F32& /*h*/) {
    return max(set_f32(0.0f), half.a);
  }
};

QCORE_INLINE F32 load_some(const float* p, int count) {
  return count >= kLanes ? load_f32(p) : load_f32(some(p, count).v);
}

template <class Cell>
void cell(const CellStep& s) {
  constexpr int64_t kRows = 8;
  HalfStep halves[kRows];
  for (int64_t first = 0; first < s.rows; first += kRows) {
    const int64_t rows = s.rows - first < kRows ? s.rows - first : kRows;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = first + r;
      float* c = s.c + row * s.hidden;
      halves[r] = Cell::begin({s.input + row * s.stride, s.state + row * s.stride},
                              Cell::kHasC ? load_some(c, s.columns) : set_f32(0.0f));
      if constexpr (Cell::kHasC) store_f32(c, halves[r].a, s.columns);
    }
    for (int64_t r = 0; r < rows; ++r) {
      float* h = s.h + (first + r) * s.hidden;
      const F32 next = Cell::end(halves[r], load_some(h, s.columns));
      store_f32(h, next, s.columns);
      store_f32(s.y + (first + r) * s.y_stride, next, s.columns);
    }
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
