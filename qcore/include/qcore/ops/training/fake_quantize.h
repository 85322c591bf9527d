// Drivers of the training side's kernels: ranges of tensors and channels, moving averages and their parameters, fake quantization.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/isa/kernels.h"
#include "qcore/base/thread_pool.h"

namespace qcore {

constexpr int64_t kTrainingGrain = 1 << 15;  // elements; a multiple of 16

// How memory of a dense tensor falls into channels: element i belongs to channel i / inner % channels. One channel: the whole tensor.
struct ChannelLayout {
  int64_t numel = 0, channels = 1, inner = 1;
};

// [0, n) in pieces that begin at multiples of 16.
template <class Work>
void parallel_blocks(int threads, int64_t n, const Work& work) {
  parallel_ranges(threads, (n + kLanes - 1) / kLanes, kTrainingGrain / kLanes,
                  [&](int64_t begin, int64_t end) { work(begin * kLanes, std::min(end * kLanes, n)); });
}

// Lowest and highest of each channel; NaN for both where not all are finite.
class Ranges {
 public:
  Ranges(const Kernels& kernels, const float* x, const ChannelLayout& layout, int threads) : kernels_(kernels) {
    low.assign(static_cast<size_t>(layout.channels), std::numeric_limits<float>::infinity());
    high.assign(low.size(), -std::numeric_limits<float>::infinity());
    if (layout.channels == 1) {
      const int64_t pieces = std::max<int64_t>(layout.numel / kTrainingGrain, 1);
      of_slices(x, pieces, layout.numel, threads, [](int64_t) { return size_t{0}; });
    } else if (layout.inner < 2 * kLanes) {
      of_columns(x, layout, threads);
    } else {
      const int64_t channels = layout.channels;
      of_slices(x, layout.numel / layout.inner, layout.numel, threads, [=](int64_t i) { return static_cast<size_t>(i % channels); });
    }
  }

  bool finite() const {
    return std::none_of(low.begin(), low.end(), [](float v) { return std::isnan(v); });
  }

  std::vector<float> low, high;

 private:
  void join(size_t channel, float lowest, float highest) {
    float &l = low[channel], &h = high[channel];
    if (std::isnan(l)) return;
    l = std::isnan(lowest) || lowest < l ? lowest : l;
    h = std::isnan(highest) || highest > h ? highest : h;
  }

  // `pieces` runs of memory of nearly the same size, each of one channel.
  template <class ChannelOf>
  void of_slices(const float* x, int64_t pieces, int64_t n, int threads, const ChannelOf& channel_of) {
    std::vector<float> lows(static_cast<size_t>(pieces)), highs(lows.size());
    parallel_ranges(threads, pieces, kTrainingGrain * pieces / n + 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = n * i / pieces, end = n * (i + 1) / pieces;
        float &l = lows[static_cast<size_t>(i)], &h = highs[static_cast<size_t>(i)];
        if (!kernels_.range(x + begin, end - begin, &l, &h)) l = h = std::numeric_limits<float>::quiet_NaN();
      }
    });
    for (int64_t i = 0; i < pieces; ++i) join(channel_of(i), lows[static_cast<size_t>(i)], highs[static_cast<size_t>(i)]);
  }

  // Rows of all channels, with the few neighbours in memory that each channel has.
  void of_columns(const float* x, const ChannelLayout& layout, int threads) {
    const int64_t columns = layout.channels * layout.inner, rows = layout.numel / columns;
    const int64_t pieces = std::clamp<int64_t>(layout.numel / kTrainingGrain, 1, std::min<int64_t>(rows, int64_t{threads} * 4));
    std::vector<float> lows(static_cast<size_t>(pieces * columns)), highs(lows.size());
    parallel(threads, pieces, [&](int64_t i) {
      const int64_t begin = rows * i / pieces, end = rows * (i + 1) / pieces;
      kernels_.column_ranges(x + begin * columns, end - begin, columns, lows.data() + i * columns, highs.data() + i * columns);
    });
    for (int64_t i = 0; i < pieces * columns; ++i) {
      join(static_cast<size_t>(i % columns / layout.inner), lows[static_cast<size_t>(i)], highs[static_cast<size_t>(i)]);
    }
  }

  const Kernels& kernels_;
};

struct IntegerRange {
  int32_t low, high;
};

