// Copies of the elements of a tensor from one layout to another.
#pragma once

#include <cstdint>
#include <cstring>

#include "qcore/base/extent.h"
#include "qcore/base/thread_pool.h"

namespace qcore {

template <class T>
void copy_row(const T* from, int64_t step, T* to, int64_t count) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * step];
  }
}

// rows x columns, where the rows lie in a column of `from`.
template <class T>
void copy_transposed(const T* from, int64_t column_step, T* to, int64_t row_step, int64_t rows,
                     int64_t columns) {
  constexpr int64_t kBlock = 64;
  for (int64_t first = 0; first < rows; first += kBlock) {
    const int64_t end = first + kBlock < rows ? first + kBlock : rows;
    for (int64_t c = 0; c < columns; ++c) {
      const T* column = from + c * column_step;
      for (int64_t r = first; r < end; ++r) to[r * row_step + c] = column[r];
    }
  }
}

// Elements of `from` into the dense layout `to`.
template <class T>
void copy_typed(const T* x, const Extent& from, T* y, const Extent& to, int threads) {
  constexpr int64_t kGrain = 1 << 14;
  const int64_t count = to.numel();
  if (count == 0) return;
  if (to.rank == 0) {
    *y = *x;
    return;
  }
  const auto order = order_of(to.rank, !is_contiguous(to));
  const auto last = static_cast<size_t>(to.rank) - 1;
  const size_t inner = order[last], second = last > 0 ? order[last - 1] : inner;
  const bool transposed = last > 0 && from.stride[inner] != 1 && from.stride[second] == 1;
  const size_t outer_dimensions = transposed ? last - 1 : last;
  const int64_t block = transposed ? to.size[inner] * to.size[second] : to.size[inner];
  parallel_ranges(threads, count / block, kGrain / block + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t rest = i, source = 0;
      for (size_t d = outer_dimensions; d-- > 0;) {
        const int64_t n = to.size[order[d]];
        source += rest % n * from.stride[order[d]];
        rest /= n;
      }
      if (transposed) {
        copy_transposed(x + source, from.stride[inner], y + i * block, to.size[inner],
                        to.size[second], to.size[inner]);
      } else {
        copy_row(x + source, from.stride[inner], y + i * block, block);
      }
    }
  });
}

inline void copy_elements(const uint8_t* x, const Extent& from, uint8_t* y, const Extent& to,
                          int item, int threads) {
  if (item == 1) return copy_typed(x, from, y, to, threads);
  if (item == 8) {
    return copy_typed(reinterpret_cast<const int64_t*>(x), from, reinterpret_cast<int64_t*>(y), to,
                      threads);
  }
  copy_typed(reinterpret_cast<const float*>(x), from, reinterpret_cast<float*>(y), to, threads);
}

}  // namespace qcore
