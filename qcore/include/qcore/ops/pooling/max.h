// The largest of each window.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/scratch.h"
#include "qcore/ops/windows.h"

namespace qcore {

// The largest of each window: of whole lines first, then along these.
struct MaxPool {
  const Kernels& kernels;
  const Windows& v;
  const uint8_t* x;
  uint8_t* y;

  void line(int64_t index) const {
    const Windows::Place place = v.place(index * v.out[2]);
    uint8_t* to = y + index * v.out[2] * v.channels;
    Scratch& scratch = Scratch::of_thread();
    const uint8_t** rows = scratch.taps.reserve(v.most_inside(0) * v.most_inside(1));
    int64_t count = 0;
    const Windows::Taps depth = v.inside_taps(0, place.start[0]),
                        height = v.inside_taps(1, place.start[1]);
    for (int64_t kd = depth.begin; kd < depth.end; ++kd) {
      for (int64_t kh = height.begin; kh < height.end; ++kh) {
        rows[count++] = v.at(x, place.sample, place.start[0] + kd * v.dilation[0],
                             place.start[1] + kh * v.dilation[1], 0);
      }
    }
    if (count == 0) {
      std::memset(to, 0, static_cast<size_t>(v.out[2] * v.channels));
    } else if (count == 1) {
      along(rows[0], to);
    } else {
      uint8_t* together = scratch.rows.reserve(v.in[2] * v.channels);
      kernels.max({rows, count, together, v.in[2] * v.channels}, 1, 0);
      along(together, to);
    }
  }

 private:
  void along(const uint8_t* from, uint8_t* to) const {
    const int64_t step = v.stride[2], reach = (v.kernel[2] - 1) * v.dilation[2],
                  room = v.in[2] - 1 - reach + v.padding[2];
    const int64_t begin =
        std::min((v.padding[2] + step - 1) / step, v.out[2]);  // of the windows that lie inside
    const int64_t end = room < 0 ? begin : std::clamp(room / step + 1, begin, v.out[2]);
    for (int64_t i = 0; i < begin; ++i) outputs(from, i, 1, to);
    if (begin < end) outputs(from, begin, end - begin, to);
    for (int64_t i = end; i < v.out[2]; ++i) outputs(from, i, 1, to);
  }

  void outputs(const uint8_t* from, int64_t first, int64_t count, uint8_t* to) const {
    const uint8_t** taps = Scratch::of_thread().taps.reserve(v.most_inside(2));
    int64_t inside = 0;
    const int64_t start = first * v.stride[2] - v.padding[2];
    const Windows::Taps width = v.inside_taps(2, start);
    for (int64_t k = width.begin; k < width.end; ++k) {
      taps[inside++] = from + (start + k * v.dilation[2]) * v.channels;
    }
    to += first * v.channels;
    if (inside == 0) {
      std::memset(to, 0, static_cast<size_t>(v.channels));
    } else if (v.stride[2] == 1) {
      kernels.max({taps, inside, to, count * v.channels}, 1, 0);
    } else {
      kernels.max({taps, inside, to, v.channels}, count, v.stride[2] * v.channels);
    }
  }
};

inline void run_max_pool(const Kernels& kernels, const Windows& v, const uint8_t* x, uint8_t* y,
                         int threads) {
  constexpr int64_t kGrainBytes = 1 << 16;
  const MaxPool pool{kernels, v, x, y};
  const int64_t line_bytes = v.in[2] * v.channels * v.most_inside(0) * v.most_inside(1);
  parallel_ranges(threads, v.batch * v.out[0] * v.out[1], kGrainBytes / (line_bytes + 1) + 1,
                  [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) pool.line(i);
  });
}

}  // namespace qcore
