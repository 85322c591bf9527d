// Convolutions of many channels in matrices: nothing is gathered. The padded input is copied once, into a plane for each remainder of its
// rows and columns by the strides; what a tap reads of consecutive pixels of a plane is then that plane from some pixel on.
#pragma once

#include <vector>

#include "qcore/matmul.h"
#include "qcore/windows.h"

namespace qcore {

// The rows of the product are all pixels of a plane up to the last result; those behind the last column, or line, are no results.
class GridConv {
 public:
  GridConv(const Windows& windows) : v_(windows) {
    for (size_t d = 0; d < 2; ++d) size_[d] = v_.out[d + 1] + (v_.kernel[d + 1] - 1) * v_.dilation[d + 1] / v_.stride[d + 1];
  }

  int64_t rows() const { return v_.batch == 0 ? 0 : ((v_.batch - 1) * size_[0] + v_.out[1] - 1) * size_[1] + v_.out[2]; }

  // Whether whole pieces of K are of one tap, and few rows are no results.
  bool pays(const PackedWeights& w) const {
    const bool flat = v_.in[0] == 1 && v_.out[0] == 1 && v_.kernel[0] == 1;
    return w.layout.piece > 0 && flat && w.groups == 1 && !w.has_zeros && v_.channels % (w.layout.piece * w.layout.group) == 0 && 3 * rows() <= 4 * v_.pixels();
  }

  RowGrid grid() const { return {0, size_[1], size_[0], v_.out[2], v_.out[1]}; }

  // Where each piece of the first row begins.
  std::vector<int64_t> pieces(int64_t piece) const {
    std::vector<int64_t> found;
    for (int64_t kh = 0; kh < v_.kernel[1]; ++kh) {
      for (int64_t kw = 0; kw < v_.kernel[2]; ++kw) {
        const int64_t h = kh * v_.dilation[1], w = kw * v_.dilation[2], plane = h % v_.stride[1] * v_.stride[2] + w % v_.stride[2];
        const int64_t pixel = plane * v_.batch * size_[0] * size_[1] + h / v_.stride[1] * size_[1] + w / v_.stride[2];
        for (int64_t c = 0; c < v_.channels; c += piece) found.push_back(pixel * v_.channels + c);
      }
    }
    return found;
  }

  int64_t bytes() const { return v_.stride[1] * v_.stride[2] * v_.batch * size_[0] * size_[1] * v_.channels; }

  void copy(const uint8_t* x, uint8_t zero, uint8_t* to, int threads) const {
    constexpr int64_t kGrainBytes = 1 << 15;
    const int64_t line = size_[1] * v_.channels, lines = v_.batch * size_[0];
    parallel_ranges(threads, v_.stride[1] * v_.stride[2] * lines, kGrainBytes / line + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t plane = i / lines, down = plane / v_.stride[2], across = plane % v_.stride[2];
        if (!is_read(1, down) || !is_read(2, across)) continue;
        copy_line(x, i / size_[0] % v_.batch, i % size_[0] * v_.stride[1] + down - v_.padding[1], across - v_.padding[2], zero, to + i * line);
      }
    });
  }

 private:
  // Whether some tap has that remainder.
  bool is_read(size_t d, int64_t remainder) const {
    for (int64_t k = 0; k < v_.kernel[d]; ++k) {
      if (k * v_.dilation[d] % v_.stride[d] == remainder) return true;
    }
    return false;
  }

  // Pixels w, w + stride, ... of line h.
  void copy_line(const uint8_t* x, int64_t sample, int64_t h, int64_t w, uint8_t zero, uint8_t* to) const {
    const int64_t channels = v_.channels, stride = v_.stride[2];
    const int64_t begin = v_.inside(1, h) ? std::clamp((std::max<int64_t>(-w, 0) + stride - 1) / stride, int64_t{0}, size_[1]) : size_[1];
    const int64_t end = v_.inside(1, h) ? std::clamp((v_.in[2] - w + stride - 1) / stride, begin, size_[1]) : size_[1];
    std::memset(to, zero, static_cast<size_t>(begin * channels));
    if (stride == 1 && end > begin) {
      std::memcpy(to + begin * channels, v_.at(x, sample, 0, h, w + begin), static_cast<size_t>((end - begin) * channels));
    } else {
      for (int64_t i = begin; i < end; ++i) std::memcpy(to + i * channels, v_.at(x, sample, 0, h, w + i * stride), static_cast<size_t>(channels));
    }
    std::memset(to + end * channels, zero, static_cast<size_t>((size_[1] - end) * channels));
  }

  const Windows& v_;
  std::array<int64_t, 2> size_{};  // lines and columns of a plane
};

struct GridJob {
  const Kernels& kernels;
  const PackedWeights& w;
  const uint8_t* planes;
  const int64_t* pieces;
  RowGrid grid;
  int64_t channels;
  RequantizedOutput out;

  GemmInput rows(int64_t first, int64_t count, int64_t, Scratch&) const {
    GemmInput input{planes + first * channels, channels, count, w.k_groups, nullptr};
    input.pieces = pieces, input.grid = grid, input.grid.first = first;
    return input;
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t, Scratch&) const { multiply_rows(kernels, input, panel, out); }
};

inline void run_grid_conv(const Kernels& kernels, const PackedWeights& w, const GridConv& conv, const Windows& v, const uint8_t* x, uint8_t zero, const RequantizedOutput& out,
                          int threads) {
  uint8_t* planes = Scratch::of_thread().rows.reserve(conv.bytes());
  conv.copy(x, zero, planes, threads);
  const std::vector<int64_t> pieces = conv.pieces(w.layout.piece * w.layout.group);
  run_gemm(w, conv.rows(), threads, GridJob{kernels, w, planes, pieces.data(), conv.grid(), v.channels, out});
}

}  // namespace qcore
