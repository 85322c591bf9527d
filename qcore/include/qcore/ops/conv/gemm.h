// Convolutions as a matrix product whose rows are gathered block by block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "qcore/ops/conv/call.h"
#include "qcore/ops/gemm/driver.h"

namespace qcore {

constexpr int64_t kVector = 16;  // bytes that are copied at once

// Copies `count` bytes in whole vectors where the source has them, up to `limit`; at most 15 bytes
// behind `to + count` are overwritten.
inline void copy_vectors(uint8_t* to, const uint8_t* from, int64_t count, const uint8_t* limit) {
  constexpr int64_t kLong = 1024;
  if (count > kLong || limit - from < round_up(count, kVector)) {
    std::memcpy(to, from, static_cast<size_t>(count));
  } else {
    int64_t i = 0;
    for (; i + 4 * kVector <= count; i += 4 * kVector) std::memcpy(to + i, from + i, 4 * kVector);
    for (; i < count; i += kVector) std::memcpy(to + i, from + i, kVector);
  }
}

struct ConvJob {
  const Kernels& kernels;
  const PackedWeights& w;
  const Windows& windows;
  const uint8_t* x;
  const uint8_t* x_end;
  uint8_t zero;
  RequantizedOutput out;
  bool pointwise;  // every output pixel reads one input pixel, in order

  ConvJob(const Kernels& kernels_, const PackedWeights& w_, const ConvCall& call)
      : kernels(kernels_),
        w(w_),
        windows(call.windows),
        x(call.x),
        x_end(call.end()),
        zero(call.zero),
        out(call.out),
        pointwise(windows.taps() == 1 && windows.in == windows.out && windows.padding == Sizes3{}) {
  }

  bool at_hand() const { return pointwise && w.row_bytes() == w.k && reads_rows(kernels, w); }

  GemmInput rows(int64_t first, int64_t count, int64_t group, Scratch& scratch) const {
    const int64_t stride = w.row_bytes(), channels = windows.channels / w.groups,
                  offset = group * channels;
    if (pointwise && stride == w.k) {
      const uint8_t* from = x + first * windows.channels + offset;
      return gemm_input(kernels, w, from, windows.channels, count, scratch);
    }
    uint8_t* packed = packed_rows(w, count, scratch);
    Windows::Place place = windows.place(first);
    for (int64_t r = 0; r < count; ++r, windows.advance(place)) {
      uint8_t* row = packed + r * stride;
      if (const int64_t together = gather_line(place, channels, count - r, row); together > 0) {
        r += together - 1;
        place.index[2] += together - 1;
        place.start[2] += (together - 1) * windows.stride[2];
        continue;
      }
      gather(place, offset, channels, row);
      pad_row(w, row);
    }
    return gemm_input(kernels, w, packed, stride, count, scratch);
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first, Scratch&) const {
    multiply_rows(kernels, input, panel, out.from_row(first));
  }

 private:
  // As many windows of a line as lie inside, where whole rows of the kernel are few vectors; how
  // many: 0 where they are not.
  int64_t gather_line(const Windows::Place& p, int64_t channels, int64_t most, uint8_t* to) const {
    const Windows& v = windows;
    const int64_t bytes = v.kernel[2] * channels, vectors = (bytes + kVector - 1) / kVector;
    if (vectors > 4 || v.dilation[2] != 1 || channels != v.channels || !v.all_inside(p)) return 0;
    const int64_t last = (v.in[2] - v.kernel[2] + v.padding[2]) / v.stride[2];
    const int64_t count = std::min({most, last - p.index[2] + 1, v.out[2] - p.index[2]});
    const int64_t d = p.start[0] + (v.kernel[0] - 1) * v.dilation[0],
                  h = p.start[1] + (v.kernel[1] - 1) * v.dilation[1];
    if (x_end - v.at(x, p.sample, d, h, p.start[2] + (count - 1) * v.stride[2]) <
        vectors * kVector) {
      return 0;
    }
    if (vectors == 1) gather_inside<1>(p, count, to);
    if (vectors == 2) gather_inside<2>(p, count, to);
    if (vectors == 3) gather_inside<3>(p, count, to);
    if (vectors == 4) gather_inside<4>(p, count, to);
    return count;
  }

