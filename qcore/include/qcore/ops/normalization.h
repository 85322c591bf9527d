// Layer, group, instance and batch norms of integers, and means of rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"

namespace qcore {

struct RowStatistics {
  float mean, rate;  // rate: the scale over the deviation of the real values
};

struct RowOfIntegers {
  int64_t n;
  int64_t shift;  // how much less than x what it stands for is
  float scale;
  double eps;
};

inline RowStatistics row_statistics(const Kernels& kernels, const uint8_t* x,
                                    const RowOfIntegers& of) {
  const int64_t n = of.n, shift = of.shift;
  int64_t sum, squares;
  kernels.sums(x, n, &sum, &squares);
  squares += shift * (shift * n - 2 * sum);
  sum -= shift * n;
  const auto count = static_cast<float>(n);
  const float mean = static_cast<float>(sum) / count;
  const float var = std::max(std::fma(-mean, mean, static_cast<float>(squares) / count), 0.0f);
  const double real = static_cast<double>(var * of.scale * of.scale);
  return {mean, static_cast<float>(static_cast<double>(of.scale) / std::sqrt(real + of.eps))};
}

// x and y (rows, groups, channels, inner): each group of each row by its own mean and deviation.
// `each`: a weight and a bias for each of the channels * inner elements (layer norm); else for each
// of the groups * channels. The integers of x are `shift` more than what they stand for, as its
// zero point is.
struct GroupNorm {
  const uint8_t* x;
  uint8_t* y;
  int64_t rows, groups, channels, inner;
  QParams qx;
  int32_t shift;
  const float* weight;
  const float* bias;
  double eps;
  bool each;
  IntegerResult result;

  int64_t length() const { return channels * inner; }
};

inline void normalize_row(const Kernels& kernels, const GroupNorm& of, int64_t row) {
  const int64_t length = of.length();
  const uint8_t* from = of.x + row * length;
  uint8_t* to = of.y + row * length;
  const RowStatistics found =
      row_statistics(kernels, from, {length, of.shift, static_cast<float>(of.qx.scale), of.eps});
  const float center = found.mean - static_cast<float>(of.qx.zero - of.shift);
  if (of.each) {
    return kernels.normalize(from, to, length, {of.qx.zero, center, found.rate, of.result},
                             {of.weight, of.bias});
  }
  const Normalization p{of.qx.zero, center, 1.0f, of.result};
  for (int64_t c = 0; c < of.channels; ++c) {
    const int64_t channel = row % of.groups * of.channels + c;
    const SliceAffine affine{of.weight[channel] * found.rate, of.bias[channel]};
    kernels.normalize_slice(from + c * of.inner, to + c * of.inner, of.inner, p, affine);
  }
}

// `finish(begin, end)` is called for the elements of each part that is done.
template <class Finish>
void run_group_norm(const Kernels& kernels, const GroupNorm& of, int threads,
                    const Finish& finish) {
  const int64_t length = of.length();
  if (length == 0) return;
  parallel_ranges(threads, of.rows * of.groups, kElementwiseGrain / length + 1,
                  [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) normalize_row(kernels, of, row);
    finish(begin * length, end * length);
  });
}

// x and y (rows, channels, inner): fma(factor, x - zero, shift) of each channel, in units of y.
struct BatchNorm {
  const uint8_t* x;
  uint8_t* y;
  int64_t rows, channels, inner;
  int32_t zero;
  const float* factor;
  const float* shift;
  IntegerResult result;
};

template <class Finish>
void run_batch_norm(const Kernels& kernels, const BatchNorm& of, int threads,
                    const Finish& finish) {
  const int64_t inner = of.inner, length = of.channels * inner;
  if (length == 0) return;
  const Normalization p{of.zero, 0.0f, 1.0f, of.result};
  parallel_ranges(threads, of.rows, kElementwiseGrain / length + 1,
                  [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* from = of.x + row * length;
      uint8_t* to = of.y + row * length;
      if (inner == 1) {
        kernels.normalize(from, to, of.channels, p, {of.factor, of.shift});
        continue;
      }
      for (int64_t c = 0; c < of.channels; ++c) {
        kernels.normalize_slice(from + c * inner, to + c * inner, inner, p,
                                {of.factor[c], of.shift[c]});
      }
    }
    finish(begin * length, end * length);
  });
}

// y (rows): the mean of each row of x (rows, n). The integers, and the zero point, are `shift` more
// than what they stand for.
struct RowMeans {
  const uint8_t* x;
  uint8_t* y;
  int64_t rows, n;
  int32_t zero;
  int32_t shift = 0;
};

inline void run_mean_of_rows(const Kernels& kernels, const RowMeans& of, int threads) {
  const int64_t n = of.n;
  const float share = 1.0f / static_cast<float>(n), zero = static_cast<float>(of.zero - of.shift);
  const auto low = static_cast<float>(-of.shift);
  parallel_ranges(threads, of.rows, kElementwiseGrain / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t sum, squares;
      kernels.sums(of.x + row * n, n, &sum, &squares);
      const float mean = std::fma(static_cast<float>(sum - n * of.zero), share, zero);
      of.y[row] = static_cast<uint8_t>(
          static_cast<int32_t>(std::nearbyint(std::clamp(mean, low, low + 255.0f))) + of.shift);
    }
  });
}

}  // namespace qcore
