// A convolution: its weights, packed for the algorithms that may serve, and which of these a call
// takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/conv/call.h"
#include "qcore/ops/conv/depthwise.h"
#include "qcore/ops/conv/gemm.h"
#include "qcore/ops/conv/grid.h"
#include "qcore/ops/conv/slices.h"
#include "qcore/ops/conv/winograd.h"
#include "qcore/ops/gemm/packed_weights.h"

namespace qcore {

// What a convolution is made of: weights (outputs, channels of a group, three kernel sizes).
struct ConvWeights {
  const int8_t* data;
  int64_t outputs, per_group, groups;
  WindowGeometry geometry;
  const WeightQuantization& quantization;
  const float* bias;  // null: none
  bool relu;
};

enum class ConvAlgorithm { depthwise, winograd, grid, gemm };

class Conv {
 public:
  // Raises ArgumentError for groups that do not divide the outputs.
  Conv(const Kernels& kernels, const ConvWeights& from)
      : kernels_(kernels),
        geometry_(from.geometry),
        groups_(from.groups),
        per_group_(from.per_group),
        relu_(from.relu) {
    check_geometry(geometry_);
    if (groups_ < 1 || from.outputs % groups_ != 0) {
      throw ArgumentError("groups=" + std::to_string(groups_) + " does not divide " +
                          std::to_string(from.outputs) + " output channels");
    }
    check_accumulated(from.outputs > 0 && per_group_ > 0 ? per_group_ * taps() : 0);
    const std::vector<int32_t>& zeros = from.quantization.zeros;
    const bool zero = std::all_of(zeros.begin(), zeros.end(), [](int32_t z) { return z == 0; });
    depthwise_ = is_depthwise(from) && zero;
    if (depthwise_) {
      pack_depthwise(from);
    } else {
      pack_slices(from, zero);
      if (zero && may_be_winograd(from)) {
        const auto at = [&](int64_t c, int64_t i) {
          return from.data + (c * per_group_ + i) * taps();
        };
        tiles_.pack(from.outputs, per_group_, at);
      }
    }
  }

  // The windows over x (batch, channels, *spatial). Raises ArgumentError for other channels, and a
  // kernel that is larger than x.
  Windows windows(int rank, const int64_t* sizes) const {
    if (rank < 3 || rank > 5 || sizes[1] != per_group_ * groups_) {
      throw ArgumentError("x must have " + std::to_string(per_group_ * groups_) +
                          " channels, and 1 to 3 dimensions after them");
    }
    Windows v(geometry_, rank, sizes);
    for (size_t d = 0; d < 3; ++d) v.out[d] = output_size(v, d);
    return v;
  }

  // Which one a call takes.
  ConvAlgorithm algorithm(const Windows& windows) const {
    if (depthwise_) return ConvAlgorithm::depthwise;
    if (!tiles_.empty() && windows.in[0] == 1 && winograd_pays(windows)) {
      return ConvAlgorithm::winograd;
    }
    const bool grid = slices_.grid && windows.pixels() > 0;
    if (grid && (reads_in_place(windows) || !slices_.is_whole())) return ConvAlgorithm::grid;
    return ConvAlgorithm::gemm;
  }

  void run(const ConvCall& call, int threads) const {
    switch (algorithm(call.windows)) {
      case ConvAlgorithm::depthwise:
        return run_depthwise(kernels_, lines_, call, threads);
      case ConvAlgorithm::winograd:
        return run_winograd(kernels_, tiles_, call, threads);
      case ConvAlgorithm::grid:
        return run_grid_conv(kernels_, packed_, slices_, call, reads_in_place(call.windows),
                             threads);
      case ConvAlgorithm::gemm:
        return run_gemm(packed_, call.windows.pixels(), threads, ConvJob(kernels_, packed_, call));
    }
  }

  // Whether the kernels add another tensor to the results, and apply a table, by themselves.
  bool has_epilogue() const { return !depthwise_; }
  const Kernels& kernels() const { return kernels_; }
  int64_t in_channels() const { return per_group_ * groups_; }
  int64_t channels() const { return packed_.n * packed_.groups; }
  const PackedWeights& packed() const { return packed_; }
  bool relu() const { return relu_; }

 private:
  static constexpr int64_t kMostStep =
      64;  // beyond, what is copied of the input may be much larger than all that is read of it

  int64_t taps() const { return geometry_.kernel[0] * geometry_.kernel[1] * geometry_.kernel[2]; }

  static bool is_depthwise(const ConvWeights& from) {
    const bool near = std::max(from.geometry.stride[2], from.geometry.dilation[2]) <= kMostStep;
    return from.groups > 1 && from.per_group == 1 && from.outputs == from.groups && near;
  }

  void pack_depthwise(const ConvWeights& from) {
    const Layout layout{kGroup, false, kernels_.layout.signed_rows};
    const WeightMatrices matrices{1, from.outputs, taps(), from.quantization, from.bias, 1};
    packed_.pack(layout, matrices,
                 [&](int64_t, int64_t c, int64_t tap) { return from.data[c * taps() + tap]; });
    lines_.pack(geometry_, from.outputs,
                [&](int64_t c, int64_t tap) { return from.data[c * taps() + tap]; });
  }

  void pack_slices(const ConvWeights& from, bool zero) {
    const Sizes3 &stride = geometry_.stride, &padding = geometry_.padding;
    const bool near = std::max({stride[1], stride[2], padding[1], padding[2]}) <= kMostStep;
    const bool flat = geometry_.kernel[0] == 1 && stride[0] == 1 && padding[0] == 0 && zero && near;
    const int64_t outputs = from.outputs / groups_;
    slices_ = ConvSlices(kernels_.layout, {geometry_, groups_, per_group_, outputs, flat, zero,
                                           !kernels_.prepare_rows});
    const auto at = [&](int64_t slice, int64_t column, int64_t i) {
      return slices_.at(from.data, slice, column, i);
    };
    packed_.pack(kernels_.layout,
                 {slices_.slices(), slices_.columns(), slices_.k(), from.quantization, from.bias},
                 at);
  }

  bool may_be_winograd(const ConvWeights& from) const {
    const WindowGeometry& g = geometry_;
    const Sizes3 one{1, 1, 1};
    const bool square =
        g.kernel == Sizes3{1, 3, 3} && g.stride == one && g.dilation == one && g.padding[0] == 0;
    const bool channels = per_group_ >= kLanes && per_group_ <= WinogradWeights::kMostChannels &&
                          from.outputs >= kLanes;
    return kernels_.winograd && square && groups_ == 1 && channels;
  }

  bool reads_in_place(const Windows& windows) const {
    return !kernels_.prepare_rows && GridConv(slices_, windows).reads_in_place(packed_.layout);
  }

  static int64_t output_size(const Windows& v, size_t d) {
    if (v.in[d] < 1) {
      throw ArgumentError("x has no elements in a dimension that the kernel moves over");
    }
    const int64_t room = v.in[d] + 2 * v.padding[d] - v.dilation[d] * (v.kernel[d] - 1) - 1;
    if (room < 0) throw ArgumentError("the kernel is larger than the padded input");
    return room / v.stride[d] + 1;
  }

  const Kernels& kernels_;
  WindowGeometry geometry_;
  int64_t groups_, per_group_;
  bool relu_, depthwise_ = false;
  PackedWeights packed_;
  ConvSlices slices_;
  DepthwiseWeights lines_;  // depthwise
  WinogradWeights tiles_;   // 3x3, where it can be
};

}  // namespace qcore
