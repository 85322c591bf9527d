// Arithmetic on sizes that anyone may have given: what no memory holds is an error, long before a
// product of int64 numbers overflows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "qcore/base/error.h"

namespace qcore {

// Elements of a tensor. Room is left above for bytes of each, for rounding up, and for a share of
// threads.
constexpr int64_t kMostElements = int64_t{1} << 48;

// a * b of numbers that are not negative. Raises ArgumentError where that is more than memory
// holds.
inline int64_t checked_product(int64_t a, int64_t b) {
  int64_t product = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) || product > kMostElements) {
    throw ArgumentError("its sizes make more elements than memory holds");
  }
  return product;
}

// The product of numbers that are not negative, or the greatest number: to compare with, never to
// address by.
inline int64_t saturated_product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  bool over = false;
  for (const int64_t factor : factors) {
    over = __builtin_mul_overflow(product, factor, &product) || over;
  }
  const bool zero = std::find(factors.begin(), factors.end(), 0) != factors.end();
  return zero ? 0 : over ? std::numeric_limits<int64_t>::max() : product;
}

// n, up to the next multiple.
inline int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// a / b, rounded up; a is not negative, b is positive.
inline int64_t divided_up(int64_t a, int64_t b) { return a / b + (a % b != 0); }

}  // namespace qcore
