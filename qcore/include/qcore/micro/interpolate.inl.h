// Bilinear interpolation: first along a row, then between two rows.
#pragma once

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// y[pixel] = before * x[first] + after * x[second], `unit` values to a pixel.
template <class T>
void blend_pixels_of(const T* x, float* y, const Neighbours& at, int64_t pixels, int64_t unit) {
  for (int64_t p = 0; p < pixels; ++p) {
    const T *a = x + at.first[p] * unit, *b = x + at.second[p] * unit;
    const float before = at.before[p], after = at.after[p];
    float* to = y + p * unit;
    const auto lanes = [&](const T* u, const T* v) QCORE_INLINE_LAMBDA {
      return add(mul(set_f32(before), to_f32(load_bytes(u))), mul(set_f32(after), to_f32(load_bytes(v))));
    };
    int64_t i = 0;
    for (; i + kLanes <= unit; i += kLanes) store_f32(to + i, lanes(a + i, b + i));
    for (; i < unit; ++i) to[i] = before * static_cast<float>(a[i]) + after * static_cast<float>(b[i]);
  }
}

void blend_pixels(const uint8_t* x, bool is_signed, float* y, const Neighbours& at, int64_t pixels, int64_t unit) {
  is_signed ? blend_pixels_of(reinterpret_cast<const int8_t*>(x), y, at, pixels, unit) : blend_pixels_of(x, y, at, pixels, unit);
}

// y = rint((v - zero) + zero) - low, v = above * a + below * b.
void blend_rows(const float* a, const float* b, uint8_t* y, int64_t n, float above, float below, float zero, float low) {
  const auto lanes = [&](const F32& u, const F32& v) QCORE_INLINE_LAMBDA {
    const F32 value = add(mul(set_f32(above), u), mul(set_f32(below), v));
    return round_clamped(add(add(value, set_f32(-zero)), set_f32(zero)), low, low + 255.0f, static_cast<int32_t>(-low));
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bytes(y + i, lanes(load_f32(a + i), load_f32(b + i)));
  if (i < n) store_bytes(y + i, lanes(load_f32(some(a + i, n - i).v), load_f32(some(b + i, n - i).v)), static_cast<int>(n - i));
}

}  // namespace
}  // namespace qcore::QCORE_ISA
