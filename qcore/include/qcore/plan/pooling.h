// Operations of a plan that pool and average.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/normalization.h"
#include "qcore/ops/pooling/average.h"
#include "qcore/ops/pooling/max.h"
#include "qcore/ops/windows.h"
#include "qcore/plan/moves.h"
#include "qcore/plan/plan.h"

namespace qcore {

// Windows over x ([batch,] channels, *spatial) in `rank` spatial dimensions; the last of the three
// sizes are used.
struct PoolingGeometry : WindowGeometry {
  int rank = 0;
  bool ceil_mode = false;

  PoolingGeometry(const WindowGeometry& geometry, int rank_, bool ceil_mode_)
      : WindowGeometry(geometry), rank(rank_), ceil_mode(ceil_mode_) {}

  int64_t output_size(int64_t size, size_t d) const {
    const int64_t room = size + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1;
    if (room < 0) throw ArgumentError("a window does not fit into the padded input");
    const int64_t steps = ceil_mode ? (room + stride[d] - 1) / stride[d] : room / stride[d];
    return ceil_mode && steps * stride[d] >= size + padding[d] ? steps : steps + 1;
  }
};

inline void check_rank(int rank) {
  if (rank < 1 || rank > 3) {
    throw ArgumentError("pooling goes over 1 to 3 dimensions, not " + std::to_string(rank));
  }
}

// x with a batch and channels innermost, and the windows over it but for their output sizes.
inline Place pooling_input(Program& program, Place x, int rank, Windows& windows) {
  Extent& sizes = x.extent;
  if (sizes.rank == rank + 1) {
    for (size_t i = static_cast<size_t>(sizes.rank); i > 0; --i) {
      sizes.size[i] = sizes.size[i - 1];
      sizes.stride[i] = sizes.stride[i - 1];
    }
    sizes.size[0] = 1;
    ++sizes.rank;
  }
  if (sizes.rank != rank + 2) {
    throw ArgumentError("pooling over " + std::to_string(rank) +
                        " dimensions does not take an input of " + std::to_string(x.extent.rank));
  }
  for (int i = 1; i < sizes.rank; ++i) {
    if (sizes.size[static_cast<size_t>(i)] == 0) {
      throw ArgumentError("x is empty, and not only in its batch");
    }
  }
  windows = Windows(windows, sizes.rank, sizes.size.data());
  return program.channels_last(x);
}

// The result without the batch that `pooling_input` may have added.
inline Place without_added_batch(Place y, int rank) {
  if (y.extent.rank == rank) return y;
  y.extent = without(y.extent, 0);
  return y;
}

template <class Run>
Place pooled(Program& program, const Place& given, const PoolingGeometry& geometry,
             const Run& run) {
  Windows windows;
  static_cast<WindowGeometry&>(windows) = geometry;
  const Place x = pooling_input(program, given, geometry.rank, windows);
  for (size_t d = 0; d < 3; ++d) windows.out[d] = geometry.output_size(windows.in[d], d);
  const Place y = program.step({x}, output_of(windows, x.extent, windows.channels), 1,
                               [=](const uint8_t* const* in, uint8_t* out, int threads) {
    run(windows, in[0], out, threads);
  });
  return without_added_batch(y, given.extent.rank);
}

inline Plan::Operation max_pool_operation(const Kernels& kernels, const PoolingGeometry& geometry) {
  check_rank(geometry.rank);
  check_geometry(geometry);
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    return pooled(program, in[0], geometry,
                  [&kernels](const Windows& v, const uint8_t* x, uint8_t* y, int threads) {
      run_max_pool(kernels, v, x, y, threads);
    });
  };
}

inline Plan::Operation avg_pool_operation(const Kernels& kernels, const PoolingGeometry& geometry,
                                          int32_t zero, bool include_pad, int64_t divisor) {
  check_rank(geometry.rank);
  check_geometry(geometry);
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    return pooled(program, in[0], geometry,
                  [=, &kernels](const Windows& v, const uint8_t* x, uint8_t* y, int threads) {
      run_avg_pool(kernels, {v, x, y, zero}, include_pad, divisor, threads);
    });
  };
}

// `sizes`: of the last three dimensions; 0 for that of x.
inline Plan::Operation adaptive_avg_pool_operation(const Kernels& kernels, int rank,
                                                   const Sizes3& sizes, int32_t zero) {
  check_rank(rank);
  if (*std::min_element(sizes.begin(), sizes.end()) < 0) {
    throw ArgumentError("sizes must be at least 1, or 0 for that of x");
  }
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    Windows windows;
    const Place x = pooling_input(program, in[0], rank, windows);
    for (size_t d = 0; d < 3; ++d) {
      windows.out[d] = static_cast<int>(d) < 3 - rank ? 1 : (sizes[d] ? sizes[d] : windows.in[d]);
    }
    const Place y =
        program.step({x}, output_of(windows, x.extent, windows.channels), 1,
                     [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      run_adaptive_avg_pool(kernels, {windows, from[0], to, zero}, threads);
    });
    return without_added_batch(y, in[0].extent.rank);
  };
}

inline Plan::Operation mean_operation(const Kernels& kernels, std::vector<int64_t> dims,
                                      bool keepdim, int32_t zero) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Extent& sizes = in[0].extent;
    std::array<bool, kMostDimensions> reduced{};
    for (const int64_t d : dims) reduced[sizes.dimension(d)] = true;
    if (dims.empty()) reduced.fill(true);
    Place x = in[0];  // what is kept, and then what is averaged
    Extent kept, shown;
    int64_t count = 1;
    x.extent.rank = 0;
    const auto append = [&](size_t i) {
      x.extent.size[static_cast<size_t>(x.extent.rank)] = sizes.size[i];
      x.extent.stride[static_cast<size_t>(x.extent.rank++)] = sizes.stride[i];
    };
    for (size_t i = 0; i < static_cast<size_t>(sizes.rank); ++i) {
      if (!reduced[i]) {
        append(i);
        kept.size[static_cast<size_t>(kept.rank++)] = sizes.size[i];
      }
      if (!reduced[i] || keepdim) {
        shown.size[static_cast<size_t>(shown.rank++)] = reduced[i] ? 1 : sizes.size[i];
      }
    }
    for (size_t i = 0; i < static_cast<size_t>(sizes.rank); ++i) {
      if (reduced[i]) {
        append(i);
        count *= sizes.size[i];
      }
    }
    Place y;
    if (sizes.rank == 4 && count > 0 && count < (1 << 23) && !reduced[0] && !reduced[1] &&
        reduced[2] && reduced[3]) {
      y = adaptive_avg_pool_operation(kernels, 2, {1, 1, 1}, zero)(program, in);
    } else {
      x = program.contiguous(x);
      const int64_t rows = kept.numel();
      y = program.step({x}, contiguous_like(kept), 1,
                       [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
        if (count == 0) {
          std::memset(to, 255, static_cast<size_t>(rows));  // 0 / 0
        } else {
          run_mean_of_rows(kernels, {from[0], to, rows, count, zero}, threads);
        }
      });
    }
    y.extent = contiguous_like(shown);
    return y;
  };
}

}  // namespace qcore
