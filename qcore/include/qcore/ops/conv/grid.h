// Convolutions over slices of the padded input, which is copied once: for each slice of channels a
// plane for each remainder of its lines by the stride. What a run of taps reads of consecutive
// pixels is then that plane from some pixel on.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "qcore/ops/conv/call.h"
#include "qcore/ops/conv/slices.h"
#include "qcore/ops/gemm/driver.h"

namespace qcore {

// Lines lie one behind the other, and so do samples: the padding behind one is also that in front
// of the next. A row of the product is what begins at each pixel, or each second one by the stride;
// those behind the last column, or line, are no results.
class GridConv {
 public:
  GridConv(const ConvSlices& slices, const Windows& windows)
      : s_(slices), v_(windows), samples_(v_.batch * v_.in[0]) {
    for (size_t d = 0; d < 2; ++d) {
      const int64_t stride = v_.stride[d + 1], padding = v_.padding[d + 1],
                    last = (v_.out[d + 1] - 1) * stride;
      const int64_t reach = last - padding + (v_.kernel[d + 1] - 1) * v_.dilation[d + 1] + 1;
      read_[d] = std::clamp(reach, int64_t{0}, v_.in[d + 1]);
      size_[d] = round_up(std::max({read_[d] + padding, reach, last + 1}), stride);
    }
    lines_ = round_up(samples_ * size_[0] + v_.padding[1], v_.stride[1]) / v_.stride[1];
    plane_ = (lines_ * size_[1] + v_.padding[2]) * s_.channels();
  }

  int64_t rows() const {
    return samples_ == 0
               ? 0
               : (((samples_ - 1) * grid().lines + v_.out[1] - 1) * grid().pitch + v_.out[2]);
  }

  // Whether rows that are no results, and loops over short runs, take less than gathering rows; but
  // for matrices in sixteenths of a cycle.
  bool reads_in_place(const Layout& layout) const {
    constexpr int64_t kOfByte = 2, kOfRun = 6, kGatherRun = 64;
    if (layout.piece > 0) return 3 * rows() <= 4 * v_.pixels();
    const int64_t lost = (rows() - v_.pixels()) * s_.k() * kOfByte + rows() * s_.runs * kOfRun;
    return lost * s_.units() <= v_.pixels() * (s_.runs * kGatherRun + s_.k());
  }

  RowGrid grid() const {
    return {0, size_[1] / v_.stride[2], size_[0] / v_.stride[1], v_.out[2], v_.out[1]};
  }

  // Bytes from one row to the next, and to the next slice.
  int64_t row_step() const { return v_.stride[2] * s_.channels(); }
  int64_t slice_step() const { return v_.stride[1] * plane_; }

  // Where a result's row begins in its slice.
  int64_t row_of(const Windows::Place& p) const {
    return (((p.sample * v_.in[0] + p.index[0]) * grid().lines + p.index[1]) * grid().pitch +
            p.index[2]) *
           row_step();
  }

  // Where each piece of the first row begins.
  std::vector<int64_t> pieces(int64_t each) const {
    std::vector<int64_t> found;
    for (int64_t kh = 0; kh < v_.kernel[1]; ++kh) {
      for (int64_t kw = 0; kw < v_.kernel[2]; kw += s_.taps) {
        const int64_t h = kh * v_.dilation[1],
                      pixel = h / v_.stride[1] * size_[1] + kw * v_.dilation[2];
        for (int64_t i = 0; i < s_.pieces; ++i) {
          found.push_back(h % v_.stride[1] * plane_ + pixel * s_.channels() + i * each);
        }
      }
    }
    return found;
  }

  // What is read of the last row may lie behind.
  int64_t bytes() const { return s_.slices() * slice_step() + s_.room; }

  void copy(const uint8_t* x, uint8_t zero, uint8_t* to, int threads) const {
    constexpr int64_t kGrainBytes = 1 << 15;
    parallel_ranges(threads, v_.stride[1] * lines_, kGrainBytes / (size_[1] * v_.channels) + 1,
                    [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t plane = i % v_.stride[1], line = i / v_.stride[1];
        if (is_read(plane)) {
          copy_line(x, i - v_.padding[1], zero,
                    to + plane * plane_ + (line * size_[1] + v_.padding[2]) * s_.channels(),
                    line == 0);
        }
      }
    });
  }

 private:
  // Whether some tap has that remainder.
  bool is_read(int64_t remainder) const {
    for (int64_t k = 0; k < v_.kernel[1]; ++k) {
      if (k * v_.dilation[1] % v_.stride[1] == remainder) return true;
    }
    return false;
  }

