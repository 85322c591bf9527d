// The driver of the GEMM kernels: splits rows and panels into chunks, prepares the rows of a chunk
// once, runs its panels over them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/packed_weights.h"
#include "qcore/ops/scratch.h"

namespace qcore {

constexpr int64_t kSerialMacs = 1 << 20;  // less is done on the caller's thread

struct GemmPlan {
  int64_t block = 0;  // rows of a chunk
  int64_t blocks = 0;
  int64_t panel_splits = 1;  // parts that the panels are cut into
};

// Blocks whose rows stay in the L2 cache; where that alone is too few for the threads, smaller
// ones, and parts of the panels. Rows at hand are cut for the threads alone, each of which so keeps
// its own from layer to layer, and then into parts of the panels.
inline GemmPlan plan_gemm(const Layout& layout, int64_t row_bytes, int64_t panels, int64_t rows,
                          bool at_hand, int threads) {
  constexpr int64_t kBlockBytes = 240 * 1024;
  const int64_t step =
      layout.piece > 0 ? 32 : 24;  // many heights of tiles divide 24; AMX has two of 16
  GemmPlan plan;
  const int64_t most =
      std::clamp(kBlockBytes / std::max<int64_t>(row_bytes, 1), step, int64_t{480});
  const int64_t fewest = std::max<int64_t>(
      (rows + most - 1) / most, 1);  // blocks, of nearly one size: each reads all weights
  plan.block = round_up((rows + fewest - 1) / fewest, step);
  const int64_t wanted = threads > 1 ? 8 * threads : 1;
  const int64_t wanted_blocks =
      at_hand ? std::max<int64_t>((wanted + panels - 1) / panels, threads) : wanted;
  if ((rows + plan.block - 1) / plan.block < wanted_blocks) {
    plan.block =
        std::min(plan.block, std::max(round_up((rows + wanted_blocks - 1) / wanted_blocks, step),
                                      layout.piece > 0 ? 2 * step : step));
  }
  plan.blocks = (rows + plan.block - 1) / plan.block;
  plan.panel_splits = std::clamp((wanted + plan.blocks - 1) / plan.blocks, int64_t{1}, panels);
  return plan;
}

// While it lives, the calls of gemm on this thread share what they set up.
class Held {
 public:
  explicit Held(const Kernels& kernels) : kernels_(kernels) { set(true); }
  ~Held() { set(false); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  void set(bool held) const {
    if (kernels_.hold) kernels_.hold(held);
  }
  const Kernels& kernels_;
};

// `job.rows(first, count, group, scratch)` gives a block's rows, `job.multiply(input, panel, first,
// scratch)` runs one panel over it; `job.at_hand()`: whether rows need no work.
template <class Weights, class Job>
void run_gemm(const Weights& w, int64_t rows, int threads, const Job& job) {
  if (rows == 0 || w.panels.empty()) return;
  if (saturated_product({rows, w.n, w.groups, std::max<int64_t>(w.k, 1)}) < kSerialMacs) {
    threads = 1;
  }
  const auto panels = static_cast<int64_t>(w.panels.size());
  const GemmPlan plan =
      plan_gemm(job.kernels.layout, w.row_bytes_in_use(), panels, rows, job.at_hand(), threads);
  parallel(threads, plan.blocks * plan.panel_splits, [&](int64_t chunk) {
    const int64_t block = chunk / plan.panel_splits, split = chunk % plan.panel_splits;
    const int64_t first = block * plan.block, count = std::min(plan.block, rows - first);
    Scratch& scratch = Scratch::of_thread();
    const Held held(job.kernels);
    decltype(job.rows(first, count, 0, scratch)) input{};
    int64_t group = -1;
    for (int64_t p = panels * split / plan.panel_splits;
         p < panels * (split + 1) / plan.panel_splits; ++p) {
      const auto& panel = w.panels[static_cast<size_t>(p)];
      if (panel.group != group) input = job.rows(first, count, group = panel.group, scratch);
      job.multiply(input, panel, first, scratch);
    }
  });
}

// Sums of rows, which weights with zero points need.
inline const int32_t* row_sums(const PackedWeights& w, const uint8_t* x, int64_t stride,
                               int64_t rows, Scratch& scratch) {
  if (!w.has_zeros) return nullptr;
  int32_t* sums = scratch.sums.reserve(rows);
  const auto first = static_cast<int32_t>(w.layout.signed_rows ? -128 * w.k : 0);
  for (int64_t r = 0; r < rows; ++r) {
    sums[r] = std::accumulate(x + r * stride, x + r * stride + w.k, first);
  }
  return sums;
}

// Whether the kernels need nothing but rows that lie there.
inline bool reads_rows(const Kernels& kernels, const PackedWeights& w) {
  return !kernels.prepare_rows && !w.has_zeros;
}

// Rows at hand, `stride` apart, with what the kernels need of them.
inline GemmInput gemm_input(const Kernels& kernels, const PackedWeights& w, const uint8_t* x,
                            int64_t stride, int64_t rows, Scratch& scratch) {
  GemmInput input{x, stride, rows, w.k_groups, row_sums(w, x, stride, rows, scratch)};
  if (kernels.prepare_rows) {
    input.prepared_stride = w.row_bytes() + kGroup;
    void* prepared = scratch.prepared.reserve((rows + 1) * input.prepared_stride);
    kernels.prepare_rows(input, prepared);
    input.prepared = prepared;
  }
  return input;
}

// One panel over rows, with this thread's room for its weights and sums.
template <class Output>
void multiply_rows(const Kernels& kernels, GemmInput input, const GemmPanel& panel,
                   const Output& out) {
  Scratch& scratch = Scratch::of_thread();
  const int64_t piece = kernels.layout.piece;
  if (piece > 0 && !input.pieces && input.groups > 0) {
    input.piece_groups = input.groups / ((input.groups + piece - 1) / piece);
  }
  if (kernels.layout.widens) {
    input.wide_panel = scratch.wide_panel.reserve(int64_t{kWideGroups} * kUnit);
  }
  input.wide_sums =
      scratch.wide_sums.reserve(round_up(input.rows, kLanes) * kMaxPanelUnits * kLanes);
  if constexpr (std::is_same_v<Output, FloatOutput>) {
    kernels.gemm_f32(input, panel, out);
  } else {
    kernels.gemm_u8(input, panel, out);
  }
}

// Room for `count` rows of one K, padded to whole groups.
inline uint8_t* packed_rows(const PackedWeights& w, int64_t count, Scratch& scratch) {
  return scratch.rows.reserve(count * w.row_bytes());
}

inline void pad_row(const PackedWeights& w, uint8_t* row) {
  for (int64_t i = w.k; i < w.row_bytes(); ++i) row[i] = 0;
}

}  // namespace qcore
