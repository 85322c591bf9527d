// Operations of a plan on floats: chains that go over each row once, and dynamic linears of the
// rows that these have quantized.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/ops/float_chain.h"
#include "qcore/ops/floats.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/linear/linear.h"
#include "qcore/ops/linear/quantized_rows.h"
#include "qcore/plan/plan.h"

namespace qcore {

inline int64_t rows_of(const Extent& x, int64_t k) {
  if (x.rank < 1 || x.size[static_cast<size_t>(x.rank) - 1] != k) {
    throw ArgumentError("x must have size " + std::to_string(k) + " in its last dimension");
  }
  return x.numel() / k;
}

// Bytes of a result with floats in front of the quantized rows.
inline int64_t floats_before(const Extent& floats) { return round_up(floats.numel() * 4, 64); }

inline void check_norm(const RowNorm& norm, const Extent& floats) {
  const size_t rank = norm.shape.size(), all = static_cast<size_t>(floats.rank);
  if (rank > all || !std::equal(norm.shape.begin(), norm.shape.end(),
                                floats.size.begin() + static_cast<std::ptrdiff_t>(all - rank))) {
    throw ArgumentError("x does not end in the dimensions that are normalized");
  }
}

// A chain without a norm that quantizes nothing: element by element.
inline Place chain_of_elements_step(Program& program, const std::vector<Place>& reads,
                                    const Kernels& kernels, const FloatChain& chain) {
  const int64_t n = reads[0].extent.numel();
  const auto work = [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
    const auto* a = reinterpret_cast<const float*>(from[0]);
    const auto* b = reinterpret_cast<const float*>(from[chain.add ? 1 : 0]);
    auto* y = reinterpret_cast<float*>(to);
    parallel_ranges(threads, n, kElementwiseGrain / 4, [&](int64_t begin, int64_t end) {
      chain.run(kernels, a + begin, b + begin, y + begin, end - begin);
    });
  };
  return program.step(reads, reads[0].extent, 4, work, true);
}

// What a chain reads: x, and what is added to it in the same layout.
inline std::vector<Place> chain_inputs(Program& program, const std::vector<Place>& in,
                                       const FloatChain& chain) {
  const Extent sizes = chain.add ? broadcast(in[0].extent, in[1].extent) : in[0].extent;
  const auto with_sizes = [&](Place x) {
    if (!same_sizes(x.extent, sizes)) x.extent = expanded(x.extent, sizes);
    return x;
  };
  const Place x = with_sizes(in[0]);
  std::vector<Place> reads{chain.by_rows() ? program.contiguous(x) : program.dense(x)};
  if (chain.add) reads.push_back(program.in_layout_of(with_sizes(in[1]), reads[0].extent));
  return reads;
}

// Gives the place of the floats; where these are not kept, for their sizes alone.
inline Place chain_step(Program& program, const std::vector<Place>& in, const Kernels& kernels,
                        const FloatChain& chain) {
  const std::vector<Place> reads = chain_inputs(program, in, chain);
  if (!chain.by_rows()) return chain_of_elements_step(program, reads, kernels, chain);
  const Extent floats = reads[0].extent;
  if (chain.norm) check_norm(*chain.norm, floats);
  int64_t n = chain.norm ? chain.norm->length : 0;
  QuantizedRows quantized{};
  if (chain.quantization) {
    n = chain.quantization->weights->k;
    quantized = {rows_of(floats, n), chain.quantization->weights->row_bytes()};
  }
  const int64_t rows = n ? floats.numel() / n : 0;
  const bool stored = chain.stored();
  const int64_t front = stored ? floats_before(floats) : 0;
  const auto work = [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
    const auto* a = reinterpret_cast<const float*>(from[0]);
    const auto* b = reinterpret_cast<const float*>(from[chain.add ? 1 : 0]);
    auto* y = stored ? reinterpret_cast<float*>(to) : nullptr;
    run_chain(kernels, chain, {a, b, y, to + front, quantized, rows, n}, threads);
  };
  if (!chain.quantization) return program.step(reads, floats, 4, work);
  Extent bytes = quantized.extent();
  bytes.size[0] += front;
  Place made = program.step(reads, contiguous_like(bytes), 1, work);
  made.item = stored ? 4 : 0;
  made.extent = contiguous_like(floats);
  return made;
}

inline Plan::Operation chain_operation(const Kernels& kernels, FloatChain chain) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    return chain_step(program, in, kernels, chain);
  };
}

// The quantized rows of a chain's result.
inline Plan::Operation quantized_part_operation(const PackedWeights& weights, bool stored) {
  return [&weights, stored](Program&, const std::vector<Place>& in) {
    Place rows = in[0];
    rows.offset += stored ? floats_before(in[0].extent) : 0;
    rows.item = 1;
    rows.row_values = weights.k;
    rows.extent = QuantizedRows{rows_of(in[0].extent, weights.k), weights.row_bytes()}.extent();
    return rows;
  };
}

// Rows of a table, by int64 indices.
inline Plan::Operation float_embedding_operation(const FloatRows& table) {
  return [table](Program& program, const std::vector<Place>& in) {
    const Place indices = program.contiguous(in[0]);
    Extent out = indices.extent;
    if (out.rank == kMostDimensions) throw ArgumentError("indices have too many dimensions");
    out.size[static_cast<size_t>(out.rank++)] = table.dim;
    const int64_t n = indices.extent.numel();
    return program.step({indices}, contiguous_like(out), 4,
                        [=](const uint8_t* const* from, uint8_t* to, int threads) {
      table.run(reinterpret_cast<const int64_t*>(from[0]), n, reinterpret_cast<float*>(to),
                threads);
    });
  };
}

// A dynamic linear of quantized rows; the second input is the floats, read for their sizes.
inline Plan::Operation dynamic_linear_operation(const Kernels& kernels, const Linear& linear) {
  return [&kernels, &linear](Program& program, const std::vector<Place>& in) {
    const PackedWeights& w = linear.packed();
    Extent out = in[1].extent;
    const QuantizedRows quantized{rows_of(out, w.k), w.row_bytes()};
    if (in[0].row_values != w.k || !same_sizes(in[0].extent, quantized.extent())) {
      throw ArgumentError("its rows were not quantized for these weights and sizes");
    }
    out.size[static_cast<size_t>(out.rank) - 1] = w.n;
    return program.step(
        {in[0]}, contiguous_like(out), 4,
        [=, &kernels, &linear, &w](const uint8_t* const* from, uint8_t* to, int threads) {
      run_gemm(w, quantized.rows, threads,
               QuantizedRowsJob{kernels, w, from[0], quantized, reinterpret_cast<float*>(to),
                                linear.relu()});
    });
  };
}

}  // namespace qcore
