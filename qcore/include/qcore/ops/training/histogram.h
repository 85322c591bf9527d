// Histograms of floats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/training/channels.h"

namespace qcore {

// `count` counters, which are added to, and lowest and highest of what was counted.
struct BinCounts {
  int64_t count;
  int64_t* counts;
  float low = 0.0f, high = 0.0f;
};

// False where not all are finite.
inline bool count_bins(const Kernels& kernels, const float* x, int64_t n, const HistogramBins& bins,
                       BinCounts& to, int threads) {
  const int64_t count = to.count;
  constexpr int64_t kTables = 2;
  const int64_t least = (n >> 31) + 1;  // so that no counter overflows
  const int64_t pieces = std::clamp(n / (kTrainingGrain * 8), least,
                                    std::max(least, threads > 1 ? int64_t{threads} * 2 : 1));
  std::vector<uint32_t> tables(static_cast<size_t>(pieces * kTables * count));
  std::vector<float> lows(static_cast<size_t>(pieces)), highs(lows.size());
  std::vector<uint8_t> finite(lows.size());
  parallel(threads, pieces, [&](int64_t i) {
    const int64_t begin = n * i / pieces, end = n * (i + 1) / pieces;
    const auto p = static_cast<size_t>(i);
    const HistogramResult result{tables.data() + i * kTables * count, count, &lows[p], &highs[p]};
    finite[p] = kernels.histogram(x + begin, end - begin, bins, result);
  });
  for (int64_t table = 0; table < pieces * kTables; ++table) {
    for (int64_t bin = 0; bin < count; ++bin) {
      to.counts[bin] += tables[static_cast<size_t>(table * count + bin)];
    }
  }
  to.low = *std::min_element(lows.begin(), lows.end());
  to.high = *std::max_element(highs.begin(), highs.end());
  return std::all_of(finite.begin(), finite.end(), [](uint8_t ok) { return ok != 0; });
}

}  // namespace qcore
