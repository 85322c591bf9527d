// Depthwise convolutions: which lines of the input an output row reads, weights in that order, and
// the driver of the kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/conv/call.h"
#include "qcore/ops/gemm/driver.h"

namespace qcore {

// Lines are interleaved in fours, so that one dot product takes four taps of a column. They are
// rows of the input, as many as let a few output rows share them; or, for kernels of one row, that
// row from the columns of four taps in a row on.
struct DepthwisePlan {
  bool along_row = false;
  int64_t rows = 1;     // output rows that share their lines
  int64_t quads = 1;    // of lines
  int64_t columns = 1;  // dot products along the row, `column_step` entries apart
  int64_t column_step = 1;

  DepthwisePlan() = default;
  explicit DepthwisePlan(const WindowGeometry& geometry) {
    const Sizes3 &kernel = geometry.kernel, &dilation = geometry.dilation;
    const int64_t taps = kernel[0] * kernel[1];
    along_row = taps == 1;
    if (along_row) {
      columns = (kernel[2] + kGroup - 1) / kGroup;
      column_step = kGroup * dilation[2];
      return;
    }
    quads = (taps + kGroup - 1) / kGroup;
    columns = kernel[2];
    column_step = dilation[2];
    if (kernel[0] == 1 && dilation[1] == 1) rows += (quads * kGroup - taps) / geometry.stride[1];
  }

  int64_t lines() const { return quads * kGroup; }
  int64_t entries(int64_t outputs, int64_t stride) const {
    return (outputs - 1) * stride + (columns - 1) * column_step + 1;
  }
};

// Weights [unit][row][quad][column][16 channels][4 lines].
struct DepthwiseWeights {
  DepthwisePlan plan;
  Buffer<int8_t> data;
  bool extreme = false;

  // `at(channel, tap)` reads a weight, taps in kernel order.
  template <class At>
  void pack(const WindowGeometry& geometry, int64_t channels, const At& at) {
    const Sizes3& kernel = geometry.kernel;
    plan = DepthwisePlan(geometry);
    const int64_t unit = plan.rows * plan.quads * plan.columns * kUnit,
                  bytes = round_up(channels, kLanes) / kLanes * unit;
    int8_t* to = data.reserve(bytes);
    std::memset(to, 0, static_cast<size_t>(bytes));
    for (int64_t channel = 0; channel < channels; ++channel) {
      for (int64_t tap = 0; tap < kernel[0] * kernel[1] * kernel[2]; ++tap) {
        const int64_t column = tap % kernel[2];
        for (int64_t row = 0; row < plan.rows; ++row) {
          const int64_t line =
              plan.along_row ? column % kGroup : row * geometry.stride[1] + tap / kernel[2];
          const int64_t quad = line / kGroup, dot = (row * plan.quads + quad) * plan.columns +
                                                    (plan.along_row ? column / kGroup : column);
          to[channel / kLanes * unit + dot * kUnit + channel % kLanes * kGroup + line % kGroup] =
              at(channel, tap);
        }
      }
    }
    for (int64_t i = 0; i < bytes; i += kGroup) {
      extreme = extreme || std::count(to + i, to + i + kGroup, -128) > 1;
    }
  }
};

struct DepthwiseJob {
  const Kernels& kernels;
  const DepthwiseWeights& w;
  const Windows& windows;
  const uint8_t* x;
  const uint8_t* x_end;
  const uint8_t* padding;  // a pixel of zero points, and 64 more
  RequantizedOutput out;

  // Columns [first, first + outputs) of `rows` output rows from `place` on.
  void strip(const Windows::Place& place, int64_t rows, int64_t first, int64_t outputs,
             Scratch& scratch) const {
    const Windows& v = windows;
    const DepthwisePlan& plan = w.plan;
    DepthwiseLine* lines = scratch.lines.reserve(plan.lines());
    const int64_t column = first * v.stride[2] - v.padding[2];
    for (int64_t i = 0; i < plan.lines(); ++i) lines[i] = line(place, i, column);
    const int64_t entries = plan.entries(outputs, v.stride[2]);
    const RequantizedOutput from = out.from_row(
        ((place.sample * v.out[0] + place.index[0]) * v.out[1] + place.index[1]) * v.out[2] +
        first);
    kernels.depthwise(
        {lines, plan.quads, entries, outputs, v.stride[2], plan.columns, plan.column_step,
         plan.rows, rows, v.out[2], v.channels, padding, x_end, w.data.data(), w.extreme,
         scratch.rows.reserve(DepthwiseInput::scratch_bytes(plan.quads * entries, outputs))},
        from);
  }

 private:
  // Where a line's first entry would be, and which entries lie in the input.
  DepthwiseLine line(const Windows::Place& place, int64_t i, int64_t column) const {
    const Windows& v = windows;
    if (!w.plan.along_row && i >= v.kernel[0] * v.kernel[1] + (w.plan.rows - 1) * v.stride[1]) {
      return {nullptr, 0, 0};  // its weights are 0
    }
    int64_t d = place.start[0], h = place.start[1];
    if (w.plan.along_row) {
      column += i * v.dilation[2];
    } else if (w.plan.rows > 1 || v.kernel[0] == 1) {
      h += i * v.dilation[1];
    } else {
      d += i / v.kernel[1] * v.dilation[0];
      h += i % v.kernel[1] * v.dilation[1];
    }
    if (!v.inside(0, d) || !v.inside(1, h)) return {nullptr, 0, 0};
    return {v.at(x, place.sample, d, h, 0), -column, v.in[2] - column};
  }
};

inline void run_depthwise(const Kernels& kernels, const DepthwiseWeights& w, const ConvCall& call,
                          int threads) {
  constexpr int64_t kMostEntries = 128,
                    kLineBytes =
                        32 * 1024;  // of all quads and lines of a strip: they stay in the L1 cache
  const DepthwisePlan& plan = w.plan;
  const Windows& windows = call.windows;
  const std::vector<uint8_t> padding(static_cast<size_t>(windows.channels + 4 * kLanes), call.zero);
  const DepthwiseJob job{kernels, w, windows, call.x, call.end(), padding.data(), call.out};
  const int64_t row = windows.out[2], stride = windows.stride[2];
  const int64_t halo = plan.entries(1, stride);
  const int64_t entries =
      std::min(kMostEntries / plan.quads, kLineBytes / (plan.lines() * windows.channels));
  const int64_t most = std::max<int64_t>((entries - halo) / stride + 1, 8);
  const int64_t splits = (row + most - 1) / most,
                groups = (windows.out[1] + plan.rows - 1) / plan.rows;
  if (saturated_product({windows.pixels(), windows.channels, windows.taps(), 8}) < kSerialMacs) {
    threads = 1;
  }
  const int64_t strips = windows.batch * windows.out[0] * groups * splits;
  parallel_ranges(threads, strips, 1, [&](int64_t begin, int64_t end) {
    Scratch& scratch = Scratch::of_thread();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t split = i % splits, first = i / splits % groups * plan.rows,
                    slice = i / splits / groups;
      const int64_t from = row * split / splits, to = row * (split + 1) / splits;
      const Windows::Place place = windows.place((slice * windows.out[1] + first) * row);
      job.strip(place, std::min(plan.rows, windows.out[1] - first), from, to - from, scratch);
    }
  });
}

}  // namespace qcore
