// Fake quantization, and moving averages that choose its parameters.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/training/channels.h"
#include "qcore/ops/training/choose.h"
#include "qcore/ops/training/ranges.h"

namespace qcore {

// Scale and zero point of each channel in the form of the kernel.
class FakeQuantizeParameters {
 public:
  FakeQuantizeParameters(const float* scales, const int32_t* zeros, const ChannelLayout& layout,
                         IntegerRange range)
      : layout_(layout) {
    const bool expand = layout.channels > 1 && layout.inner < kLanes;
    if (expand) {
      layout_.channels *= layout.inner;
      layout_.inner = 1;
    }
    const int64_t repeated = expand ? kLanes : 0, each = expand ? layout.inner : 1;
    for (auto* values : {&inverse_, &scale_, &low_, &high_}) {
      values->reserve(static_cast<size_t>(layout_.channels + repeated));
    }
    for (int64_t i = 0; i < layout_.channels + repeated; ++i) {
      const auto c = static_cast<size_t>(i / each % layout.channels);
      inverse_.push_back(1.0f / scales[c]);
      scale_.push_back(scales[c]);
      low_.push_back(static_cast<float>(int64_t{range.low} - zeros[c]));
      high_.push_back(static_cast<float>(int64_t{range.high} - zeros[c]));
    }
    if (layout.channels == 1) {
      layout_.inner =
          std::max<int64_t>(layout.numel, kLanes);  // of 1, the kernel would read 16 channels
    }
  }

  // From the end to the beginning: what was read for the range just before is still in the cache
  // there.
  void run(const Kernels& kernels, const float* x, float* y, uint16_t* inside, int threads) const {
    const FakeQuantizeChannels channels{inverse_.data(), scale_.data(),    low_.data(),
                                        high_.data(),    layout_.channels, layout_.inner};
    const int64_t blocks = (layout_.numel + kTrainingGrain - 1) / kTrainingGrain;
    parallel_ranges(threads, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = (blocks - 1 - i) * kTrainingGrain;
        kernels.fake_quantize({x, y, begin, std::min(begin + kTrainingGrain, layout_.numel)},
                              inside, channels);
      }
    });
  }

 private:
  ChannelLayout layout_;
  std::vector<float> inverse_, scale_, low_, high_;
};

inline void run_keep_inside(const Kernels& kernels, const float* x, float* y, int64_t n,
                            const uint16_t* inside, int threads) {
  parallel_blocks(threads, n, [&](int64_t begin, int64_t end) {
    kernels.keep_inside({x, y, begin, end}, inside);
  });
}

// How parameters are chosen from a range: by the rule of observers where there is a least scale,
// else by that of dynamic quantization.
struct ParameterRule {
  IntegerRange range;
  bool symmetric;
  std::optional<float> least_scale;
  int32_t middle;  // the zero point of symmetric ranges, by the rule of observers

  ChosenParameters choose(float low, float high) const {
    if (least_scale) return choose_observed(low, high, range, symmetric, *least_scale, middle);
    return choose_qparams(low, high, range, symmetric);
  }
};

// What an observer keeps of each channel.
struct Observed {
  float* low;
  float* high;
  float* scale;
  int32_t* zero;
};

// Moves the averages by the range of x, and chooses parameters from them; `constant`: the weight of
// the new range. False, and nothing changed, where x holds NaN or infinity.
inline bool run_observe(const Ranges& found, float constant, const ParameterRule& rule,
                        const Observed& to) {
  if (!found.finite()) return false;
  for (size_t c = 0; c < found.low.size(); ++c) {
    float &low = to.low[c], &high = to.high[c];
    const bool first = !std::isfinite(low);
    low = first ? found.low[c] : low + constant * (found.low[c] - low);
    high = first ? found.high[c] : high + constant * (found.high[c] - high);
    const ChosenParameters chosen = rule.choose(low, high);
    to.scale[c] = chosen.scale;
    to.zero[c] = chosen.zero;
  }
  return true;
}

}  // namespace qcore
