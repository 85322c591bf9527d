// Drivers of interpolation: which points of the input each point of the result lies between.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/scratch.h"

namespace qcore {

// One dimension. factor: how much greater the result was asked to be; 0: as the sizes say.
struct Resampling {
  int64_t size, result;
  double factor;

  float step() const {
    return factor != 0.0 ? static_cast<float>(1.0 / factor)
                         : static_cast<float>(size) / static_cast<float>(result);
  }

  // The point at or before a place; bounded before it is an integer, since a place may be huge.
  int64_t point(float place) const {
    return std::min(static_cast<int64_t>(std::min(std::floor(place), 0x1p62f)), size - 1);
  }
};

inline std::vector<int64_t> nearest_points(const Resampling& r) {
  std::vector<int64_t> points(static_cast<size_t>(r.result));
  const float step = r.step();
  for (int64_t i = 0; i < r.result; ++i) {
    points[static_cast<size_t>(i)] = r.point(static_cast<float>(i) * step);
  }
  return points;
}

// The points before and after each point of the result, and their weights.
class NeighbourPoints {
 public:
  NeighbourPoints(const Resampling& r, bool corners) {
    const auto count = static_cast<size_t>(r.result);
    first_.resize(count);
    second_.resize(count);
    before_.resize(count);
    after_.resize(count);
    const float aligned =
        r.result > 1 ? static_cast<float>(r.size - 1) / static_cast<float>(r.result - 1) : 0.0f;
    const float step = corners ? aligned : r.step();
    for (size_t i = 0; i < count; ++i) {
      const auto index = static_cast<float>(i);
      const float place = corners ? index * step : std::max((index + 0.5f) * step - 0.5f, 0.0f);
      first_[i] = r.point(place);
      second_[i] = std::min(first_[i] + 1, r.size - 1);
      after_[i] = place - static_cast<float>(first_[i]);
      before_[i] = 1.0f - after_[i];
    }
  }

  Neighbours get() const { return {first_.data(), second_.data(), before_.data(), after_.data()}; }

 private:
  std::vector<int64_t> first_, second_;
  std::vector<float> before_, after_;
};

// x (planes, height, width, unit), y the same with other sizes; x may be int8, and y is 128 more
// then.
struct Bilinear {
  const uint8_t* x;
  uint8_t* y;
  int64_t planes, unit;
  Resampling height, width;
  bool corners;
  float zero;
  bool is_signed;
};

inline void run_bilinear(const Kernels& kernels, const Bilinear& of, int threads) {
  constexpr int64_t kGrainValues = 1 << 14;
  const Resampling &height = of.height, &width = of.width;
  const int64_t unit = of.unit;
  const float low = of.is_signed ? -128.0f : 0.0f;
  const NeighbourPoints down(height, of.corners), across(width, of.corners);
  const Neighbours rows = down.get(), columns = across.get();
  const int64_t length = width.result * unit;
  parallel_ranges(threads, of.planes * height.result,
                  kGrainValues / std::max<int64_t>(length, 1) + 1, [&](int64_t begin, int64_t end) {
    float* lines[2] = {Scratch::of_thread().floats.reserve(2 * length), nullptr};
    lines[1] = lines[0] + length;
    const uint8_t* held[2] = {nullptr, nullptr};  // the row of x that each line comes from
    const auto fill = [&](int line, const uint8_t* row) {
      if (held[line] != row) {
        kernels.blend_pixels({row, of.is_signed, lines[line], columns, width.result, unit});
      }
      held[line] = row;
    };
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % height.result;
      const uint8_t* plane = of.x + i / height.result * height.size * width.size * unit;
      const uint8_t *above = plane + rows.first[row] * width.size * unit,
                    *below = plane + rows.second[row] * width.size * unit;
      if (held[1] == above) {
        std::swap(lines[0], lines[1]);
        std::swap(held[0], held[1]);
      }
      fill(0, above);
      fill(1, below);
      kernels.blend_rows({lines[0], lines[1], of.y + i * length, length, rows.before[row],
                          rows.after[row], of.zero, low});
    }
  });
}

// x (planes, depth, height, width, unit), y the same with other sizes.
struct Nearest {
  const uint8_t* x;
  uint8_t* y;
  int64_t planes, unit;
  Resampling depth, height, width;
};

inline void run_nearest(const Nearest& of, int threads) {
  const Resampling &depth = of.depth, &height = of.height, &width = of.width;
  const int64_t unit = of.unit;
  constexpr int64_t kGrainBytes = 1 << 15;
  const std::vector<int64_t> d = nearest_points(depth), h = nearest_points(height),
                             w = nearest_points(width);
  const int64_t length = width.result * unit, rows = depth.result * height.result;
  parallel_ranges(threads, of.planes * rows, kGrainBytes / std::max<int64_t>(length, 1) + 1,
                  [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t plane =
          i / rows * depth.size + d[static_cast<size_t>(i % rows / height.result)];
      const uint8_t* from =
          of.x +
          (plane * height.size + h[static_cast<size_t>(i % height.result)]) * width.size * unit;
      uint8_t* to = of.y + i * length;
      for (const int64_t point : w) {
        if (unit == 1) {
          *to = from[point];
        } else {
          std::copy_n(from + point * unit, unit, to);
        }
        to += unit;
      }
    }
  });
}

}  // namespace qcore