  // Line `h` of all samples, to each slice.
  void copy_line(const uint8_t* x, int64_t h, uint8_t zero, uint8_t* to, bool first) const {
    const int64_t channels = s_.channels(), sample = h / size_[0], line = h % size_[0];
    const bool inside = h >= 0 && sample < samples_ && line < read_[0];
    const int64_t count = inside ? read_[1] : 0;
    const uint8_t* from = inside ? x + (sample * v_.in[1] + line) * v_.in[2] * v_.channels : x;
    for (int64_t slice = 0; slice < s_.slices(); ++slice, from += channels, to += slice_step()) {
      if (first) {
        std::memset(to - v_.padding[2] * channels, zero,
                    static_cast<size_t>(v_.padding[2] * channels));
      }
      if (channels == v_.channels) {
        std::memcpy(to, from, static_cast<size_t>(count * channels));
      } else if (channels == kLanes) {
        for (int64_t i = 0; i < count; ++i) {
          std::memcpy(to + i * kLanes, from + i * v_.channels, kLanes);
        }
      } else {
        for (int64_t i = 0; i < count; ++i) {
          copy_pixel(from + i * v_.channels, to + i * channels, channels);
        }
      }
      std::memset(to + count * channels, zero, static_cast<size_t>((size_[1] - count) * channels));
    }
  }

  static void copy_pixel(const uint8_t* from, uint8_t* to, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) std::memcpy(to + i, from + i, kLanes);
    if (i < count) std::memcpy(to + i, from + i, static_cast<size_t>(count - i));
  }

  const ConvSlices& s_;
  const Windows& v_;
  int64_t samples_;
  std::array<int64_t, 2> read_{}, size_{};  // lines and columns: that are read of the input, and
                                            // from one sample or line to the next
  int64_t lines_, plane_;                   // of a plane, and its bytes
};

struct GridJob {
  const Kernels& kernels;
  const PackedWeights& w;
  const GridConv& conv;
  const ConvSlices& slices;
  const Windows& windows;
  const uint8_t* planes;
  const std::vector<int64_t>& pieces;
  RequantizedOutput out;
  bool in_place;  // else rows are gathered

  bool at_hand() const { return in_place; }

  GemmInput rows(int64_t first, int64_t count, int64_t slice, Scratch& scratch) const {
    const uint8_t* from = planes + slice * conv.slice_step();
    if (!in_place) return gathered(from, first, count, scratch);
    const int64_t each = slices.room / slices.pieces / w.layout.group;
    GemmInput input{from + first * conv.row_step(), conv.row_step(), count,
                    each * static_cast<int64_t>(pieces.size()), nullptr};
    input.pieces = pieces.data();
    input.piece_groups = each;
    input.grid = conv.grid();
    input.grid.first = first;
    return input;
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first, Scratch&) const {
    multiply_rows(kernels, input, panel, in_place ? out : out.from_row(first));
  }

 private:
  GemmInput gathered(const uint8_t* from, int64_t first, int64_t count, Scratch& scratch) const {
    const int64_t stride = w.row_bytes();
    uint8_t* packed = packed_rows(w, count, scratch);
    Windows::Place place = windows.place(first);
    for (int64_t r = 0; r < count; ++r, windows.advance(place)) {
      const uint8_t* row = from + conv.row_of(place);
      uint8_t* to = packed + r * stride;
      // In whole vectors: the next run, or row, is written over what is too much.
      for (int64_t run = 0; run < slices.runs; ++run, to += slices.room) {
        const uint8_t* bytes = row + pieces[static_cast<size_t>(run * slices.pieces)];
        for (int64_t i = 0; i < slices.run_bytes(); i += kLanes) {
          std::memcpy(to + i, bytes + i, kLanes);
        }
      }
      pad_row(w, packed + r * stride);
    }
    return gemm_input(kernels, w, packed, stride, count, scratch);
  }
};

// `in_place`: whether the kernels read rows of the planes; else they are gathered from these.
inline void run_grid_conv(const Kernels& kernels, const PackedWeights& w, const ConvSlices& slices,
                          const ConvCall& call, bool in_place, int threads) {
  const Windows& v = call.windows;
  const GridConv conv(slices, v);
  uint8_t* planes = Scratch::of_thread().planes.reserve(conv.bytes());
  conv.copy(call.x, call.zero, planes, threads);
  const std::vector<int64_t> pieces = conv.pieces(slices.room / slices.pieces);
  const GridJob job{kernels, w, conv, slices, v, planes, pieces, call.out, in_place};
  run_gemm(w, in_place ? conv.rows() : v.pixels(), threads, job);
}

}  // namespace qcore
