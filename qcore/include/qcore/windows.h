// Sliding windows over channels-last activations, in three spatial dimensions (fewer have sizes of 1).
#pragma once

#include <array>
#include <cstdint>

namespace qcore {

using Sizes3 = std::array<int64_t, 3>;

struct Windows {
  int64_t batch = 0, channels = 0;
  Sizes3 in{}, out{}, kernel{}, stride{}, padding{}, dilation{};

  int64_t pixels() const { return batch * out[0] * out[1] * out[2]; }
  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }

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

  bool inside(size_t dimension, int64_t position) const { return position >= 0 && position < in[dimension]; }

  // Calls visit(pointer or null where the tap is padding) for each tap, kernel order.
  template <class Visit>
  void each_tap(const uint8_t* x, const Place& p, const Visit& visit) const {
    for (int64_t kd = 0; kd < kernel[0]; ++kd) {
      const int64_t d = p.start[0] + kd * dilation[0];
      for (int64_t kh = 0; kh < kernel[1]; ++kh) {
        const int64_t h = p.start[1] + kh * dilation[1];
        const uint8_t* line = inside(0, d) && inside(1, h) ? at(x, p.sample, d, h, 0) : nullptr;
        for (int64_t kw = 0; kw < kernel[2]; ++kw) {
          const int64_t w = p.start[2] + kw * dilation[2];
          visit(line && inside(2, w) ? line + w * channels : nullptr);
        }
      }
    }
  }
};

}  // namespace qcore
