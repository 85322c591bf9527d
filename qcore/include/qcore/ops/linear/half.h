// float16 weights of a linear in the layout of the kernels, and the job that multiplies with them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/base/sizes.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"

namespace qcore {

// A matrix of `n` columns and `k` rows; a missing bias is not added.
struct PackedHalf {
  int64_t groups = 1, n = 0, k = 0;
  Buffer<uint16_t> data;
  std::vector<HalfPanel> panels;
  std::vector<float> bias;  // padded to whole panels; empty: none

  int64_t row_bytes() const { return k * static_cast<int64_t>(sizeof(float)); }
  int64_t row_bytes_in_use() const { return row_bytes(); }

  // `at(column, row)` reads a weight.
  template <class At>
  void pack(int64_t n_, int64_t k_, const At& at, const float* bias_,
            int64_t panel_units = kMaxPanelUnits) {
    n = n_;
    k = k_;
    const int64_t units = round_up(n, kLanes) / kLanes;
    const int64_t size = units * kLanes * k;
    std::memset(data.reserve(size), 0, static_cast<size_t>(size) * sizeof(uint16_t));
    if (bias_) {
      bias.assign(static_cast<size_t>(units * kLanes), 0.0f);
      std::copy(bias_, bias_ + n, bias.begin());
    }
    uint16_t* out = data.data();
    for (int64_t unit = 0; unit < units; unit += panel_units) {
      const int64_t width = std::min(panel_units, units - unit), column = unit * kLanes;
      const int64_t columns = std::min(width * kLanes, n - column);
      panels.push_back(
          {out, static_cast<int32_t>(width), static_cast<int32_t>(columns), column, column, 0});
      for (int64_t i = 0; i < k; ++i, out += width * kLanes) {
        for (int64_t c = 0; c < columns; ++c) out[c] = at(column + c, i);
      }
    }
  }
};

struct HalfLinearJob {
  const Kernels& kernels;
  const PackedHalf& w;
  const float* x;
  float* y;
  bool relu;

  bool at_hand() const { return true; }

  HalfInput rows(int64_t first, int64_t count, int64_t, Scratch&) const {
    return {x + first * w.k, w.k, count, w.k};
  }

  void multiply(const HalfInput& input, const HalfPanel& panel, int64_t first,
                Scratch& scratch) const {
    multiply_to(y + first * w.n, w.n, input, panel, scratch);
  }

  void multiply_to(float* to, int64_t stride, const HalfInput& input, const HalfPanel& panel,
                   Scratch&) const {
    kernels.gemm_half(input, panel, {to, stride, w.bias.empty() ? nullptr : w.bias.data(), relu});
  }
};

// What a linear with float16 weights is made of: weights (n, k), as their bits.
struct HalfWeights {
  const uint16_t* data;
  int64_t n, k;
  const float* bias;  // null: none
  bool relu;
};

// A linear with float16 weights.
class HalfLinear {
 public:
  HalfLinear(const Kernels& kernels, const HalfWeights& from)
      : kernels_(kernels), relu_(from.relu) {
    packed_.pack(from.n, from.k, [&](int64_t c, int64_t i) { return from.data[c * from.k + i]; },
                 from.bias);
  }

  void run(const float* x, int64_t rows, float* y, int threads) const {
    run_gemm(packed_, rows, threads, HalfLinearJob{kernels_, packed_, x, y, relu_});
  }

  const PackedHalf& packed() const { return packed_; }

 private:
  const Kernels& kernels_;
  PackedHalf packed_;
  bool relu_;
};

}  // namespace qcore
