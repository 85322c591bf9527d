// Bilinear interpolation: first along a row, then between two rows.
#pragma once

#include <cstdint>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// y[pixel] = before * x[first] + after * x[second], `unit` values to a pixel.
template <class T>
void blend_pixels_of(const T* x, const PixelBlend& blend) {
  const Neighbours& at = blend.at;
  const int64_t unit = blend.unit;
  for (int64_t p = 0; p < blend.pixels; ++p) {
    const T *a = x + at.first[p] * unit, *b = x + at.second[p] * unit;
    const float before = at.before[p], after = at.after[p];
    float* to = blend.y + p * unit;
    const auto lanes = [&](const T* u, const T* v) QCORE_INLINE_LAMBDA {
      return add(mul(set_f32(before), to_f32(load_bytes(u))),
                 mul(set_f32(after), to_f32(load_bytes(v))));
    };
    int64_t i = 0;
    for (; i + kLanes <= unit; i += kLanes) store_f32(to + i, lanes(a + i, b + i));
    for (; i < unit; ++i) {
      to[i] = before * static_cast<float>(a[i]) + after * static_cast<float>(b[i]);
    }
  }
}

void blend_pixels(const PixelBlend& blend) {
  if (blend.is_signed) return blend_pixels_of(reinterpret_cast<const int8_t*>(blend.x), blend);
  blend_pixels_of(blend.x, blend);
}

void blend_rows(const RowBlend& given) {
  const RowBlend r = given;  // a copy that stores of bytes cannot alias
  const auto lanes = [&](const F32& u, const F32& v) QCORE_INLINE_LAMBDA {
    const F32 value = add(mul(set_f32(r.above), u), mul(set_f32(r.below), v));
    return round_clamped(add(add(value, set_f32(-r.zero)), set_f32(r.zero)), r.low, r.low + 255.0f,
                         static_cast<int32_t>(-r.low));
  };
  int64_t i = 0;
  for (; i + kLanes <= r.n; i += kLanes) {
    store_bytes(r.y + i, lanes(load_f32(r.a + i), load_f32(r.b + i)));
  }
  if (i == r.n) return;
  const int64_t left = r.n - i;
  store_bytes(r.y + i, lanes(load_f32(some(r.a + i, left).v), load_f32(some(r.b + i, left).v)),
              static_cast<int>(left));
}

}  // namespace
}  // namespace qcore::QCORE_ISA
