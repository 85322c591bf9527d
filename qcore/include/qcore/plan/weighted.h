// Convolutions and linears as operations of a plan, with the addition and the table that follow.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/base/qparams.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/conv/conv.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/ops/integers.h"
#include "qcore/ops/linear/linear.h"
#include "qcore/plan/elementwise.h"
#include "qcore/plan/finish.h"
#include "qcore/plan/plan.h"

namespace qcore {

// An addition after a weighted operation: what the other operand and the sum mean.
struct WeightedSum {
  QParams other, total;
  bool relu;
};

// Constants of a weighted operation: its output is finished, and may have another tensor added.
struct WeightedConstants {
  std::shared_ptr<const Requantization> parameters;
  const PackedWeights& weights;
  bool relu;
  QParams y;
  Finish finish;
  std::optional<BinaryConstants> sum;  // of the own result and the other operand

  // `Weighted`: Conv or Linear.
  template <class Weighted>
  WeightedConstants(const Weighted& weighted, QParams x, QParams own, Finish finish_,
                    const std::optional<WeightedSum>& added)
      : parameters(std::make_shared<const Requantization>(weighted.packed(), x, own)),
        weights(weighted.packed()),
        relu(weighted.relu()),
        y(own),
        finish(std::move(finish_)) {
    if (!added) return;
    sum = binary_constants<&Kernels::add>(own, added->other, added->total, added->relu);
    finish.bound(sum->result.low, sum->result.high, added->total.zero);
  }

  // `residual`: the other operand of a sum, or null; `with_table`: whether the kernel applies the
  // table.
  RequantizedOutput output(uint8_t* to, int64_t stride, const uint8_t* residual,
                           bool with_table) const {
    RequantizedOutput out = parameters->output(weights, to, stride, relu);
    if (residual) out.residual = {residual, stride, sum->a, sum->b, sum->result};
    if (!sum) finish.bound(out.low, out.high, y.zero);
    if (with_table) out.table = finish.table_data();
    return out;
  }
};

// A step of a weighted operation: x in its layout, the layout of the result and its values to a row
// or pixel, and whether the kernel takes sums and tables.
struct WeightedStep {
  Place x;
  Extent out;
  int64_t stride;
  bool epilogue;
};

// `in`: x as it was given, and the other operand of a sum; `run(x, out, threads)`: the kernel.
template <class Run>
Place weighted_step(Program& program, const std::vector<Place>& in, const WeightedStep& of,
                    const Kernels& kernels, const WeightedConstants& constants, const Run& run) {
  const bool fused = of.epilogue && constants.sum && same_sizes(in[1].extent, of.out);
  const bool with_table = of.epilogue && (fused || !constants.sum);
  std::vector<Place> reads{of.x};
  if (fused) reads.push_back(program.in_layout_of(in[1], of.out));
  const auto shared = std::make_shared<const WeightedConstants>(constants);
  const int64_t stride = of.stride;
  const Place y =
      program.step(reads, of.out, 1, [=](const uint8_t* const* from, uint8_t* to, int threads) {
    run(from[0], shared->output(to, stride, fused ? from[1] : nullptr, with_table), threads);
  });
  if (with_table) return y;
  const Place sum =
      constants.sum ? binary_step<&Kernels::add>(program, y, in[1], kernels, *constants.sum) : y;
  return finished(program, sum, kernels, constants.finish);
}

inline Plan::Operation conv_operation(const Kernels& kernels, const Conv& conv,
                                      const WeightedConstants& constants) {
  const auto zero = static_cast<uint8_t>(constants.parameters->x.zero);
  return [=, &kernels, &conv](Program& program, const std::vector<Place>& in) {
    const Extent& sizes = in[0].extent;
    const Windows windows = conv.windows(sizes.rank, sizes.size.data());
    const Place x = program.channels_last(in[0]);
    const Extent out = output_of(windows, sizes, conv.channels());
    const WeightedStep step{x, out, conv.channels(), conv.has_epilogue()};
    return weighted_step(program, in, step, kernels, constants,
                         [=, &conv](const uint8_t* from, const RequantizedOutput& to, int threads) {
      conv.run({windows, from, zero, to}, threads);
    });
  };
}

inline Plan::Operation linear_operation(const Kernels& kernels, const Linear& linear,
                                        const WeightedConstants& constants) {
  return [=, &kernels, &linear](Program& program, const std::vector<Place>& in) {
    Extent out = in[0].extent;
    const int64_t k = linear.packed().k, n = linear.packed().n;
    if (out.rank < 1 || out.size[static_cast<size_t>(out.rank) - 1] != k) {
      throw ArgumentError("x must have size " + std::to_string(k) + " in its last dimension");
    }
    const int64_t rows = out.numel() / k;
    out.size[static_cast<size_t>(out.rank) - 1] = n;
    const WeightedStep step{program.contiguous(in[0]), contiguous_like(out), n, true};
    return weighted_step(program, in, step, kernels, constants,
                         [=, &linear](const uint8_t* from, const RequantizedOutput& to,
                                      int threads) { linear.run(from, rows, to, threads); });
  };
}

}  // namespace qcore
