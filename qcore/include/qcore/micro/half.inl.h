// Matrix multiplication of floats with float16 weights: each output is one chain of fma along K.
#pragma once

#include <cstdint>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// R rows x U units, all of K in registers.
template <int R, int U>
__attribute__((noinline)) void accumulate_half(const HalfInput& in, const HalfPanel& panel,
                                               const HalfOutput& out, int64_t row, int unit) {
  F32 acc[R][U];
  const float* x[R];
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    x[r.value] = in.x + (row + r.value) * in.stride;
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = set_f32(0.0f); });
  });
  const uint16_t* w = panel.w + unit * kLanes;
  for (int64_t k = 0; k < in.k; ++k) {
    F32 weights[U];
    unroll<U>([&](auto u)
                  QCORE_INLINE_LAMBDA { weights[u.value] = load_f16(w + u.value * kLanes); });
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      const F32 value = set_f32(x[r.value][k]);
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        acc[r.value][u.value] = fma(value, weights[u.value], acc[r.value][u.value]);
      });
    });
    w += int64_t{panel.units} * kLanes;
  }
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    const int lane = (unit + u.value) * kLanes;
    float* y = out.y + row * out.stride + panel.output + lane;
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      F32 sum = acc[r.value][u.value];
      if (out.bias) sum = add(sum, load_f32(out.bias + panel.column + lane));
      if (out.relu) sum = max(set_f32(0.0f), sum);
      store_f32(y + r.value * out.stride, sum, panel.columns - lane);
    });
  });
}

template <int R, int U>
void accumulate_half_rows(int rows, const HalfInput& in, const HalfPanel& panel,
                          const HalfOutput& out, int64_t row, int unit) {
  if (rows == R) return accumulate_half<R, U>(in, panel, out, row, unit);
  if constexpr (R > 1) accumulate_half_rows<R - 1, U>(rows, in, panel, out, row, unit);
}

template <int R, int U>
void half_units(int units, const HalfInput& in, const HalfPanel& panel, const HalfOutput& out,
                int unit) {
  if (units == U) {
    const int64_t tiles = (in.rows + R - 1) / R;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = in.rows * t / tiles;
      accumulate_half_rows<R, U>(static_cast<int>(in.rows * (t + 1) / tiles - row), in, panel, out,
                                 row, unit);
    }
  } else if constexpr (U > 1) {
    half_units<R, U - 1>(units, in, panel, out, unit);
  }
}

template <int R, int U>
void half_tiles(const HalfInput& in, const HalfPanel& panel, const HalfOutput& out) {
  for (int unit = 0; unit < panel.units; unit += U) {
    half_units<R, U>(panel.units - unit < U ? panel.units - unit : U, in, panel, out, unit);
  }
}

// A single row needs wide tiles, for enough sums to hide the latency of fma.
void gemm_half(const HalfInput& in, const HalfPanel& panel, const HalfOutput& out) {
  if (in.rows < 3) return half_tiles<1, kMaxPanelUnits>(in, panel, out);
  half_tiles<tile_rows(kTileUnits), kTileUnits>(in, panel, out);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
