// Scale and zero point for a range of floats, for any range of integers (docs/numerics.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace qcore {

struct IntegerRange {
  int32_t low, high;
};

struct ChosenParameters {
  float scale;
  int32_t zero;
};

// By the rule of dynamic quantization (docs/numerics.md), for any range of integers; symmetric:
// with as many steps on both sides of 0.
inline ChosenParameters choose_qparams(float low, float high, IntegerRange range, bool symmetric) {
  constexpr float kSmallScale = 6.1e-5f;
  const int32_t steps = range.high - range.low;
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  const bool both_sides = symmetric && low < 0.0f && high > 0.0f;
  if (both_sides) {
    const auto below = static_cast<float>(-(steps / 2 + 1)), above = static_cast<float>(steps / 2);
    const float step = std::max(std::fabs(low / below), std::fabs(high / above));
    low = step * below;
    high = step * above;
  }
  double scale = (static_cast<double>(high) - low) / steps;
  if (static_cast<float>(scale) == 0.0f || std::isinf(1.0f / static_cast<float>(scale))) {
    scale = 0.1;
  }
  if (scale < kSmallScale) {
    const float growth = kSmallScale / static_cast<float>(scale),
                widest = kSmallScale * static_cast<float>(steps);
    const float grown_low = low == 0.0f ? 0.0f : high == 0.0f ? -widest : low * growth;
    high = low == 0.0f ? widest : high == 0.0f ? 0.0f : high * growth;
    low = grown_low;
    scale = kSmallScale;
  }
  const double below = low / scale, above = high / scale;
  double zero = std::fabs(range.low) + std::fabs(below) < std::fabs(range.high) + std::fabs(above)
                    ? range.low - below
                    : range.high - above;
  if (both_sides) zero = (static_cast<double>(range.low) + range.high) / 2;
  zero = std::nearbyint(
      std::clamp(zero, static_cast<double>(range.low), static_cast<double>(range.high)));
  return {static_cast<float>(scale), static_cast<int32_t>(zero)};
}

// By the rule of observers (docs/numerics.md): scales of `eps` or more; symmetric ranges have the
// zero point `middle`.
inline ChosenParameters choose_observed(float low, float high, IntegerRange range, bool symmetric,
                                        float eps, int32_t middle) {
  const auto steps = static_cast<float>(range.high - range.low);
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  if (symmetric) return {std::max(std::max(-low, high) / (steps / 2.0f), eps), middle};
  const float scale = std::max((high - low) / steps, eps);
  const float zero = static_cast<float>(range.low) - std::nearbyint(low / scale);
  return {scale, static_cast<int32_t>(std::clamp(zero, static_cast<float>(range.low),
                                                 static_cast<float>(range.high)))};
}

}  // namespace qcore
