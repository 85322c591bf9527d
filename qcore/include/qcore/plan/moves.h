// Operations of a plan that only say where elements lie: views, without a step of their own where
// that can be.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/base/sizes.h"
#include "qcore/plan/plan.h"

namespace qcore {

inline Plan::Operation identity_operation() {
  return [](Program&, const std::vector<Place>& in) { return in[0]; };
}

inline Plan::Operation contiguous_operation() {
  return [](Program& program, const std::vector<Place>& in) { return program.contiguous(in[0]); };
}

// A size of the result: a number, or that of dimension `dim` of an input.
struct ReshapedSize {
  int64_t number;
  int input = -1;
  int64_t dim = 0;
};

inline Place reshaped(Program& program, const Place& x, Extent sizes) {
  sizes = contiguous_like(sizes);
  if (sizes.numel() != x.extent.numel()) {
    throw ArgumentError("its elements do not fill the sizes asked for");
  }
  if (same_sizes(sizes, x.extent)) return x;
  Place y = program.contiguous(x);
  y.extent = sizes;
  return y;
}

inline Plan::Operation reshape_operation(std::vector<ReshapedSize> sizes) {
  if (sizes.size() > kMostDimensions) throw ArgumentError("at most 8 dimensions");
  return [sizes = std::move(sizes)](Program& program, const std::vector<Place>& in) {
    Extent to;
    to.rank = static_cast<int>(sizes.size());
    int64_t known = 1, open = -1;
    for (size_t i = 0; i < sizes.size(); ++i) {
      int64_t size = sizes[i].number;
      if (sizes[i].input >= 0) {
        const Extent& asked = in[static_cast<size_t>(sizes[i].input)].extent;
        size = asked.size[asked.dimension(sizes[i].dim)];
      }
      if (size < -1 || (size == -1 && open >= 0)) {
        throw ArgumentError("the sizes asked for hold a negative number");
      }
      if (size == -1) {
        open = static_cast<int64_t>(i);
      } else {
        known = checked_product(known, to.size[i] = size);
      }
    }
    if (open >= 0) {
      if (known == 0) throw ArgumentError("a size of -1 beside a size of 0 is not known");
      to.size[static_cast<size_t>(open)] = in[0].extent.numel() / known;
    }
    return reshaped(program, in[0], to);
  };
}

inline Plan::Operation flatten_operation(int64_t start, int64_t end) {
  return [=](Program& program, const std::vector<Place>& in) {
    const Extent& x = in[0].extent;
    if (x.rank == 0) throw ArgumentError("x has no dimensions to flatten");
    const size_t first = x.dimension(start), last = x.dimension(end);
    if (first > last) throw ArgumentError("its first dimension comes after its last");
    Extent to;
    int64_t joined = 1;
    for (size_t i = 0; i < static_cast<size_t>(x.rank); ++i) {
      if (i >= first && i <= last) joined = checked_product(joined, x.size[i]);
      if (i < first || i > last) to.size[static_cast<size_t>(to.rank++)] = x.size[i];
      if (i == last) to.size[static_cast<size_t>(to.rank++)] = joined;
    }
    return reshaped(program, in[0], to);
  };
}

inline Plan::Operation permute_operation(std::vector<int64_t> dims) {
  return [dims = std::move(dims)](Program&, const std::vector<Place>& in) {
    Place y = in[0];
    const Extent& x = in[0].extent;
    if (dims.size() != static_cast<size_t>(x.rank)) {
      throw ArgumentError("x has " + std::to_string(x.rank) + " dimensions, other than its dims");
    }
    unsigned seen = 0;
    for (size_t i = 0; i < dims.size(); ++i) {
      const size_t d = x.dimension(dims[i]);
      seen |= 1u << d;
      y.extent.size[i] = x.size[d];
      y.extent.stride[i] = x.stride[d];
    }
    if (seen != (1u << dims.size()) - 1) throw ArgumentError("its dims repeat one");
    return y;
  };
}

inline Plan::Operation transpose_operation(int64_t first, int64_t second) {
  return [=](Program&, const std::vector<Place>& in) {
    Place y = in[0];
    const size_t a = y.extent.dimension(first), b = y.extent.dimension(second);
    std::swap(y.extent.size[a], y.extent.size[b]);
    std::swap(y.extent.stride[a], y.extent.stride[b]);
    return y;
  };
}

inline Extent without(const Extent& x, size_t d) {
  Extent y;
  for (size_t i = 0; i < static_cast<size_t>(x.rank); ++i) {
    if (i == d) continue;
    y.size[static_cast<size_t>(y.rank)] = x.size[i];
    y.stride[static_cast<size_t>(y.rank++)] = x.stride[i];
  }
  return y;
}

inline Plan::Operation squeeze_operation(int64_t dim) {
  return [=](Program&, const std::vector<Place>& in) {
    Place y = in[0];
    const size_t d = y.extent.dimension(dim);
    if (y.extent.size[d] == 1) y.extent = without(y.extent, d);
    return y;
  };
}

inline Plan::Operation unsqueeze_operation(int64_t dim) {
  return [=](Program&, const std::vector<Place>& in) {
    Place y = in[0];
    const Extent& x = in[0].extent;
    if (x.rank == kMostDimensions) throw ArgumentError("at most 8 dimensions");
    const size_t d = x.dimension(dim, 1);
    y.extent.rank = x.rank + 1;
    for (size_t i = 0; i <= static_cast<size_t>(x.rank); ++i) {
      y.extent.size[i] = i == d ? 1 : x.size[i - (i > d)];
      y.extent.stride[i] = i == d ? 1 : x.stride[i - (i > d)];
    }
    return y;
  };
}

inline Plan::Operation select_operation(int64_t dim, int64_t index) {
  return [=](Program&, const std::vector<Place>& in) {
    Place y = in[0];
    const Extent& x = in[0].extent;
    const size_t d = x.dimension(dim);
    if (index < -x.size[d] || index >= x.size[d]) {
      throw ArgumentError("x has no element " + std::to_string(index) + " in dimension " +
                          std::to_string(dim));
    }
    y.offset += (index < 0 ? index + x.size[d] : index) * x.stride[d] * y.item;
    y.extent = without(x, d);
    return y;
  };
}

// As Python slices; `stop` of 2^62 for none.
inline Place sliced(Place x, size_t d, int64_t start, int64_t stop, int64_t step) {
  const int64_t size = x.extent.size[d];
  if (step < 1) throw ArgumentError("a slice's step must be at least 1");
  const auto inside = [&](int64_t i) { return std::clamp(i < 0 ? i + size : i, int64_t{0}, size); };
  const int64_t first = inside(start), end = std::max(inside(stop), first);
  x.offset += first * x.extent.stride[d] * x.item;
  x.extent.size[d] = divided_up(end - first, step);
  if (x.extent.size[d] > 1) {
    x.extent.stride[d] *= step;  // of a single one it means nothing, and could overflow
  }
  return x;
}

inline Plan::Operation slice_operation(int64_t dim, int64_t start, int64_t stop, int64_t step) {
  return [=](Program&, const std::vector<Place>& in) {
    return sliced(in[0], in[0].extent.dimension(dim), start, stop, step);
  };
}

inline Plan::Operation chunk_operation(int64_t chunks, int64_t dim, int64_t index) {
  return [=](Program&, const std::vector<Place>& in) {
    const size_t d = in[0].extent.dimension(dim);
    const int64_t size = in[0].extent.size[d];
    if (chunks < 1) throw ArgumentError("chunks must be at least 1");
    const int64_t length = std::max<int64_t>(divided_up(size, chunks), 1),
                  count = std::max<int64_t>(divided_up(size, length), 1);
    const int64_t piece = index < 0 ? index + count : index;
    if (piece < 0 || piece >= count) {
      throw ArgumentError("there are " + std::to_string(count) + " chunks, and none numbered " +
                          std::to_string(index));
    }
    return sliced(in[0], d, piece * length, (piece + 1) * length, 1);
  };
}

}  // namespace qcore
