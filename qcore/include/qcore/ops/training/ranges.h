// Lowest and highest of tensors and channels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/training/channels.h"

namespace qcore {

// Lowest and highest of each channel; NaN for both where not all are finite.
class Ranges {
 public:
  Ranges(const Kernels& kernels, const float* x, const ChannelLayout& layout, int threads)
      : kernels_(kernels) {
    low.assign(static_cast<size_t>(layout.channels), std::numeric_limits<float>::infinity());
    high.assign(low.size(), -std::numeric_limits<float>::infinity());
    if (layout.channels == 1) {
      const int64_t pieces = std::max<int64_t>(layout.numel / kTrainingGrain, 1);
      of_slices(x, pieces, layout.numel, threads, [](int64_t) { return size_t{0}; });
    } else if (layout.inner < 2 * kLanes) {
      of_columns(x, layout, threads);
    } else {
      const int64_t channels = layout.channels;
      of_slices(x, layout.numel / layout.inner, layout.numel, threads,
                [=](int64_t i) { return static_cast<size_t>(i % channels); });
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
  void of_slices(const float* x, int64_t pieces, int64_t n, int threads,
                 const ChannelOf& channel_of) {
    std::vector<float> lows(static_cast<size_t>(pieces)), highs(lows.size());
    parallel_ranges(threads, pieces, kTrainingGrain * pieces / n + 1,
                    [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t begin = n * i / pieces, end = n * (i + 1) / pieces;
        float &l = lows[static_cast<size_t>(i)], &h = highs[static_cast<size_t>(i)];
        if (!kernels_.range(x + begin, end - begin, &l, &h)) {
          l = h = std::numeric_limits<float>::quiet_NaN();
        }
      }
    });
    for (int64_t i = 0; i < pieces; ++i) {
      join(channel_of(i), lows[static_cast<size_t>(i)], highs[static_cast<size_t>(i)]);
    }
  }

  // Rows of all channels, with the few neighbours in memory that each channel has.
  void of_columns(const float* x, const ChannelLayout& layout, int threads) {
    const int64_t columns = layout.channels * layout.inner, rows = layout.numel / columns;
    const int64_t pieces = std::clamp<int64_t>(layout.numel / kTrainingGrain, 1,
                                               std::min<int64_t>(rows, int64_t{threads} * 4));
    std::vector<float> lows(static_cast<size_t>(pieces * columns)), highs(lows.size());
    parallel(threads, pieces, [&](int64_t i) {
      const int64_t begin = rows * i / pieces, end = rows * (i + 1) / pieces;
      kernels_.column_ranges(x + begin * columns, end - begin, columns, lows.data() + i * columns,
                             highs.data() + i * columns);
    });
    for (int64_t i = 0; i < pieces * columns; ++i) {
      join(static_cast<size_t>(i % columns / layout.inner), lows[static_cast<size_t>(i)],
           highs[static_cast<size_t>(i)]);
    }
  }

  const Kernels& kernels_;
};

}  // namespace qcore
