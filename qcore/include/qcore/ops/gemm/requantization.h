// What becomes of the sums of a matrix product: parameters of each column for one pair of input and
// output.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "qcore/base/qparams.h"
#include "qcore/isa/gemm.h"
#include "qcore/ops/gemm/packed_weights.h"

namespace qcore {

// Requantization parameters per column for one pair of input and output QParams; kept, since a
// model's hardly change.
struct Requantization {
  QParams x, y;
  std::vector<int32_t> offset;
  std::vector<float> bias;
  std::vector<float> multiplier;
  float bias_scale = 1.0f;
  bool bounded = true;

  Requantization(const PackedWeights& w, QParams x_, QParams y_) : x(x_), y(y_) {
    const auto size = w.scales.size();
    offset.resize(size);
    bias.resize(size);
    multiplier.resize(size);
    for (size_t c = 0; c < size; ++c) {
      const float scale = static_cast<float>(x.scale) * w.scales[c];
      offset[c] = static_cast<int32_t>(0u - static_cast<uint32_t>(w.row_zero(x.zero)) *
                                                static_cast<uint32_t>(w.column_sums[c]));
      bias[c] = w.has_bias && w.per_channel ? w.bias[c] / scale : w.bias[c];
      multiplier[c] = scale / static_cast<float>(y.scale);
    }
    // Per channel the bias is divided by the scale; per tensor it is multiplied by its inverse, in
    // one rounding with the sum.
    if (w.has_bias && !w.per_channel) {
      bias_scale = 1.0f / (static_cast<float>(x.scale) * w.scales[0]);
    }
    constexpr double kMostSum = 2147483648.0;
    for (size_t c = 0; c < size; ++c) {
      const double most =
          (kMostSum + std::abs(static_cast<double>(bias[c]) * bias_scale)) * multiplier[c];
      if (static_cast<int64_t>(c) % w.padded_n < w.n) bounded = bounded && most < kMostSum / 2;
    }
  }

  RequantizedOutput output(const PackedWeights& w, uint8_t* data, int64_t stride, bool relu) const {
    return {data,
            stride,
            offset.data(),
            bias.data(),
            multiplier.data(),
            w.has_zeros ? w.zeros.data() : nullptr,
            bias_scale,
            static_cast<float>(relu ? 0 : -y.zero),
            static_cast<float>(255 - y.zero),
            y.zero,
            {},
            nullptr,
            bounded};
  }
};

class RequantizationCache {
 public:
  std::shared_ptr<const Requantization> get(const PackedWeights& w, QParams x, QParams y) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!last_ || last_->x.scale != x.scale || last_->x.zero != x.zero ||
        last_->y.scale != y.scale || last_->y.zero != y.zero) {
      last_ = std::make_shared<const Requantization>(w, x, y);
    }
    return last_;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const Requantization> last_;
};

}  // namespace qcore
