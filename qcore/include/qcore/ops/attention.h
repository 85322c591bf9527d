// Attention of all batches and heads: blocks of queries, each on one thread, with their scores of
// all keys in the cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/scratch.h"

namespace qcore {

// A matrix of each batch and head.
struct HeadMatrices {
  const float* data;                 // null: none
  int64_t batch, head, row, column;  // strides

  FloatMatrix of(int64_t b, int64_t h) const {
    return {data ? data + b * batch + h * head : nullptr, row, column};
  }
};

struct Attention {
  int64_t batches, heads, queries, keys, width, values;
  HeadMatrices q, k, v, mask;
  float* y;
  int64_t y_batch, y_head, y_row, y_column;
  float scale;
  bool causal;
};

constexpr int64_t kMostLanes = kMaxPanelUnits * kLanes;

// Queries of a block: as many as one kernel takes, fewer where so many keys have scores that these
// would leave the cache.
inline int64_t attention_rows(const Attention& a) {
  constexpr int64_t kBlockFloats = 1 << 18;
  return std::clamp(kBlockFloats / (a.width + a.keys + a.values + 1), int64_t{kLanes}, kMostLanes) /
         kLanes * kLanes;
}

inline void run_attention(const Kernels& kernels, const Attention& a, int threads) {
  constexpr int64_t kSerialProducts = 1 << 18;
  if (a.values == 0) return;
  const int64_t block = attention_rows(a), blocks = (a.queries + block - 1) / block,
                chunks = a.batches * a.heads * blocks;
  if (saturated_product({chunks, block, a.keys, a.width + a.values}) < kSerialProducts) threads = 1;
  parallel(threads, chunks, [&](int64_t chunk) {
    const int64_t first = chunk % blocks * block, head = chunk / blocks % a.heads,
                  batch = chunk / blocks / a.heads;
    AttentionBlock b{};
    b.q = a.q.of(batch, head);
    b.k = a.k.of(batch, head);
    b.v = a.v.of(batch, head);
    b.mask = a.mask.of(batch, head);
    b.y = a.y + batch * a.y_batch + head * a.y_head + first * a.y_row;
    b.y_row = a.y_row;
    b.y_column = a.y_column;
    b.q.data += first * b.q.row;
    if (b.mask.data) b.mask.data += first * b.mask.row;
    b.first = first;
    b.rows = std::min(block, a.queries - first);
    b.keys = a.keys;
    b.width = a.width;
    b.values = a.values;
    b.scale = a.scale;
    b.causal = a.causal;
    b.scratch = Scratch::of_thread().floats.reserve((a.width + a.keys + a.values) * block +
                                                    kMostLanes * (a.width + 16));
    kernels.attention(b);
  });
}

}  // namespace qcore
