// Operations of a plan on floats: chains that go over each row once, and dynamic linears of the rows that these have quantized.
#pragma once

#include <optional>

#include "qcore/ops/linear/linear.h"
#include "qcore/python/floats.h"
#include "qcore/plan/plan.h"

namespace qcore {

// How rows are quantized for dynamic linears of k inputs.
struct RowQuantization {
  const PackedWeights* weights;  // of one of the linears: all of one k take the same rows
  int32_t qmax;
  bool per_row;
};

// Quantized rows in memory: bytes as the GEMM takes them, then a scale and a zero point of each row.
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

inline int64_t rows_of(const Extent& x, int64_t k) {
  if (x.rank < 1 || x.size[static_cast<size_t>(x.rank) - 1] != k) throw ArgumentError("x must have size " + std::to_string(k) + " in its last dimension");
  return x.numel() / k;
}

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

  bool changes() const { return add || norm || function; }
  // Whether the floats are in memory: also where they wait for the range of all rows.
  bool stored() const { return kept || (changes() && quantization && !quantization->per_row); }

  // The floats of n elements: `y`, or x where nothing changes it.
  const float* run(const Kernels& kernels, const float* x, const float* other, float* y, int64_t n) const {
    if (norm) {
      kernels.float_layer_norm(x, add ? other : nullptr, y, n, norm->weight, norm->bias, norm->eps), x = y;
    } else if (add) {
      kernels.float_add(x, other, y, n), x = y;
    }
    if (function) kernels.float_function(x, y, n, *function), x = y;
    return x;
  }
};

struct RowRange {
  float low, high;
};

inline RowRange checked_range(const Kernels& kernels, const float* x, int64_t n) {
  RowRange found;
  if (!kernels.range(x, n, &found.low, &found.high)) throw ArgumentError(kNotFinite);
  return found;
}

// Bytes of a result with floats in front of the quantized rows.
inline int64_t floats_before(const Extent& floats) { return round_up(floats.numel() * 4, 64); }

