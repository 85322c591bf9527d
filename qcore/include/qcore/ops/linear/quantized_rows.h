// Linears of rows that were quantized before, each row or all of them by its range.
#pragma once

#include <cstdint>

#include "qcore/base/extent.h"
#include "qcore/base/sizes.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"

namespace qcore {

// Quantized rows in memory: bytes as the GEMM takes them, then a scale and a zero point of each
// row.
struct QuantizedRows {
  int64_t rows, stride;

  int64_t scales_at() const { return round_up(rows * stride, 64); }
  int64_t zeros_at() const { return scales_at() + rows * 4; }
  Extent extent() const {
    Extent bytes;
    bytes.rank = 1;
    bytes.size[0] = zeros_at() + rows * 4;
    return contiguous_like(bytes);
  }
};

struct QuantizedRowsJob {
  const Kernels& kernels;
  const PackedWeights& w;
  const uint8_t* x;
  QuantizedRows quantized;
  float* y;
  bool relu;

  bool at_hand() const { return reads_rows(kernels, w); }

  GemmInput rows(int64_t first, int64_t count, int64_t, Scratch& scratch) const {
    return gemm_input(kernels, w, x + first * quantized.stride, quantized.stride, count, scratch);
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first, Scratch&) const {
    const auto* scales = reinterpret_cast<const float*>(x + quantized.scales_at());
    const auto* zeros = reinterpret_cast<const int32_t*>(x + quantized.zeros_at());
    multiply_rows(
        kernels, input, panel,
        FloatOutput{y + first * w.n, w.n, scales + first, zeros + first, w.column_sums.data(),
                    w.scales.data(), w.bias.data(), w.has_zeros ? w.zeros.data() : nullptr, relu});
  }
};

}  // namespace qcore
