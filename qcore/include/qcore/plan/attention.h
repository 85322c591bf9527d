// Attention as an operation of a plan: q, k and v are read where they lie, in any strides.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/attention.h"
#include "qcore/plan/plan.h"

namespace qcore {

// The batch and heads of x as `batch` and `heads`, repeated where there is one.
inline Place with_heads(Place x, int64_t batch, int64_t heads) {
  Extent sizes = x.extent;
  sizes.size[0] = batch;
  sizes.size[1] = heads;
  x.extent = expanded(x.extent, sizes);
  return x;
}

inline HeadMatrices head_matrices(const Extent& x, const uint8_t* data) {
  return {reinterpret_cast<const float*>(data), x.stride[0], x.stride[1], x.stride[2], x.stride[3]};
}

// A mask of floats as it is; of one of bytes, 0 where they are not 0, else -inf. What repeats is
// there once.
inline Place float_mask(Program& program, Place mask) {
  if (mask.item == 4) return mask;
  check_taken(mask, Takes::integers);
  for (int d = 0; d < mask.extent.rank; ++d) {
    const auto dim = static_cast<size_t>(d);
    if (mask.extent.stride[dim] == 0 && mask.extent.size[dim] > 1) mask.extent.size[dim] = 1;
  }
  const Place bytes = program.contiguous(mask);
  const int64_t n = bytes.extent.numel();
  return program.step({bytes}, contiguous_like(bytes.extent), 4,
                      [n](const uint8_t* const* from, uint8_t* to, int /*threads*/) {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    auto* y = reinterpret_cast<float*>(to);
    for (int64_t i = 0; i < n; ++i) y[i] = from[0][i] ? 0.0f : kNever;
  });
}

// `inputs`: q, k, v, and a mask where there is one. The heads of one query lie together in the
// result.
inline Plan::Operation attention_operation(const Kernels& kernels, std::optional<double> scale,
                                           bool causal) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    int64_t batch = 1, heads = 1;
    for (size_t i = 0; i < 3; ++i) {
      const Extent& x = in[i].extent;
      check_taken(in[i], Takes::floats);
      if (x.rank != 4) throw ArgumentError("q, k and v must have 4 dimensions");
      if (x.size[0] != 1) batch = x.size[0];
      if (x.size[1] != 1) heads = x.size[1];
    }
    const Place q = with_heads(in[0], batch, heads), k = with_heads(in[1], batch, heads),
                v = with_heads(in[2], batch, heads);
    const int64_t queries = q.extent.size[2], width = q.extent.size[3], keys = k.extent.size[2],
                  values = v.extent.size[3];
    if (k.extent.size[3] != width || v.extent.size[2] != keys) {
      throw ArgumentError("q and k need one width, k and v one number of keys");
    }
    std::vector<Place> reads{q, k, v};
    Extent mask{};
    if (in.size() > 3) {
      mask.rank = 4;
      mask.size = {batch, heads, queries, keys};
      if (in[3].extent.rank > 4) throw ArgumentError("a mask has at most 4 dimensions");
      const Place floats = float_mask(program, in[3]);
      mask = expanded(floats.extent, mask);
      reads.push_back(floats);
    }
    Extent out;
    out.rank = 4;
    out.size = {batch, heads, queries, values};
    out.stride = {heads * queries * values, values, heads * values, 1};
    const auto factor = static_cast<float>(
        scale ? *scale : 1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(width, 1))));
    const Extent eq = q.extent, ek = k.extent, ev = v.extent;
    const bool masked = in.size() > 3;
    return program.step(reads, out, 4,
                        [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      run_attention(
          kernels,
          {batch, heads, queries, keys, width, values, head_matrices(eq, from[0]),
           head_matrices(ek, from[1]), head_matrices(ev, from[2]),
           masked ? head_matrices(mask, from[3]) : HeadMatrices{}, reinterpret_cast<float*>(to),
           out.stride[0], out.stride[1], out.stride[2], out.stride[3], factor, causal},
          threads);
    });
  };
}

}  // namespace qcore
