// Operators on floats: functions of one variable, sums, layer norm.
#pragma once

#include <cstdint>

#include "qcore/micro/gates.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// x / 2 + x * E, with E = erf(x / sqrt(2)) / 2 by a polynomial in the square of x, which is 1/2
// from 5.3125 on.
QCORE_INLINE F32 gelu(const F32& x) {
  constexpr float kSeries[] = {
      0.00023917188809718937f, -0.0007452345453202724f, 0.0009131931001320481f,
      -0.0012460981961339712f, 0.0030146341305226088f,  -0.005806355737149715f,
      0.009029680863022804f,   -0.013360345736145973f,  0.018993405625224113f,
      -0.02534095011651516f,   0.03209158033132553f,    -0.03954532369971275f,
      0.04916849732398987f,    -0.0663677379488945f,    0.13307952880859375f};
  const F32 c = max(min(x, set_f32(5.3125f)), set_f32(-5.3125f));
  const F32 v = fma(mul(c, c), set_f32(0.07086505f), set_f32(-1.0f));
  F32 series = set_f32(kSeries[0]);
  for (int i = 1; i < 15; ++i) series = fma(series, v, set_f32(kSeries[i]));
  const F32 e = max(min(mul(c, series), set_f32(0.5f)), set_f32(-0.5f));
  return fma(x, e, mul(x, set_f32(0.5f)));
}

// x / 2 + x / 2 * tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))
QCORE_INLINE F32 gelu_tanh(const F32& x) {
  const F32 half = mul(x, set_f32(0.5f));
  return fma(half, tanh(mul(x, fma(mul(x, x), set_f32(0.035677407f), set_f32(0.7978846f)))), half);
}

QCORE_INLINE F32 relu(const F32& x) { return max(set_f32(0.0f), x); }
QCORE_INLINE F32 silu(const F32& x) { return mul(x, sigmoid(x)); }

template <class Function>
QCORE_INLINE void each(const float* x, float* y, int64_t n, const Function& function) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f32(y + i, function(load_f32(x + i)));
  if (i < n) store_f32(y + i, function(load_f32(some(x + i, n - i).v)), static_cast<int>(n - i));
}

void float_function(const float* x, float* y, int64_t n, FloatFunction function) {
  switch (function) {
    case FloatFunction::gelu:
      return each(x, y, n, [](const F32& v) QCORE_INLINE_LAMBDA { return gelu(v); });
    case FloatFunction::gelu_tanh:
      return each(x, y, n, [](const F32& v) QCORE_INLINE_LAMBDA { return gelu_tanh(v); });
    case FloatFunction::relu:
      return each(x, y, n, [](const F32& v) QCORE_INLINE_LAMBDA { return relu(v); });
    case FloatFunction::sigmoid:
      return each(x, y, n, [](const F32& v) QCORE_INLINE_LAMBDA { return sigmoid(v); });
    case FloatFunction::silu:
      return each(x, y, n, [](const F32& v) QCORE_INLINE_LAMBDA { return silu(v); });
    case FloatFunction::tanh:
      return each(x, y, n, [](const F32& v) QCORE_INLINE_LAMBDA { return tanh(v); });
  }
}

void float_add(const float* a, const float* b, float* y, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f32(y + i, add(load_f32(a + i), load_f32(b + i)));
  if (i < n) {
    store_f32(y + i, add(load_f32(some(a + i, n - i).v), load_f32(some(b + i, n - i).v)),
              static_cast<int>(n - i));
  }
}

// The sum of take(total, i, count) over all blocks of 16, in four totals by turns, which are joined
// in a fixed order.
template <class Take>
QCORE_INLINE float float_sum(int64_t n, const Take& take) {
  F32 totals[4] = {set_f32(0.0f), set_f32(0.0f), set_f32(0.0f), set_f32(0.0f)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) totals[j] = take(totals[j], i + j * kLanes, kLanes);
  }
  for (int j = 0; i < n; i += kLanes, ++j) {
    totals[j] = take(totals[j], i, n - i < kLanes ? n - i : kLanes);
  }
  Lanes<float> lanes;
  store_f32(lanes.v, add(add(totals[0], totals[1]), add(totals[2], totals[3])));
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lanes.v[j] += lanes.v[j + width];
  }
  return lanes.v[0];
}

// Where a row is short of 16, the lanes behind it hold `filler`.
QCORE_INLINE F32 load_filled(const float* p, int64_t count, float filler) {
  if (count >= kLanes) return load_f32(p);
  Lanes<float> lanes = some(p, count);
  for (int64_t j = count; j < kLanes; ++j) lanes.v[j] = filler;
  return load_f32(lanes.v);
}

void float_layer_norm(const FloatNormRow& row) {
  const float *x = row.x, *other = row.other, *weight = row.weight, *bias = row.bias;
  float* y = row.y;
  const int64_t n = row.n;
  const auto count = static_cast<float>(n);
  const float sum =
      float_sum(n, [&](const F32& total, int64_t i, int64_t some) QCORE_INLINE_LAMBDA {
    F32 v = load_filled(x + i, some, 0.0f);
    if (other) {
      v = add(v, load_filled(other + i, some, 0.0f));
      store_f32(y + i, v, static_cast<int>(some));
    }
    return add(total, v);
  });
  const float mean = sum / count;
  if (other) x = y;
  const F32 center = set_f32(mean);
  const float squares =
      float_sum(n, [&](const F32& total, int64_t i, int64_t some) QCORE_INLINE_LAMBDA {
    const F32 d = sub(load_filled(x + i, some, mean), center);
    return fma(d, d, total);
  });
  const F32 rate = set_f32(1.0f / __builtin_sqrtf(squares / count + row.eps));
  const auto at = [&](const float* p, const float* w, const float* b) QCORE_INLINE_LAMBDA {
    return fma(mul(sub(load_f32(p), center), rate), load_f32(w), load_f32(b));
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f32(y + i, at(x + i, weight + i, bias + i));
  if (i < n) {
    store_f32(y + i, at(some(x + i, n - i).v, some(weight + i, n - i).v, some(bias + i, n - i).v),
              static_cast<int>(n - i));
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
