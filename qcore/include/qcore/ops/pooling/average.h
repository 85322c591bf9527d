// Averages of windows, with their rounding (docs/numerics.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "qcore/isa/kernels.h"
#include "qcore/ops/pooling/windows.h"
#include "qcore/ops/windows.h"

namespace qcore {

// The elements of one window that count along one dimension: with padding, but not what ceil_mode
// adds beyond it, or without.
inline int64_t counted(const Windows& v, size_t d, int64_t start, bool include_pad) {
  const int64_t stop = std::min(start + v.kernel[d], v.in[d] + v.padding[d]);
  if (include_pad) return stop - start;
  return std::min(stop, v.in[d]) - std::max(start, int64_t{0});
}

// How the sum of a window becomes an average, but for the sum: as in AverageParameters.
struct Averaging {
  int32_t zero;
  bool fused;
  int32_t shift = 0;
};

// As the kernel does it, for sums beyond int32.
inline void average_many(const WindowRows& w, float multiplier, const Averaging& a) {
  const auto zero = static_cast<float>(a.zero - a.shift), low = static_cast<float>(-a.shift),
             high = low + 255.0f;
  for (int64_t c = 0; c < w.channels; ++c) {
    int64_t sum = -w.count * a.zero;
    for (int64_t r = 0; r < w.count; ++r) sum += w.rows[r][c];
    const auto total = static_cast<float>(sum);
    const float fused = std::nearbyint(std::clamp(std::fma(total, multiplier, zero), low, high));
    const float apart =
        std::nearbyint(std::clamp(total * multiplier, low - zero, high - zero)) + zero;
    w.y[c] = static_cast<uint8_t>(static_cast<int32_t>(a.fused ? fused : apart) + a.shift);
  }
}

// `divisor`: what the sum of the rows is divided by.
inline void average(const Kernels& kernels, const WindowRows& w, float divisor,
                    const Averaging& a) {
  constexpr int64_t kMostRows = (int64_t{1} << 31) / 256;
  const float multiplier = 1.0f / divisor;
  if (w.count > kMostRows) return average_many(w, multiplier, a);
  const auto offset = static_cast<int32_t>(-w.count * a.zero);
  kernels.average(w, {offset, multiplier, a.zero - a.shift, a.fused, a.shift});
}

// What averages are of: x and y have their channels last; the integers, and the zero point, are
// `shift` more than what they stand for.
struct AveragePool {
  const Windows& windows;
  const uint8_t* x;
  uint8_t* y;
  int32_t zero;
  int32_t shift = 0;
};

// `divisor`: of all sums; 0: the elements of each window, with its padding or without.
inline void run_avg_pool(const Kernels& kernels, const AveragePool& pool, bool include_pad,
                         int64_t divisor, int threads) {
  const Windows& v = pool.windows;
  const auto finish = [&](const uint8_t* const* rows, int64_t count, uint8_t* to,
                          const Windows::Place& place) {
    double n = 1.0;  // the product of three sizes may be beyond int64
    for (size_t d = 0; d < 3; ++d) {
      n *= static_cast<double>(counted(v, d, place.start[d], include_pad));
    }
    const float by = divisor == 0 ? static_cast<float>(n) : static_cast<float>(divisor);
    average(kernels, {rows, count, to, v.channels}, by, {pool.zero, false, pool.shift});
  };
  each_window(v, pool.x, pool.y, threads, finish);
}

inline void run_adaptive_avg_pool(const Kernels& kernels, const AveragePool& pool, int threads) {
  const auto finish = [&](const uint8_t* const* rows, int64_t count, uint8_t* to) {
    average(kernels, {rows, count, to, pool.windows.channels}, static_cast<float>(count),
            {pool.zero, true, pool.shift});
  };
  each_adaptive_window(pool.windows, pool.x, pool.y, threads, finish);
}

}  // namespace qcore
