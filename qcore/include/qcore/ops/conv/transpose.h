// Transposed convolution, by phases: outputs at the same place between two inputs use the same few
// taps, as one GEMM whose rows are gathered, so that no product with a stuffed zero is computed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/ops/windows.h"

namespace qcore {

struct TransposedGeometry : WindowGeometry {
  Sizes3 output_padding{};
  int64_t groups = 1;

  int64_t output_size(size_t d, int64_t in) const {
    return (in - 1) * stride[d] - 2 * padding[d] + dilation[d] * (kernel[d] - 1) +
           output_padding[d] + 1;
  }
};

// Sizes of one call; x and y have their channels last.
struct TransposedSizes {
  int64_t batch = 0, in_channels = 0, out_channels = 0;
  Sizes3 in{}, out{};
};

// Outputs o with (o + padding) % stride == residue in each dimension; their taps, and the weights
// of these.
struct Phase {
  Sizes3 residue{};
  std::vector<Sizes3> taps;
  PackedWeights w;
  mutable RequantizationCache cache;
};

// What all phases of a call share.
struct TransposedCall {
  const TransposedGeometry& geometry;
  const TransposedSizes& sizes;
  const uint8_t* x;
  uint8_t zero;  // what lies beyond the edges
  RequantizedOutput out;
};

struct PhaseJob : TransposedCall {
  const Kernels& kernels;
  const Phase& phase;
  Sizes3 first{}, count{};  // outputs of the phase in each dimension

  PhaseJob(const Kernels& kernels_, const Phase& phase_, const TransposedCall& call)
      : TransposedCall(call), kernels(kernels_), phase(phase_) {
    for (size_t d = 0; d < 3; ++d) {
      const int64_t stride = geometry.stride[d];
      first[d] = ((phase.residue[d] - geometry.padding[d]) % stride + stride) % stride;
      count[d] = first[d] < sizes.out[d] ? (sizes.out[d] - 1 - first[d]) / stride + 1 : 0;
    }
  }

  int64_t pixels() const { return sizes.batch * count[0] * count[1] * count[2]; }

  bool at_hand() const { return false; }

  GemmInput rows(int64_t begin, int64_t rows, int64_t group, Scratch& scratch) const {
    const int64_t stride = phase.w.row_bytes(), channels = sizes.in_channels / geometry.groups;
    uint8_t* packed = packed_rows(phase.w, rows, scratch);
    for (int64_t r = 0; r < rows; ++r) {
      uint8_t* to = packed + r * stride;
      const Place place = place_of(begin + r);
      for (const Sizes3& tap : phase.taps) {
        const uint8_t* from = input_of(place, tap);
        if (from) {
          std::memcpy(to, from + group * channels, static_cast<size_t>(channels));
        } else {
          std::memset(to, zero, static_cast<size_t>(channels));
        }
        to += channels;
      }
      pad_row(phase.w, packed + r * stride);
    }
    return gemm_input(kernels, phase.w, packed, stride, rows, scratch);
  }

  // Results go through a block of their own, since those of one phase do not lie side by side.
  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t begin, Scratch&) const {
    constexpr int64_t kWidth = kMaxPanelUnits * kLanes;
    static thread_local Buffer<uint8_t> results;
    RequantizedOutput block = out;
    block.stride = kWidth;
    uint8_t* from = results.reserve(input.rows * kWidth);
    GemmPanel part = panel;
    part.output = 0;
    block.y = from;
    multiply_rows(kernels, input, part, block);
    for (int64_t r = 0; r < input.rows; ++r) {
      const Place p = place_of(begin + r);
      const int64_t pixel =
          ((p.sample * sizes.out[0] + p.output[0]) * sizes.out[1] + p.output[1]) * sizes.out[2] +
          p.output[2];
      std::memcpy(out.y + pixel * sizes.out_channels + panel.output, from + r * kWidth,
                  static_cast<size_t>(panel.columns));
    }
  }

 private:
  struct Place {
    int64_t sample;
    Sizes3 output;
  };

  Place place_of(int64_t i) const {
    Place p{};
    for (size_t d = 3; d-- > 0;) {
      p.output[d] = first[d] + i % count[d] * geometry.stride[d];
      i /= count[d];
    }
    p.sample = i;
    return p;
  }

  // The input that a tap takes to an output; null beyond the edges.
  const uint8_t* input_of(const Place& p, const Sizes3& tap) const {
    int64_t at = p.sample;
    for (size_t d = 0; d < 3; ++d) {
      const int64_t position = p.output[d] + geometry.padding[d] - tap[d] * geometry.dilation[d];
      if (position < 0 || position >= sizes.in[d] * geometry.stride[d]) return nullptr;
      at = at * sizes.in[d] + position / geometry.stride[d];
    }
    return x + at * sizes.in_channels;
  }
};

// The residues of a dimension that have taps, each with these.
inline std::vector<std::pair<int64_t, std::vector<int64_t>>> residues(const TransposedGeometry& g,
                                                                      size_t d) {
  std::vector<std::pair<int64_t, std::vector<int64_t>>> found;
  for (int64_t tap = 0; tap < g.kernel[d]; ++tap) {
    const int64_t residue = tap * g.dilation[d] % g.stride[d];
    auto at = std::find_if(found.begin(), found.end(),
                           [&](const auto& item) { return item.first == residue; });
    if (at == found.end()) at = found.insert(at, {residue, {}});
    at->second.push_back(tap);
  }
  return found;
}

