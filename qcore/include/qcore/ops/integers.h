// The float32 steps between scales and kernels (docs/numerics.md), in code that no instruction set
// changes.
#pragma once

#include <cstdint>

#include "qcore/base/qparams.h"
#include "qcore/isa/elements.h"

namespace qcore {

// The integers of a dtype.
struct IntegerBounds {
  int32_t low, high;
};

inline QuantizeParameters quantize_parameters(QParams q, int32_t low, int32_t high,
                                              bool fused = true) {
  return {inverse(q.scale), static_cast<float>(q.zero), static_cast<float>(low),
          static_cast<float>(high), fused};
}

// A quint8 result; relu raises the lower bound to the zero point.
inline IntegerResult integer_result(QParams q, float multiplier, bool relu) {
  return {multiplier, q.zero, static_cast<float>(relu ? 0 : -q.zero),
          static_cast<float>(255 - q.zero)};
}

// int8 numbers as uint8 ones, 128 more, and back.
inline void turn_signs(const uint8_t* from, uint8_t* to, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) to[i] = from[i] ^ 0x80;
}

inline Operand operand(QParams q) { return {static_cast<float>(q.scale), q.zero}; }

}  // namespace qcore
