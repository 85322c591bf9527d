// The float32 steps between scales and kernels (docs/numerics.md), in code that no instruction set changes.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <vector>

#include "qcore/ops/gemm/packed_weights.h"

namespace qcore {

struct QParams {
  double scale;
  int32_t zero;
};

inline float inverse(double scale) { return 1.0f / static_cast<float>(scale); }

inline QuantizeParameters quantize_parameters(QParams q, int32_t low, int32_t high, bool fused = true) {
  return {inverse(q.scale), static_cast<float>(q.zero), static_cast<float>(low), static_cast<float>(high), fused};
}

// A quint8 result; relu raises the lower bound to the zero point.
inline IntegerResult integer_result(QParams q, float multiplier, bool relu) {
  return {multiplier, q.zero, static_cast<float>(relu ? 0 : -q.zero), static_cast<float>(255 - q.zero)};
}

inline Operand operand(QParams q) { return {static_cast<float>(q.scale), q.zero}; }

// Requantization parameters per column for one pair of input and output QParams; kept, since a model's hardly change.
struct Requantization {
  QParams x, y;
  std::vector<int32_t> offset;
  std::vector<float> bias;
  std::vector<float> multiplier;
  float bias_scale = 1.0f;
  bool bounded = true;

  Requantization(const PackedWeights& w, QParams x_, QParams y_) : x(x_), y(y_) {
    const auto size = w.scales.size();
    offset.resize(size), bias.resize(size), multiplier.resize(size);
    for (size_t c = 0; c < size; ++c) {
      const float scale = static_cast<float>(x.scale) * w.scales[c];
      offset[c] = static_cast<int32_t>(0u - static_cast<uint32_t>(w.row_zero(x.zero)) * static_cast<uint32_t>(w.column_sums[c]));
      bias[c] = w.has_bias && w.per_channel ? w.bias[c] / scale : w.bias[c];
      multiplier[c] = scale / static_cast<float>(y.scale);
    }
    // Per channel the bias is divided by the scale; per tensor it is multiplied by its inverse, in one rounding with the sum.
    if (w.has_bias && !w.per_channel) bias_scale = 1.0f / (static_cast<float>(x.scale) * w.scales[0]);
    constexpr double kMostSum = 2147483648.0;
    for (size_t c = 0; c < size; ++c) {
      const double most = (kMostSum + std::abs(static_cast<double>(bias[c]) * bias_scale)) * multiplier[c];
      if (static_cast<int64_t>(c) % w.padded_n < w.n) bounded = bounded && most < kMostSum / 2;
    }
  }

  RequantizedOutput output(const PackedWeights& w, uint8_t* data, int64_t stride, bool relu) const {
    return {data, stride, offset.data(), bias.data(), multiplier.data(), w.has_zeros ? w.zeros.data() : nullptr, bias_scale,
            static_cast<float>(relu ? 0 : -y.zero), static_cast<float>(255 - y.zero), y.zero, {}, nullptr, bounded};
  }
};

class RequantizationCache {
 public:
  std::shared_ptr<const Requantization> get(const PackedWeights& w, QParams x, QParams y) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!last_ || last_->x.scale != x.scale || last_->x.zero != x.zero || last_->y.scale != y.scale || last_->y.zero != y.zero) {
      last_ = std::make_shared<const Requantization>(w, x, y);
    }
    return last_;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const Requantization> last_;
};

// Scale and zero point for a range of floats, 0 included, as dynamic quantization chooses them.
inline QParams choose_qparams(float low, float high, int32_t qmax) {
  constexpr float kSmallScale = 6.1e-5f;
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  double scale = (static_cast<double>(high) - low) / qmax;
  if (static_cast<float>(scale) == 0.0f || std::isinf(1.0f / static_cast<float>(scale))) scale = 0.1;
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
  return {scale, static_cast<int32_t>(std::nearbyint(std::clamp(zero, 0.0, static_cast<double>(qmax))))};
}

}  // namespace qcore
