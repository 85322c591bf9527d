// Matrix multiplication, u8 x s8 -> exact int32, with its epilogue in registers. Included once per ISA, after its vocabulary.

#include "qcore/kernels.h"

namespace qcore::QCORE_ISA {
namespace {

// `count` lanes of the result (16 but for the last columns).
QCORE_INLINE void store_bytes(uint8_t* p, const I32& v, int count) {
  if (count >= kLanes) return store_bytes(p, v);
  uint8_t all[kLanes];
  store_bytes(all, v);
  std::memcpy(p, all, static_cast<size_t>(count));
}

QCORE_INLINE void store_f32(float* p, const F32& v, int count) {
  if (count >= kLanes) return store_f32(p, v);
  float all[kLanes];
  store_f32(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(float));
}

// Bounds are integers, so clamping first and rounding then is the same as the reverse, and never overflows. NaN becomes `high`.
QCORE_INLINE I32 round_clamped(const F32& v, float low, float high, int32_t zero) {
  return add(round_i32(max(min(v, set_f32(high)), set_f32(low))), set_i32(zero));
}

// What the epilogue needs for 16 columns, loaded once for all rows of a tile.
struct RequantizedColumns {
  I32 offset;
  F32 bias, multiplier;
};

struct FloatColumns {
  I32 column_sum;
  F32 weight_scale, bias;
};

QCORE_INLINE RequantizedColumns load_columns(const RequantizedOutput& out, int64_t column) {
  return {load_i32(out.offset + column), load_f32(out.bias + column), load_f32(out.multiplier + column)};
}

QCORE_INLINE FloatColumns load_columns(const FloatOutput& out, int64_t column) {
  return {load_i32(out.column_sum + column), load_f32(out.weight_scale + column), load_f32(out.bias + column)};
}

QCORE_INLINE I32 result(const I32& acc, const RequantizedOutput& out, const RequantizedColumns& c, int64_t /*row*/) {
  const F32 sum = fma(c.bias, set_f32(out.bias_scale), to_f32(add(acc, c.offset)));
  return round_clamped(mul(sum, c.multiplier), out.low, out.high, out.zero);
}

QCORE_INLINE F32 result(const I32& acc, const FloatOutput& out, const FloatColumns& c, int64_t row) {
  const I32 centered = add(acc, mul(c.column_sum, set_i32(-out.row_zero[row])));
  const F32 y = fma(to_f32(centered), mul(set_f32(out.row_scale[row]), c.weight_scale), c.bias);
  return out.relu ? max(set_f32(0.0f), y) : y;
}

QCORE_INLINE void store(uint8_t* p, const I32& v, int count) { store_bytes(p, v, count); }
QCORE_INLINE void store(float* p, const F32& v, int count) { store_f32(p, v, count); }
QCORE_INLINE void store4(uint8_t* p, const I32& a, const I32& b, const I32& c, const I32& d) { store_bytes4(p, a, b, c, d); }
QCORE_INLINE void store4(float* p, const F32& a, const F32& b, const F32& c, const F32& d) {
  store_f32(p, a);
  store_f32(p + kLanes, b);
  store_f32(p + 2 * kLanes, c);
  store_f32(p + 3 * kLanes, d);
}

// Sums of one tile, [row][unit], on their way from the registers to the epilogue. Kept apart from it, so that the registers of the
// inner loop are not spilled for its sake.
struct Tile {
  I32 sums[kMaxTileSums];
};

// R rows x U units, all of K in registers.
template <int R, int U>
__attribute__((noinline)) void accumulate(const GemmInput& in, const GemmPanel& panel, int64_t row, int unit, Tile& tile) {
  I32 acc[R][U];
  const uint8_t* x[R];
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    x[r.value] = in.x + (row + r.value) * in.stride;
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = set_i32(0); });
  });
  const int8_t* w = panel.w + unit * kUnit;
  const int64_t step = int64_t{panel.units} * kUnit;
  const int64_t k_end = in.groups * kGroup;
  for (int64_t k = 0; k < k_end; k += kGroup) {
    Weights weights[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { weights[u.value] = load_weights(w + u.value * kUnit); });
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      const Same4 values = load_same4(x[r.value] + k);
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = dot(acc[r.value][u.value], values, weights[u.value]); });
    });
    w += step;
  }
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { tile.sums[r.value * U + u.value] = acc[r.value][u.value]; });
  });
}

