// Chains of operators on rows of floats, which go over each row once: a sum, a norm, a function,
// and quantization for dynamic linears.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/integers.h"
#include "qcore/ops/linear/dynamic.h"
#include "qcore/ops/linear/quantized_rows.h"
#include "qcore/ops/scratch.h"

namespace qcore {

// How rows are quantized for dynamic linears of k inputs.
struct RowQuantization {
  const PackedWeights* weights;  // of one of the linears: all of one k take the same rows
  RangeRule rule;
};

struct RowNorm {
  const float* weight;
  const float* bias;
  int64_t length;
  std::vector<int64_t> shape;
  float eps;
};

// What a chain does to each row, in this order.
struct FloatChain {
  bool add = false;  // a second input
  std::optional<RowNorm> norm;
  std::optional<FloatFunction> function;
  std::optional<RowQuantization> quantization;
  bool kept = true;  // whether the floats are a result, rather than the quantized rows alone

  bool by_rows() const { return norm || quantization; }
  bool changes() const { return add || norm || function; }
  // Whether the floats are in memory: also where they wait for the range of all rows.
  bool stored() const { return kept || (changes() && quantization && !quantization->rule.per_row); }

  // The floats of n elements: `y`, or x where nothing changes it.
  const float* run(const Kernels& kernels, const float* x, const float* other, float* y,
                   int64_t n) const {
    if (norm) {
      kernels.float_layer_norm(
          {x, add ? other : nullptr, y, n, norm->weight, norm->bias, norm->eps});
      x = y;
    } else if (add) {
      kernels.float_add(x, other, y, n);
      x = y;
    }
    if (!function) return x;
    kernels.float_function(x, y, n, *function);
    return y;
  }
};

// A call of a chain that has a norm or quantizes: rows of n floats.
struct ChainCall {
  const float* x;
  const float* other;  // what is added, if anything is
  float* y;            // null where the floats are not stored
  uint8_t* packed;     // the quantized rows, where they are
  QuantizedRows quantized;
  int64_t rows, n;
};

// Quantizes row r of a call.
inline void quantize_row(const Kernels& kernels, const PackedWeights& w, const ChainCall& call,
                         const float* row, int64_t r, const QParams& q) {
  reinterpret_cast<float*>(call.packed + call.quantized.scales_at())[r] =
      static_cast<float>(q.scale);
  reinterpret_cast<int32_t*>(call.packed + call.quantized.zeros_at())[r] = w.row_zero(q.zero);
  uint8_t* to = call.packed + r * call.quantized.stride;
  kernels.quantize(row, to, call.n, quantize_parameters(q, 0, 255));
  pad_row(w, to);
}

// Raises ArgumentError where what is quantized is not finite.
inline void run_chain(const Kernels& kernels, const FloatChain& chain, const ChainCall& call,
                      int threads) {
  if (call.rows == 0) return;
  const int64_t n = call.n, grain = kElementwiseGrain / 4 / n + 1;
  const auto quantize = [&](const float* row, int64_t r, const QParams& q) {
    quantize_row(kernels, *chain.quantization->weights, call, row, r, q);
  };
  const bool at_once = chain.quantization && chain.quantization->rule.per_row;
  parallel_ranges(threads, call.rows, grain, [&](int64_t begin, int64_t end) {
    float* room = call.y || !chain.changes() ? nullptr : Scratch::of_thread().floats.reserve(n);
    for (int64_t r = begin; r < end; ++r) {
      float* y = call.y ? call.y + r * n : room;
      const float* row = chain.run(kernels, call.x + r * n, call.other + r * n, y, n);
      if (call.y && row != y) std::memcpy(y, row, static_cast<size_t>(n) * 4);
      if (!at_once) continue;
      float low, high;
      if (!kernels.range(row, n, &low, &high)) throw ArgumentError(kNotFinite);
      quantize(row, r, choose_qparams(low, high, chain.quantization->rule.qmax));
    }
  });
  if (!chain.quantization || at_once) return;
  const float* all = call.y ? call.y : call.x;
  const auto [low, high] = range_of(kernels, all, call.rows * n, threads);
  const QParams q = choose_qparams(low, high, chain.quantization->rule.qmax);
  parallel_ranges(threads, call.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) quantize(all + r * n, r, q);
  });
}

}  // namespace qcore
