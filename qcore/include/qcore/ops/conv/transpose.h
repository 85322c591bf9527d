// Transposed convolution, by phases: outputs at the same place between two inputs use the same few taps, as one GEMM whose rows
// are gathered, so that no product with a stuffed zero is computed.
#pragma once

#include <cstring>
#include <vector>

#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/ops/windows.h"

namespace qcore {

struct TransposedGeometry {
  Sizes3 kernel{}, stride{}, padding{}, output_padding{}, dilation{};
  int64_t groups = 1;

  int64_t output_size(size_t d, int64_t in) const {
    return (in - 1) * stride[d] - 2 * padding[d] + dilation[d] * (kernel[d] - 1) + output_padding[d] + 1;
  }
};

// Sizes of one call; x and y have their channels last.
struct TransposedSizes {
  int64_t batch = 0, in_channels = 0, out_channels = 0;
  Sizes3 in{}, out{};
};

// Outputs o with (o + padding) % stride == residue in each dimension; their taps, and the weights of these.
struct Phase {
  Sizes3 residue{};
  std::vector<Sizes3> taps;
  PackedWeights w;
  RequantizationCache cache;
};

struct PhaseJob {
  const Kernels& kernels;
  const Phase& phase;
  const TransposedGeometry& geometry;
  const TransposedSizes& sizes;
  const uint8_t* x;
  uint8_t zero;
  RequantizedOutput out;
  Sizes3 first{}, count{};  // outputs of the phase in each dimension

  PhaseJob(const Kernels& kernels_, const Phase& phase_, const TransposedGeometry& geometry_, const TransposedSizes& sizes_, const uint8_t* x_, uint8_t zero_,
           const RequantizedOutput& out_)
      : kernels(kernels_), phase(phase_), geometry(geometry_), sizes(sizes_), x(x_), zero(zero_), out(out_) {
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
      const int64_t pixel = ((p.sample * sizes.out[0] + p.output[0]) * sizes.out[1] + p.output[1]) * sizes.out[2] + p.output[2];
      std::memcpy(out.y + pixel * sizes.out_channels + panel.output, from + r * kWidth, static_cast<size_t>(panel.columns));
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
inline std::vector<std::pair<int64_t, std::vector<int64_t>>> residues(const TransposedGeometry& g, size_t d) {
  std::vector<std::pair<int64_t, std::vector<int64_t>>> found;
  for (int64_t tap = 0; tap < g.kernel[d]; ++tap) {
    const int64_t residue = tap * g.dilation[d] % g.stride[d];
    auto at = std::find_if(found.begin(), found.end(), [&](const auto& item) { return item.first == residue; });
    if (at == found.end()) at = found.insert(at, {residue, {}});
    at->second.push_back(tap);
  }
  return found;
}

}  // namespace qcore
