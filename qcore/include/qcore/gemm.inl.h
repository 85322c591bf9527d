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

QCORE_INLINE I32 subtract_weight_zero(const I32& acc, const GemmInput& in, const int32_t* weight_zero, int64_t row, int64_t column) {
  return add(acc, mul(load_i32(weight_zero + column), set_i32(-in.sums[row])));
}

QCORE_INLINE I32 requantize_lanes(const I32& acc, const RequantizedOutput& out, int64_t column) {
  const F32 sum = add(to_f32(add(acc, load_i32(out.offset + column))), load_f32(out.bias + column));
  return round_clamped(mul(sum, load_f32(out.multiplier + column)), out.low, out.high, out.zero);
}

QCORE_INLINE void finish(I32 acc, const GemmInput& in, const RequantizedOutput& out, int64_t row, int64_t column, int64_t output, int count) {
  if (out.weight_zero) acc = subtract_weight_zero(acc, in, out.weight_zero, row, column);
  store_bytes(out.y + row * out.stride + output, requantize_lanes(acc, out, column), count);
}

QCORE_INLINE void finish(I32 acc, const GemmInput& in, const FloatOutput& out, int64_t row, int64_t column, int64_t output, int count) {
  if (out.weight_zero) acc = subtract_weight_zero(acc, in, out.weight_zero, row, column);
  acc = add(acc, mul(load_i32(out.column_sum + column), set_i32(-out.row_zero[row])));
  const F32 scale = mul(set_f32(out.row_scale[row]), load_f32(out.weight_scale + column));
  F32 y = fma(to_f32(acc), scale, load_f32(out.bias + column));
  if (out.relu) y = max(set_f32(0.0f), y);
  store_f32(out.y + row * out.stride + output, y, count);
}

// R rows x U units, all of K in registers.
template <int R, int U, class Output>
__attribute__((noinline)) void tile(const GemmInput& in, const GemmPanel& panel, const Output& out, int64_t row, int unit) {
  I32 acc[R][U];
  const uint8_t* x[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    x[r] = in.x + (row + r) * in.stride;
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) acc[r][u] = set_i32(0);
  }
  const int8_t* w = panel.w + unit * kUnit;
  const int64_t step = int64_t{panel.units} * kUnit;
  const int64_t k_end = in.groups * kGroup;
  for (int64_t k = 0; k < k_end; k += kGroup) {
    Weights weights[U];
#pragma GCC unroll 16
    for (int u = 0; u < U; ++u) weights[u] = load_weights(w + u * kUnit);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Same4 values = load_same4(x[r] + k);
#pragma GCC unroll 16
      for (int u = 0; u < U; ++u) acc[r][u] = dot(acc[r][u], values, weights[u]);
    }
    w += step;
  }
#pragma GCC unroll 16
  for (int u = 0; u < U; ++u) {
    const int first = (unit + u) * kLanes;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      finish(acc[r][u], in, out, row + r, panel.column + first, panel.output + first, panel.columns - first);
    }
  }
}

template <int R, int U, class Output>
void tile_of(int rows, const GemmInput& in, const GemmPanel& panel, const Output& out, int64_t row, int unit) {
  if (rows == R) return tile<R, U>(in, panel, out, row, unit);
  if constexpr (R > 1) tile_of<R - 1, U>(rows, in, panel, out, row, unit);
}

// All rows against U units of a panel, in tiles of nearly equal height.
template <int U, class Output>
void rows_of(const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  const int64_t tiles = (in.rows + kRows - 1) / kRows;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = in.rows * t / tiles;
    tile_of<kRows, U>(static_cast<int>(in.rows * (t + 1) / tiles - row), in, panel, out, row, unit);
  }
}

template <int U, class Output>
void units_of(int units, const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  if (units == U) return rows_of<U>(in, panel, out, unit);
  if constexpr (U > 1) units_of<U - 1>(units, in, panel, out, unit);
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