// What a transposed convolution is made of: weights (in channels, outputs of a group, three kernel
// sizes).
struct TransposedWeights {
  const int8_t* data;
  int64_t in_channels, outputs;
  TransposedGeometry geometry;
  const WeightQuantization& quantization;  // of all outputs
  const float* bias;                       // null: none
  bool relu;
};

// Raises ArgumentError for a geometry that no transposed convolution has.
inline void check_transposed(const TransposedGeometry& g, int64_t in_channels) {
  check_geometry(g);
  for (size_t d = 0; d < 3; ++d) {
    if (g.output_padding[d] < 0 || g.output_padding[d] >= std::max(g.stride[d], g.dilation[d])) {
      throw ArgumentError("output padding must be at least 0, and below stride or dilation");
    }
  }
  if (g.groups < 1 || in_channels % g.groups != 0) {
    throw ArgumentError("groups=" + std::to_string(g.groups) + " does not divide " +
                        std::to_string(in_channels) + " input channels");
  }
}

// One call: x and y have their channels last.
struct TransposedRun {
  const TransposedSizes& sizes;
  const uint8_t* x;
  QParams qx;
  uint8_t* y;
  QParams qy;
};

class ConvTranspose {
 public:
  // Raises ArgumentError as check_transposed does, and for sums that may overflow.
  ConvTranspose(const Kernels& kernels, const TransposedWeights& from)
      : kernels_(kernels),
        geometry_(from.geometry),
        relu_(from.relu),
        in_channels_(from.in_channels) {
    check_transposed(geometry_, in_channels_);
    const Sizes3& kernel = geometry_.kernel;
    const bool empty = from.in_channels == 0 || from.outputs == 0;
    check_accumulated(empty ? 0
                            : in_channels_ / geometry_.groups * kernel[0] * kernel[1] * kernel[2]);
    for (size_t d = 0; d < 3; ++d) {
      covered_ =
          covered_ && static_cast<int64_t>(residues(geometry_, d).size()) == geometry_.stride[d];
    }
    pack(untouched_, from);
    for (const auto& depth : residues(geometry_, 0)) {
      for (const auto& height : residues(geometry_, 1)) {
        for (const auto& width : residues(geometry_, 2)) {
          Phase& phase = *phases_.emplace_back(std::make_unique<Phase>());
          phase.residue = {depth.first, height.first, width.first};
          for (const int64_t kd : depth.second) {
            for (const int64_t kh : height.second) {
              for (const int64_t kw : width.second) phase.taps.push_back({kd, kh, kw});
            }
          }
          pack(phase, from);
        }
      }
    }
  }

  // x (batch, in channels, *spatial). Raises ArgumentError where there is nothing to give.
  TransposedSizes sizes(int64_t batch, const Sizes3& in) const {
    TransposedSizes found{batch, in_channels_, untouched_.w.n * geometry_.groups, in, {}};
    for (size_t d = 0; d < 3; ++d) found.out[d] = geometry_.output_size(d, in[d]);
    return found;
  }

  void run(const TransposedRun& call, int threads) const {
    const TransposedSizes& sizes = call.sizes;
    if (!covered_) {
      fill(call.y, sizes.batch * sizes.out[0] * sizes.out[1] * sizes.out[2], call.qx, call.qy);
    }
    for (const auto& phase : phases_) {
      const auto parameters = phase->cache.get(phase->w, call.qx, call.qy);
      const RequantizedOutput out = parameters->output(phase->w, call.y, sizes.out_channels, relu_);
      const PhaseJob job(kernels_, *phase,
                         {geometry_, sizes, call.x, static_cast<uint8_t>(call.qx.zero), out});
      run_gemm(phase->w, job.pixels(), threads, job);
    }
  }

  int64_t in_channels() const { return in_channels_; }

 private:
  void pack(Phase& phase, const TransposedWeights& from) const {
    const Sizes3& kernel = geometry_.kernel;
    const int64_t per_group = in_channels_ / geometry_.groups, n = from.outputs,
                  taps = kernel[0] * kernel[1] * kernel[2];
    const auto at = [&](int64_t g, int64_t c, int64_t i) {
      const Sizes3& tap = phase.taps[static_cast<size_t>(i / per_group)];
      const int64_t row = g * per_group + i % per_group;
      return from.data[(row * n + c) * taps + (tap[0] * kernel[1] + tap[1]) * kernel[2] + tap[2]];
    };
    const int64_t k = per_group * static_cast<int64_t>(phase.taps.size());
    phase.w.pack(kernels_.layout, {geometry_.groups, n, k, from.quantization, from.bias}, at);
  }

  // Pixels that no tap reaches hold the bias alone.
  void fill(uint8_t* y, int64_t pixels, QParams qx, QParams qy) const {
    if (pixels == 0) return;
    const PackedWeights& w = untouched_.w;
    const int64_t channels = w.n * w.groups;
    const auto parameters = untouched_.cache.get(w, qx, qy);
    const int32_t none = 0;
    const uint8_t nothing[1] = {};
    const RequantizedOutput out = parameters->output(w, y, channels, relu_);
    for (const GemmPanel& panel : w.panels) kernels_.gemm_u8({nothing, 0, 1, 0, &none}, panel, out);
    for (int64_t i = 1; i < pixels; ++i) {
      std::memcpy(y + i * channels, y, static_cast<size_t>(channels));
    }
  }

  const Kernels& kernels_;
  TransposedGeometry geometry_;
  Phase untouched_;  // without taps
  std::vector<std::unique_ptr<Phase>> phases_;
  bool relu_, covered_ = true;
  int64_t in_channels_;
};

}  // namespace qcore
