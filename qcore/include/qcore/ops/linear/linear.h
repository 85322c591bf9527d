// Linear layers: static (integers in, integers out) and dynamic (floats in, floats out).
#pragma once

#include <cstdint>
#include <cstring>

#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/linear/dynamic.h"

namespace qcore {

struct StaticLinearJob {
  const Kernels& kernels;
  const PackedWeights& w;
  const uint8_t* x;
  RequantizedOutput out;

  bool at_hand() const { return w.row_bytes() == w.k && reads_rows(kernels, w); }

  GemmInput rows(int64_t first, int64_t count, int64_t, Scratch& scratch) const {
    const uint8_t* from = x + first * w.k;
    const int64_t stride = w.row_bytes();
    if (stride == w.k) return gemm_input(kernels, w, from, stride, count, scratch);
    uint8_t* packed = packed_rows(w, count, scratch);
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(packed + r * stride, from + r * w.k, static_cast<size_t>(w.k));
      pad_row(w, packed + r * stride);
    }
    return gemm_input(kernels, w, packed, stride, count, scratch);
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first, Scratch&) const {
    multiply_rows(kernels, input, panel, out.from_row(first));
  }
};

// What a linear is made of: weights (n, k).
struct LinearWeights {
  const int8_t* data;
  int64_t n, k;
  const WeightQuantization& quantization;
  const float* bias;  // null: none
  bool relu;
};

class Linear {
 public:
  Linear(const Kernels& kernels, const LinearWeights& from) : kernels_(kernels), relu_(from.relu) {
    check_accumulated(from.n > 0 ? from.k : 0);
    const auto at = [&](int64_t, int64_t c, int64_t i) { return from.data[c * from.k + i]; };
    packed_.pack(kernels.layout, {1, from.n, from.k, from.quantization, from.bias}, at);
  }

  void run(const uint8_t* x, int64_t rows, const RequantizedOutput& out, int threads) const {
    run_gemm(packed_, rows, threads, StaticLinearJob{kernels_, packed_, x, out});
  }

  // Raises ArgumentError where not all of x is finite.
  void run_dynamic(const float* x, int64_t rows, float* y, RangeRule rule, int threads) const {
    QParams tensor{};
    if (!rule.per_row) {
      const auto [low, high] = range_of(kernels_, x, rows * packed_.k, threads);
      tensor = choose_qparams(low, high, rule.qmax);
    }
    const DynamicLinearJob job{
        kernels_, packed_, x, y, relu_, rule.qmax, rule.per_row ? nullptr : &tensor};
    run_gemm(packed_, rows, threads, job);
  }

  const Kernels& kernels() const { return kernels_; }
  const PackedWeights& packed() const { return packed_; }
  bool relu() const { return relu_; }

 private:
  const Kernels& kernels_;
  PackedWeights packed_;
  bool relu_;
};

}  // namespace qcore