// Gives the place of the floats; where these are not kept, for their sizes alone.
inline Place chain_step(Program& program, const std::vector<Place>& in, const Kernels& kernels, const FloatChain& chain) {
  Extent sizes = chain.add ? broadcast(in[0].extent, in[1].extent) : in[0].extent;
  Place x = in[0];
  if (!same_sizes(x.extent, sizes)) x.extent = expanded(x.extent, sizes);
  const bool by_rows = chain.norm || chain.quantization;
  x = by_rows ? program.contiguous(x) : program.dense(x);
  std::vector<Place> reads{x};
  if (chain.add) {
    Place other = in[1];
    if (!same_sizes(other.extent, sizes)) other.extent = expanded(other.extent, sizes);
    reads.push_back(program.in_layout_of(other, x.extent));
  }
  const Extent floats = x.extent;
  if (!by_rows) {
    const int64_t n = floats.numel();
    return program.step(reads, floats, 4, [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      const auto *a = reinterpret_cast<const float*>(from[0]), *b = reinterpret_cast<const float*>(chain.add ? from[1] : from[0]);
      auto* y = reinterpret_cast<float*>(to);
      parallel_ranges(threads, n, kElementwiseGrain / 4, [&](int64_t begin, int64_t end) { chain.run(kernels, a + begin, b + begin, y + begin, end - begin); });
    }, true);
  }
  int64_t n = chain.norm ? chain.norm->length : 0;
  if (chain.norm) {
    const size_t rank = chain.norm->shape.size(), all = static_cast<size_t>(floats.rank);
    if (rank > all || !std::equal(chain.norm->shape.begin(), chain.norm->shape.end(), floats.size.begin() + static_cast<std::ptrdiff_t>(all - rank))) {
      throw ArgumentError("x does not end in the dimensions that are normalized");
    }
  }
  QuantizedRows quantized{};
  if (chain.quantization) {
    n = chain.quantization->weights->k;
    quantized = {rows_of(floats, n), chain.quantization->weights->row_bytes()};
  }
  const int64_t rows = n ? floats.numel() / n : 0;
  const bool stored = chain.stored();
  const int64_t front = stored ? floats_before(floats) : 0;
  Extent bytes = quantized.extent();
  bytes.size[0] += front;
  const auto work = [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
    if (rows == 0) return;
    const auto *a = reinterpret_cast<const float*>(from[0]), *b = reinterpret_cast<const float*>(chain.add ? from[1] : from[0]);
    auto* y = stored ? reinterpret_cast<float*>(to) : nullptr;
    uint8_t* packed = to + front;
    auto* scales = reinterpret_cast<float*>(packed + quantized.scales_at());
    auto* zeros = reinterpret_cast<int32_t*>(packed + quantized.zeros_at());
    const auto quantize = [&](const float* row, int64_t r, const QParams& q) {
      const PackedWeights& w = *chain.quantization->weights;
      scales[r] = static_cast<float>(q.scale);
      zeros[r] = w.row_zero(q.zero);
      kernels.quantize(row, packed + r * quantized.stride, n, quantize_parameters(q, 0, 255));
      pad_row(w, packed + r * quantized.stride);
    };
    const bool at_once = chain.quantization && chain.quantization->per_row;
    const int64_t grain = kElementwiseGrain / 4 / n + 1;
    parallel_ranges(threads, rows, grain, [&](int64_t begin, int64_t end) {
      float* room = stored || !chain.changes() ? nullptr : Scratch::of_thread().floats.reserve(n);
      for (int64_t r = begin; r < end; ++r) {
        const float* row = chain.run(kernels, a + r * n, b + r * n, stored ? y + r * n : room, n);
        if (stored && row != y + r * n) std::memcpy(y + r * n, row, static_cast<size_t>(n) * 4);
        if (at_once) {
          const RowRange range = checked_range(kernels, row, n);
          quantize(row, r, choose_qparams(range.low, range.high, chain.quantization->qmax));
        }
      }
    });
    if (!chain.quantization || at_once) return;
    const float* all = stored ? y : a;
    const auto [low, high] = range_of(kernels, all, rows * n, threads);
    const QParams q = choose_qparams(low, high, chain.quantization->qmax);
    parallel_ranges(threads, rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) quantize(all + r * n, r, q);
    });
  };
  if (!chain.quantization) return program.step(reads, floats, 4, work);
  Place made = program.step(reads, contiguous_like(bytes), 1, work);
  made.item = stored ? 4 : 0;
  made.extent = contiguous_like(floats);
  return made;
}

inline Plan::Operation chain_operation(const Kernels& kernels, FloatChain chain) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) { return chain_step(program, in, kernels, chain); };
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
    out.size[static_cast<size_t>(out.rank++)] = table.dim();
    const int64_t n = indices.extent.numel();
    return program.step({indices}, contiguous_like(out), 4, [=](const uint8_t* const* from, uint8_t* to, int threads) {
      table.run(reinterpret_cast<const int64_t*>(from[0]), n, reinterpret_cast<float*>(to), threads);
    });
  };
}

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
    multiply_rows(kernels, input, panel,
                  FloatOutput{y + first * w.n, w.n, scales + first, zeros + first, w.column_sums.data(), w.scales.data(), w.bias.data(),
                              w.has_zeros ? w.zeros.data() : nullptr, relu});
  }
};

// A dynamic linear of quantized rows; the second input is the floats, read for their sizes.
inline Plan::Operation dynamic_linear_operation(const Kernels& kernels, const Linear& linear) {
  return [&kernels, &linear](Program& program, const std::vector<Place>& in) {
    const PackedWeights& w = linear.packed();
    Extent out = in[1].extent;
    const QuantizedRows quantized{rows_of(out, w.k), w.row_bytes()};
    if (in[0].row_values != w.k || !same_sizes(in[0].extent, quantized.extent())) throw ArgumentError("its rows were not quantized for these weights and sizes");
    out.size[static_cast<size_t>(out.rank) - 1] = w.n;
    return program.step({in[0]}, contiguous_like(out), 4, [=, &kernels, &linear, &w](const uint8_t* const* from, uint8_t* to, int threads) {
      run_gemm(w, quantized.rows, threads, QuantizedRowsJob{kernels, w, from[0], quantized, reinterpret_cast<float*>(to), linear.relu()});
    });
  };
}

}  // namespace qcore
