// Rows of integers: their sums, and normalization by them.
#pragma once

#include <cstdint>

#include "qcore/micro/elementwise.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// The sum of n integers and that of their squares, exact.
void sums(const uint8_t* x, int64_t n, int64_t* sum, int64_t* squares) {
  constexpr int64_t kSafe =
      32768 * kLanes;  // so many squares of 255, divided among the lanes, fit in int32
  *sum = *squares = 0;
  for (int64_t begin = 0; begin < n; begin += kSafe) {
    const int64_t end = n - begin < kSafe ? n : begin + kSafe;
    I32 total = set_i32(0), square = set_i32(0);
    for (int64_t i = begin; i < end; i += kLanes) {
      const I32 v = load_some_bytes(x + i, end - i);
      total = add(total, v);
      square = add(square, mul(v, v));
    }
    alignas(64) int32_t totals[kLanes], each[kLanes];
    store_i32(totals, total);
    store_i32(each, square);
    for (int lane = 0; lane < kLanes; ++lane) {
      *sum += totals[lane];
      *squares += each[lane];
    }
  }
}

QCORE_INLINE I32 normalized_lanes(const I32& x, const Normalization& p, const F32& weight,
                                  const F32& bias) {
  const F32 distance = add(to_f32(add(x, set_i32(-p.zero))), set_f32(-p.center));
  return result_lanes(fma(mul(distance, set_f32(p.factor)), weight, bias), p.result);
}

// With a weight and a bias for each integer.
void normalize(const uint8_t* x, uint8_t* y, int64_t n, const Normalization& parameters,
               const ElementAffine& affine) {
  const float *weight = affine.weight, *bias = affine.bias;
  const Normalization p = parameters;  // a copy that stores of bytes cannot alias
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store_bytes(y + i,
                normalized_lanes(load_bytes(x + i), p, load_f32(weight + i), load_f32(bias + i)));
  }
  if (i == n) return;
  const int64_t left = n - i;
  const I32 v =
      normalized_lanes(load_bytes(some(x + i, left).v), p, load_f32(some(weight + i, left).v),
                       load_f32(some(bias + i, left).v));
  store_bytes(y + i, v, static_cast<int>(left));
}

// With one weight and bias for all.
void normalize_slice(const uint8_t* x, uint8_t* y, int64_t n, const Normalization& parameters,
                     const SliceAffine& affine) {
  const Normalization p = parameters;
  const F32 w = set_f32(affine.weight), b = set_f32(affine.bias);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store_bytes(y + i, normalized_lanes(load_bytes(x + i), p, w, b));
  }
  if (i < n) {
    store_bytes(y + i, normalized_lanes(load_bytes(some(x + i, n - i).v), p, w, b),
                static_cast<int>(n - i));
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
