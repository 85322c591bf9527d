// Linear layers of floats: rows are quantized by their own range while they are packed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/integers.h"

namespace qcore {

// How the input of a linear is quantized: to 0..qmax, by the range of all of it or of each row.
struct RangeRule {
  int32_t qmax;
  bool per_row;
};

constexpr const char* kNotFinite =
    "x holds NaN or infinity; dynamic quantization needs finite values";

struct DynamicLinearJob {
  const Kernels& kernels;
  const PackedWeights& w;
  const float* x;
  float* y;
  bool relu;
  int32_t qmax;
  const QParams* tensor;  // of all of x; null: each row has its own

  bool at_hand() const { return false; }

  GemmInput rows(int64_t first, int64_t count, int64_t, Scratch& scratch) const {
    const int64_t stride = w.row_bytes();
    uint8_t* packed = packed_rows(w, count, scratch);
    float* scales = scratch.scales.reserve(count);
    int32_t* zeros = scratch.zeros.reserve(count);
    for (int64_t r = 0; r < count; ++r) {
      const float* row = x + (first + r) * w.k;
      const QParams q = tensor ? *tensor : row_qparams(row);
      scales[r] = static_cast<float>(q.scale);
      zeros[r] = w.row_zero(q.zero);
      kernels.quantize(row, packed + r * stride, w.k, quantize_parameters(q, 0, 255));
      pad_row(w, packed + r * stride);
    }
    return gemm_input(kernels, w, packed, stride, count, scratch);
  }

  QParams row_qparams(const float* row) const {
    float low, high;
    if (!kernels.range(row, w.k, &low, &high)) throw ArgumentError(kNotFinite);
    return choose_qparams(low, high, qmax);
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first,
                Scratch& scratch) const {
    multiply_to(y + first * w.n, w.n, input, panel, scratch);
  }

  void multiply_to(float* to, int64_t stride, const GemmInput& input, const GemmPanel& panel,
                   Scratch& scratch) const {
    multiply_rows(
        kernels, input, panel,
        FloatOutput{to, stride, scratch.scales.data(), scratch.zeros.data(), w.column_sums.data(),
                    w.scales.data(), w.bias.data(), w.has_zeros ? w.zeros.data() : nullptr, relu});
  }
};

// Lowest and highest of n floats. Raises ArgumentError where not all are finite.
inline std::pair<float, float> range_of(const Kernels& kernels, const float* x, int64_t n,
                                        int threads) {
  constexpr int64_t kGrain = 1 << 15;
  const int64_t pieces = std::max<int64_t>(n / kGrain, 1);
  std::vector<float> low(static_cast<size_t>(pieces)), high(static_cast<size_t>(pieces));
  parallel(threads, pieces, [&](int64_t i) {
    const int64_t begin = n * i / pieces;
    const bool finite = kernels.range(x + begin, n * (i + 1) / pieces - begin,
                                      &low[static_cast<size_t>(i)], &high[static_cast<size_t>(i)]);
    if (!finite) throw ArgumentError(kNotFinite);
  });
  return {*std::min_element(low.begin(), low.end()), *std::max_element(high.begin(), high.end())};
}

}  // namespace qcore