// Scale and zero point of each channel in the form of the kernel.
class FakeQuantizeParameters {
 public:
  FakeQuantizeParameters(const float* scales, const int32_t* zeros, const ChannelLayout& layout, IntegerRange range) : layout_(layout) {
    const bool expand = layout.channels > 1 && layout.inner < kLanes;
    if (expand) layout_.channels *= layout.inner, layout_.inner = 1;
    const int64_t repeated = expand ? kLanes : 0, each = expand ? layout.inner : 1;
    for (auto* values : {&inverse_, &scale_, &low_, &high_}) values->reserve(static_cast<size_t>(layout_.channels + repeated));
    for (int64_t i = 0; i < layout_.channels + repeated; ++i) {
      const auto c = static_cast<size_t>(i / each % layout.channels);
      inverse_.push_back(1.0f / scales[c]);
      scale_.push_back(scales[c]);
      low_.push_back(static_cast<float>(int64_t{range.low} - zeros[c]));
      high_.push_back(static_cast<float>(int64_t{range.high} - zeros[c]));
    }
    if (layout.channels == 1) layout_.inner = std::max<int64_t>(layout.numel, kLanes);  // of 1, the kernel would read 16 channels
  }

  // From the end to the beginning: what was read for the range just before is still in the cache there.
  void run(const Kernels& kernels, const float* x, float* y, uint16_t* inside, int threads) const {
    const FakeQuantizeChannels channels{inverse_.data(), scale_.data(), low_.data(), high_.data(), layout_.channels, layout_.inner};
    const int64_t blocks = (layout_.numel + kTrainingGrain - 1) / kTrainingGrain;
    parallel_ranges(threads, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = (blocks - 1 - i) * kTrainingGrain;
        kernels.fake_quantize(x, y, inside, begin, std::min(begin + kTrainingGrain, layout_.numel), channels);
      }
    });
  }

 private:
  ChannelLayout layout_;
  std::vector<float> inverse_, scale_, low_, high_;
};

struct ChosenParameters {
  float scale;
  int32_t zero;
};

// By the rule of dynamic quantization (docs/numerics.md), for any range of integers; symmetric: with as many steps on both sides of 0.
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
  if (static_cast<float>(scale) == 0.0f || std::isinf(1.0f / static_cast<float>(scale))) scale = 0.1;
  if (scale < kSmallScale) {
    const float growth = kSmallScale / static_cast<float>(scale), widest = kSmallScale * static_cast<float>(steps);
    const float grown_low = low == 0.0f ? 0.0f : high == 0.0f ? -widest : low * growth;
    high = low == 0.0f ? widest : high == 0.0f ? 0.0f : high * growth;
    low = grown_low;
    scale = kSmallScale;
  }
  const double below = low / scale, above = high / scale;
  double zero = std::fabs(range.low) + std::fabs(below) < std::fabs(range.high) + std::fabs(above) ? range.low - below : range.high - above;
  if (both_sides) zero = (static_cast<double>(range.low) + range.high) / 2;
  zero = std::nearbyint(std::clamp(zero, static_cast<double>(range.low), static_cast<double>(range.high)));
  return {static_cast<float>(scale), static_cast<int32_t>(zero)};
}

// By the rule of observers (docs/numerics.md): scales of `eps` or more; symmetric ranges have the zero point `middle`.
inline ChosenParameters choose_observed(float low, float high, IntegerRange range, bool symmetric, float eps, int32_t middle) {
  const auto steps = static_cast<float>(range.high - range.low);
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  if (symmetric) return {std::max(std::max(-low, high) / (steps / 2.0f), eps), middle};
  const float scale = std::max((high - low) / steps, eps);
  const float zero = static_cast<float>(range.low) - std::nearbyint(low / scale);
  return {scale, static_cast<int32_t>(std::clamp(zero, static_cast<float>(range.low), static_cast<float>(range.high)))};
}

// Counts of bins; lowest and highest. False where not all are finite.
inline bool count_bins(const Kernels& kernels, const float* x, int64_t n, const HistogramBins& bins, int64_t count, int64_t* counts, float* low,
                       float* high, int threads) {
  constexpr int64_t kTables = 2;
  const int64_t least = (n >> 31) + 1;  // so that no counter overflows
  const int64_t pieces = std::clamp(n / (kTrainingGrain * 8), least, std::max(least, threads > 1 ? int64_t{threads} * 2 : 1));
  std::vector<uint32_t> tables(static_cast<size_t>(pieces * kTables * count));
  std::vector<float> lows(static_cast<size_t>(pieces)), highs(lows.size());
  std::vector<uint8_t> finite(lows.size());
  parallel(threads, pieces, [&](int64_t i) {
    const int64_t begin = n * i / pieces, end = n * (i + 1) / pieces;
    const auto p = static_cast<size_t>(i);
    finite[p] = kernels.histogram(x + begin, end - begin, bins, tables.data() + i * kTables * count, count, &lows[p], &highs[p]);
  });
  for (int64_t table = 0; table < pieces * kTables; ++table) {
    for (int64_t bin = 0; bin < count; ++bin) counts[bin] += tables[static_cast<size_t>(table * count + bin)];
  }
  *low = *std::min_element(lows.begin(), lows.end());
  *high = *std::max_element(highs.begin(), highs.end());
  return std::all_of(finite.begin(), finite.end(), [](uint8_t ok) { return ok != 0; });
}

}  // namespace qcore
