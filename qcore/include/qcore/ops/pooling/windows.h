// Which rows of the input belong to each output pixel of a pooling.
#pragma once

#include <cstdint>

#include "qcore/base/buffer.h"
#include "qcore/base/thread_pool.h"
#include "qcore/ops/scratch.h"
#include "qcore/ops/windows.h"

namespace qcore {

// Calls finish(rows, count, y, place) for each output pixel with the rows of its window that lie
// inside of the input.
template <class Finish>
void each_window(const Windows& v, const uint8_t* x, uint8_t* y, int threads,
                 const Finish& finish) {
  constexpr int64_t kGrainBytes = 1 << 16;
  const int64_t grain = kGrainBytes / (v.channels * v.most_inside() + 1) + 1;
  parallel_ranges(threads, v.pixels(), grain, [&](int64_t begin, int64_t end) {
    const uint8_t** rows = Scratch::of_thread().taps.reserve(v.most_inside());
    Windows::Place place = v.place(begin);
    for (int64_t pixel = begin; pixel < end; ++pixel, v.advance(place)) {
      int64_t count = 0;
      v.each_tap(x, place, [&](const uint8_t* tap) { rows[count++] = tap; });
      finish(rows, count, y + pixel * v.channels, place);
    }
  });
}

// The same for windows [floor(i * in / out), ceil((i + 1) * in / out)) along each dimension.
template <class Finish>
void each_adaptive_window(const Windows& v, const uint8_t* x, uint8_t* y, int threads,
                          const Finish& finish) {
  const auto begin_of = [&](size_t d, int64_t i) { return i * v.in[d] / v.out[d]; };
  const auto end_of = [&](size_t d, int64_t i) {
    return ((i + 1) * v.in[d] + v.out[d] - 1) / v.out[d];
  };
  parallel_ranges(threads, v.pixels(), 1, [&](int64_t first, int64_t last) {
    Buffer<const uint8_t*>& taps = Scratch::of_thread().taps;
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const int64_t ow = pixel % v.out[2], oh = pixel / v.out[2] % v.out[1],
                    od = pixel / (v.out[2] * v.out[1]) % v.out[0];
      const int64_t sample = pixel / (v.out[2] * v.out[1] * v.out[0]);
      const Sizes3 begin{begin_of(0, od), begin_of(1, oh), begin_of(2, ow)},
          end{end_of(0, od), end_of(1, oh), end_of(2, ow)};
      const uint8_t** rows =
          taps.reserve((end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]));
      int64_t count = 0;
      for (int64_t d = begin[0]; d < end[0]; ++d) {
        for (int64_t h = begin[1]; h < end[1]; ++h) {
          for (int64_t w = begin[2]; w < end[2]; ++w) rows[count++] = v.at(x, sample, d, h, w);
        }
      }
      finish(rows, count, y + pixel * v.channels);
    }
  });
}

}  // namespace qcore
