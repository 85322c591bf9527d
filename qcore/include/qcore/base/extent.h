// Sizes and strides of a tensor, in elements.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "qcore/base/error.h"
#include "qcore/base/sizes.h"

namespace qcore {

constexpr int kMostDimensions = 8;

struct Extent {
  int rank = 0;
  std::array<int64_t, kMostDimensions> size{}, stride{};

  // Raises ArgumentError for sizes that no memory holds, also where one of them is 0.
  int64_t numel() const {
    int64_t count = 1;
    bool empty = false;
    for (size_t i = 0; i < static_cast<size_t>(rank); ++i) {
      if (size[i] == 0) {
        empty = true;
      } else {
        count = checked_product(count, size[i]);
      }
    }
    return empty ? 0 : count;
  }
  // Negative ones count from the last. Raises ArgumentError for one that is not there.
  size_t dimension(int64_t d, int64_t room = 0) const {
    const int64_t count = rank + room;
    if (d < -count || d >= count) {
      throw ArgumentError("x has " + std::to_string(rank) + " dimensions, and so none numbered " +
                          std::to_string(d));
    }
    return static_cast<size_t>(d < 0 ? d + count : d);
  }
};

// The dimensions from the outermost in memory to the innermost.
inline std::array<size_t, kMostDimensions> order_of(int rank, bool channels_last) {
  std::array<size_t, kMostDimensions> order{};
  for (int i = 0; i < rank; ++i) {
    order[static_cast<size_t>(i)] =
        static_cast<size_t>(channels_last && i > 0 ? (i + 1 < rank ? i + 1 : 1) : i);
  }
  return order;
}

inline Extent laid_out(Extent x, bool channels_last) {
  x.numel();  // raises ArgumentError where strides would overflow
  const auto order = order_of(x.rank, channels_last && x.rank > 2);
  int64_t step = 1;
  for (size_t i = static_cast<size_t>(x.rank); i-- > 0;) {
    x.stride[order[i]] = step;
    step *= x.size[order[i]];
  }
  return x;
}

inline bool same_strides(const Extent& x, const Extent& y) {
  for (size_t i = 0; i < static_cast<size_t>(x.rank); ++i) {
    if (x.size[i] > 1 && x.stride[i] != y.stride[i]) return false;
  }
  return true;
}

inline Extent contiguous_like(const Extent& x) { return laid_out(x, false); }
inline Extent channels_last_like(const Extent& x) { return laid_out(x, true); }
inline bool is_contiguous(const Extent& x) {
  return x.numel() == 0 || same_strides(x, contiguous_like(x));
}
inline bool is_channels_last(const Extent& x) {
  return x.rank > 2 && (x.numel() == 0 || same_strides(x, channels_last_like(x)));
}

inline bool same_sizes(const Extent& x, const Extent& y) {
  return x.rank == y.rank && std::equal(x.size.begin(), x.size.begin() + x.rank, y.size.begin());
}

// x with dimensions of size 1, and those that it lacks in front, repeated. Raises ArgumentError
// where that does not give `sizes`.
inline Extent expanded(const Extent& x, const Extent& sizes) {
  Extent y = sizes;
  for (int i = 0; i < sizes.rank; ++i) {
    const auto to = static_cast<size_t>(i), from = static_cast<size_t>(i - (sizes.rank - x.rank));
    const bool has = i >= sizes.rank - x.rank;
    if (has && x.size[from] != sizes.size[to] && x.size[from] != 1) {
      throw ArgumentError("the sizes of its operands do not broadcast");
    }
    y.stride[to] = has && x.size[from] == sizes.size[to] ? x.stride[from] : 0;
  }
  return y;
}

inline Extent broadcast(const Extent& a, const Extent& b) {
  Extent y;
  y.rank = a.rank > b.rank ? a.rank : b.rank;
  for (int i = 0; i < y.rank; ++i) {
    const int ia = i - (y.rank - a.rank), ib = i - (y.rank - b.rank);
    const int64_t na = ia < 0 ? 1 : a.size[static_cast<size_t>(ia)],
                  nb = ib < 0 ? 1 : b.size[static_cast<size_t>(ib)];
    y.size[static_cast<size_t>(i)] = na == 1 ? nb : na;
  }
  expanded(a, y);
  expanded(b, y);
  return y;
}

}  // namespace qcore