template <int R, int U>
void accumulate_rows(int rows, const GemmInput& in, const GemmPanel& panel, int64_t row, int unit, Tile& tile) {
  if (rows == R) return accumulate<R, U>(in, panel, row, unit, tile);
  if constexpr (R > 1) accumulate_rows<R - 1, U>(rows, in, panel, row, unit, tile);
}

inline void subtract_weight_zeros(Tile& tile, const GemmInput& in, const int32_t* weight_zero, int64_t row, int rows, int units) {
  for (int i = 0; i < rows * units; ++i) {
    tile.sums[i] = add(tile.sums[i], mul(load_i32(weight_zero + i % units * kLanes), set_i32(-in.sums[row + i / units])));
  }
}

template <int U, class Output>
QCORE_INLINE void finish(const Tile& tile, const GemmPanel& panel, const Output& output, int64_t row, int rows, int unit) {
  const Output out = output;  // a copy that stores of bytes cannot alias
  const int first = unit * kLanes;
  auto* y = out.y + row * out.stride + panel.output + first;
  if constexpr (U == 4) {
    if (panel.columns - first >= 4 * kLanes) {
      const auto c0 = load_columns(out, panel.column + first), c1 = load_columns(out, panel.column + first + kLanes);
      const auto c2 = load_columns(out, panel.column + first + 2 * kLanes), c3 = load_columns(out, panel.column + first + 3 * kLanes);
      for (int r = 0; r < rows; ++r, y += out.stride) {
        const I32* sums = tile.sums + r * 4;
        store4(y, result(sums[0], out, c0, row + r), result(sums[1], out, c1, row + r), result(sums[2], out, c2, row + r),
               result(sums[3], out, c3, row + r));
      }
      return;
    }
  }
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    const int lane = u.value * kLanes, count = panel.columns - first - lane;
    const auto columns = load_columns(out, panel.column + first + lane);
    for (int r = 0; r < rows; ++r) {
      store(y + r * out.stride + lane, result(tile.sums[r * U + u.value], out, columns, row + r), count);
    }
  });
}

// All rows against U units of a panel, in tiles of nearly equal height.
template <int U, class Output>
void rows_of(const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  static_assert(kRows * U <= kMaxTileSums);
  const int64_t tiles = (in.rows + kRows - 1) / kRows;
  Tile tile;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = in.rows * t / tiles;
    const int rows = static_cast<int>(in.rows * (t + 1) / tiles - row);
    accumulate_rows<kRows, U>(rows, in, panel, row, unit, tile);
    if (out.weight_zero) subtract_weight_zeros(tile, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
    finish<U>(tile, panel, out, row, rows, unit);
  }
}

template <int U, class Output>
void units_of(int units, const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  if (units == U) return rows_of<U>(in, panel, out, unit);
  if constexpr (U > 1) units_of<U - 1>(units, in, panel, out, unit);
}

int64_t peak(int64_t rounds) {
  constexpr int kSums = tile_rows(kTileUnits) * kTileUnits;
  I32 acc[kSums];
  unroll<kSums>([&](auto i) QCORE_INLINE_LAMBDA { acc[i.value] = set_i32(i.value); });
  const uint8_t x[kGroup] = {1, 2, 3, 4};
  const int8_t w[kUnit] = {1, -2, 3};
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : : "r"(x), "r"(w) : "memory");  // as if they had changed
    const Same4 values = load_same4(x);
    const Weights weights = load_weights(w);
    unroll<kSums>([&](auto i) QCORE_INLINE_LAMBDA { acc[i.value] = dot(acc[i.value], values, weights); });
  }
  Tile tile;
  unroll<kSums>([&](auto i) QCORE_INLINE_LAMBDA { tile.sums[i.value] = acc[i.value]; });
  asm volatile("" : : "r"(&tile) : "memory");
  return rounds * kSums;
}

template <class Output>
void gemm(const GemmInput& in, const GemmPanel& panel, const Output& out) {
  for (int unit = 0; unit < panel.units; unit += kTileUnits) {
    const int left = panel.units - unit;
    units_of<kTileUnits>(left < kTileUnits ? left : kTileUnits, in, panel, out, unit);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
