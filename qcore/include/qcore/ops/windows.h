// Sliding windows over channels-last activations, in three spatial dimensions (fewer have sizes of
// 1).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/base/sizes.h"

namespace qcore {

using Sizes3 = std::array<int64_t, 3>;

// How a kernel moves over its input.
struct WindowGeometry {
  Sizes3 kernel{1, 1, 1}, stride{1, 1, 1}, padding{}, dilation{1, 1, 1};
};

// Raises ArgumentError for what no kernel can have.
inline void check_geometry(const WindowGeometry& g) {
  constexpr int64_t kMost = 1 << 24;
  for (size_t d = 0; d < 3; ++d) {
    if (std::min({g.kernel[d], g.stride[d], g.dilation[d]}) < 1 || g.padding[d] < 0) {
      throw ArgumentError(
          "kernel size, stride and dilation must be at least 1, padding at least 0");
    }
    if (std::max({g.kernel[d], g.stride[d], g.dilation[d], g.padding[d]}) > kMost) {
      throw ArgumentError("kernel size, stride, dilation and padding must be at most " +
                          std::to_string(kMost));
    }
  }
}

// The last three sizes of a tensor (batch, channels, *spatial) that may have fewer spatial
// dimensions.
inline Sizes3 spatial_sizes(int rank, const int64_t* sizes) {
  Sizes3 found{1, 1, 1};
  for (int i = 2; i < rank; ++i) found[static_cast<size_t>(i + 3 - rank)] = sizes[i];
  return found;
}

struct Windows : WindowGeometry {
  int64_t batch = 0, channels = 0;
  Sizes3 in{}, out{};

  Windows() = default;
  Windows(const WindowGeometry& geometry, int rank, const int64_t* sizes)
      : WindowGeometry(geometry),
        batch(sizes[0]),
        channels(sizes[1]),
        in(spatial_sizes(rank, sizes)) {}

  int64_t input_bytes() const { return batch * channels * in[0] * in[1] * in[2]; }

  int64_t pixels() const { return batch * out[0] * out[1] * out[2]; }
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }

  // The taps along a dimension that lie in the input where a window begins at `start`; as many as
  // any window has at most.
  struct Taps {
    int64_t begin, end;
  };
  Taps inside_taps(size_t d, int64_t start) const {
    if (dilation[d] == 1) {
      return clipped(d, std::max(-start, int64_t{0}), in[d] - start);  // without a division
    }
    return clipped(d, start < 0 ? divided_up(-start, dilation[d]) : 0,
                   start < in[d] ? divided_up(in[d] - start, dilation[d]) : 0);
  }
  int64_t most_inside(size_t d) const {
    return std::min(kernel[d], in[d] > 0 ? (in[d] - 1) / dilation[d] + 1 : 0);
  }
  int64_t most_inside() const { return most_inside(0) * most_inside(1) * most_inside(2); }

  // An output pixel, and where its window begins, which may be negative by the padding.
  struct Place {
    int64_t sample;
    Sizes3 index, start;
  };

  Place place(int64_t pixel) const {
    Place p{};
    for (int d = 2; d >= 0; --d) {
      const auto i = static_cast<size_t>(d);
      p.index[i] = pixel % out[i];
      p.start[i] = p.index[i] * stride[i] - padding[i];
      pixel /= out[i];
    }
    p.sample = pixel;
    return p;
  }

  // To the next output pixel.
  void advance(Place& p) const {
    for (size_t d = 3; d-- > 0;) {
      p.start[d] += stride[d];
      if (++p.index[d] < out[d]) return;
      p.index[d] = 0;
      p.start[d] = -padding[d];
    }
    ++p.sample;
  }

  bool all_inside(const Place& p) const {
    for (size_t d = 0; d < 3; ++d) {
      if (p.start[d] < 0 || p.start[d] + (kernel[d] - 1) * dilation[d] >= in[d]) return false;
    }
    return true;
  }

  const uint8_t* at(const uint8_t* x, int64_t sample, int64_t d, int64_t h, int64_t w) const {
    return x + (((sample * in[0] + d) * in[1] + h) * in[2] + w) * channels;
  }

  Taps clipped(size_t d, int64_t begin, int64_t end) const {
    return {begin, std::max(begin, std::min(end, kernel[d]))};
  }

  bool inside(size_t dimension, int64_t position) const {
    return position >= 0 && position < in[dimension];
  }

  // Calls visit(pointer) for each tap that lies in the input, in the order of the kernel.
  template <class Visit>
  void each_tap(const uint8_t* x, const Place& p, const Visit& visit) const {
    const Taps depth = inside_taps(0, p.start[0]), height = inside_taps(1, p.start[1]),
               width = inside_taps(2, p.start[2]);
    for (int64_t kd = depth.begin; kd < depth.end; ++kd) {
      for (int64_t kh = height.begin; kh < height.end; ++kh) {
        const uint8_t* line =
            at(x, p.sample, p.start[0] + kd * dilation[0], p.start[1] + kh * dilation[1], 0);
        for (int64_t kw = width.begin; kw < width.end; ++kw) {
          visit(line + (p.start[2] + kw * dilation[2]) * channels);
        }
      }
    }
  }
};

// The result of windows over x (batch, channels, *spatial), channels innermost. Raises
// ArgumentError for several windows along a dimension that x lacks.
inline Extent output_of(const Windows& windows, const Extent& x, int64_t channels) {
  Extent out = x;
  out.size[1] = channels;
  for (int d = 0; d < 3; ++d) {
    const int i = x.rank - 3 + d;
    const int64_t size = windows.out[static_cast<size_t>(d)];
    if (i >= 2) out.size[static_cast<size_t>(i)] = size;
    if (i < 2 && size != 1) {
      throw ArgumentError("padding in more dimensions than x has: " + std::to_string(x.rank - 2));
    }
  }
  return channels_last_like(out);
}

}  // namespace qcore
