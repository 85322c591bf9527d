// What the kernels on elements of integers are given.
#pragma once

#include <cstdint>

namespace qcore {

// A result in integers: clamp(rint(value * multiplier), low, high) + zero.
struct IntegerResult {
  float multiplier;
  int32_t zero;
  float low, high;
};

struct Operand {
  float scale;
  int32_t zero;
  bool is_signed = false;  // the integers are int8
};

// Two tensors, element by element: y = sum or product of what a and b mean.
struct BinaryElements {
  const uint8_t* a;
  const uint8_t* b;
  uint8_t* y;
  int64_t n;
  Operand qa, qb;
  IntegerResult result;

  // From element `begin` on, up to `end`.
  BinaryElements part(int64_t begin, int64_t end) const {
    return {a + begin, b + begin, y + begin, end - begin, qa, qb, result};
  }
};

// clamp(rint(fma(x, inverse_scale, zero)), low, high), or, per channel, the product and the sum
// rounded one by one.
struct QuantizeParameters {
  float inverse_scale;
  float zero;
  float low, high;
  bool fused;
};

// How a sum of integers becomes an average: (sum + offset) * multiplier; the zero point joins by
// fma, or after rounding. The integers are `shift` more than what they stand for, which `zero` is
// as well.
struct AverageParameters {
  int32_t offset;
  float multiplier;
  int32_t zero;
  bool fused;
  int32_t shift = 0;
};

// The rows of one window, `channels` bytes of each, and where the result of them goes.
struct WindowRows {
  const uint8_t* const* rows;
  int64_t count;
  uint8_t* y;
  int64_t channels;
};

// A row normalized: rint(fma((x - zero - center) * factor, weight, bias) * result.multiplier), as
// IntegerResult says.
struct Normalization {
  int32_t zero;
  float center, factor;
  IntegerResult result;
};

// What a normalized row is multiplied by and moved by: each element by its own.
struct ElementAffine {
  const float* weight;
  const float* bias;
};

// The same for all elements of a slice.
struct SliceAffine {
  float weight, bias;
};

// Rows of `dim` integers, `stride` bytes apart, with scale and offset of each; nibbles: as
// load_nibbles takes them, whole vectors.
struct Table {
  const uint8_t* rows;
  int64_t stride;
  const float* parameters;
  int64_t count, dim;
  bool nibbles;
};

// Bags of rows, one bag after the other: y (bags, dim) = the sums of fma(p * scale, row, ... + p *
// offset), p: `weights`, or 1 (null).
struct Bags {
  const int64_t* rows;
  int64_t entries;
  const float* weights;
  const int64_t* counts;  // of entries, one for each bag
  const float* divisors;  // of the sums; null: none
  int64_t bags;
  float* y;
};

}  // namespace qcore
