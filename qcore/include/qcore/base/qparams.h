// Scale and zero point, and how dynamic quantization chooses them (docs/numerics.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace qcore {

struct QParams {
  double scale;
  int32_t zero;
};

inline float inverse(double scale) { return 1.0f / static_cast<float>(scale); }

// Scale and zero point for a range of floats, 0 included, as dynamic quantization chooses them.
inline QParams choose_qparams(float low, float high, int32_t qmax) {
  constexpr float kSmallScale = 6.1e-5f;
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  double scale = (static_cast<double>(high) - low) / qmax;
  if (static_cast<float>(scale) == 0.0f || std::isinf(1.0f / static_cast<float>(scale))) {
    scale = 0.1;
  }
  if (scale < kSmallScale) {
    const float original = static_cast<float>(scale);
    scale = kSmallScale;
    if (low == 0.0f) {
      high = kSmallScale * static_cast<float>(qmax);
    } else if (high == 0.0f) {
      low = -kSmallScale * static_cast<float>(qmax);
    } else {
      const float stretch = kSmallScale / original;
      low *= stretch;
      high *= stretch;
    }
  }
  // The end of the range with the smaller rounding error sets the zero point.
  const double from_low = -low / scale, from_high = qmax - high / scale;
  const double zero = from_low < qmax + high / scale ? from_low : from_high;
  return {scale,
          static_cast<int32_t>(std::nearbyint(std::clamp(zero, 0.0, static_cast<double>(qmax))))};
}

}  // namespace qcore