  template <int kVectors>
  void gather_inside(const Windows::Place& p, int64_t count, uint8_t* to) const {
    const Windows& v = windows;
    const int64_t bytes = v.kernel[2] * v.channels, step = v.stride[2] * v.channels,
                  row = v.dilation[1] * v.in[2] * v.channels;
    const int64_t depth = v.dilation[0] * v.in[1] * v.in[2] * v.channels, room = w.row_bytes();
    const uint8_t* from = v.at(x, p.sample, p.start[0], p.start[1], p.start[2]);
    for (int64_t i = 0; i < count; ++i, from += step, to += room) {
      uint8_t* tap = to;
      for (int64_t kd = 0; kd < v.kernel[0]; ++kd) {
        const uint8_t* line = from + kd * depth;
        for (int64_t kh = 0; kh < v.kernel[1]; ++kh, line += row, tap += bytes) {
          std::memcpy(tap, line, kVectors * kVector);
        }
      }
      pad_row(w, to);
    }
  }

  // One window: runs of whole kernel rows where they are contiguous, else tap by tap; zero points
  // for the padding.
  void gather(const Windows::Place& p, int64_t offset, int64_t channels, uint8_t* to) const {
    const Windows& v = windows;
    const bool runs = v.dilation[2] == 1 && channels == v.channels;
    if (runs && v.all_inside(p)) return gather_inside(p, to);
    for (int64_t kd = 0; kd < v.kernel[0]; ++kd) {
      const int64_t d = p.start[0] + kd * v.dilation[0];
      for (int64_t kh = 0; kh < v.kernel[1]; ++kh) {
        const int64_t h = p.start[1] + kh * v.dilation[1];
        const int64_t bytes = v.kernel[2] * channels;
        if (!v.inside(0, d) || !v.inside(1, h)) {
          std::memset(to, zero, static_cast<size_t>(bytes));
        } else if (runs) {
          copy_run(p, d, h, to);
        } else {
          for (int64_t kw = 0; kw < v.kernel[2]; ++kw) {
            const int64_t column = p.start[2] + kw * v.dilation[2];
            uint8_t* tap = to + kw * channels;
            if (v.inside(2, column)) {
              copy_vectors(tap, v.at(x, p.sample, d, h, column) + offset, channels, x_end);
            } else {
              std::memset(tap, zero, static_cast<size_t>(channels));
            }
          }
        }
        to += bytes;
      }
    }
  }

  void gather_inside(const Windows::Place& p, uint8_t* to) const {
    const Windows& v = windows;
    const int64_t bytes = v.kernel[2] * v.channels, row = v.in[2] * v.channels;
    for (int64_t kd = 0; kd < v.kernel[0]; ++kd) {
      const uint8_t* from =
          v.at(x, p.sample, p.start[0] + kd * v.dilation[0], p.start[1], p.start[2]);
      for (int64_t kh = 0; kh < v.kernel[1]; ++kh, from += v.dilation[1] * row, to += bytes) {
        copy_vectors(to, from, bytes, x_end);
      }
    }
  }

  void copy_run(const Windows::Place& p, int64_t d, int64_t h, uint8_t* to) const {
    const Windows& v = windows;
    const int64_t begin = std::clamp(p.start[2], int64_t{0}, v.in[2]);
    const int64_t end = std::clamp(p.start[2] + v.kernel[2], begin, v.in[2]);
    // a window may lie wholly in the padding, on either side
    const int64_t left = std::clamp(begin - p.start[2], int64_t{0}, v.kernel[2]) * v.channels,
                  middle = (end - begin) * v.channels;
    const int64_t right = v.kernel[2] * v.channels - left - middle;
    if (left) std::memset(to, zero, static_cast<size_t>(left));
    copy_vectors(to + left, v.at(x, p.sample, d, h, begin), middle, x_end);
    if (right) std::memset(to + left + middle, zero, static_cast<size_t>(right));
  }
};

}  // namespace qcore
