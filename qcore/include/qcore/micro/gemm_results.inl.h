// From the sums of a tile to results in memory.
#pragma once

#include <cstdint>

#include "qcore/micro/epilogue.inl.h"
#include "qcore/micro/gemm_rows.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// The epilogue of sums [row][unit], which began with the offsets or did not. What is rounded
// together: four vectors of a row where it has them, all that it has where some bytes of vectors
// can be stored, else vectors of a column.
template <int U, bool kBegun, class Output>
QCORE_INLINE void finish(const I32* sums, const GemmPanel& panel, const Output& output, int64_t row,
                         int rows, int unit) {
  const Output out = output;  // a copy that stores of bytes cannot alias
  const auto rounding = rounding_of(out);
  const int first = unit * kLanes;
  auto* y = out.y + row * out.stride + panel.output + first;
  constexpr bool kSome = U > 1 && kStoresSome && sizeof *y == 1;
  const auto columns_of = [&](int u) QCORE_INLINE_LAMBDA {
    auto columns = load_columns(out, panel.column + first + u * kLanes);
    if (kBegun) take_offset(columns);
    return columns;
  };
  const auto value = [&](int r, int u, const auto& columns, int count) QCORE_INLINE_LAMBDA {
    return result(sums[r * U + u], out, columns, row + r, panel.output + first + u * kLanes, count);
  };
  const int together = panel.columns - first;
  if constexpr (U == 4) {
    if (together >= 4 * kLanes) {
      const auto c0 = columns_of(0), c1 = columns_of(1), c2 = columns_of(2), c3 = columns_of(3);
      for (int r = 0; r < rows; ++r, y += out.stride) {
        store_rounded(y, kLanes, value(r, 0, c0, kLanes), value(r, 1, c1, kLanes),
                      value(r, 2, c2, kLanes), value(r, 3, c3, kLanes), rounding);
      }
      return;
    }
  }
  if constexpr (kSome) {
    decltype(columns_of(0)) columns[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { columns[u.value] = columns_of(u.value); });
    for (int r = 0; r < rows; ++r, y += out.stride) {
      F32 v[4] = {set_f32(0.0f), set_f32(0.0f), set_f32(0.0f), set_f32(0.0f)};
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        v[u.value] = value(r, u.value, columns[u.value], together - u.value * kLanes);
      });
      store_rounded_some(y, together, v[0], v[1], v[2], v[3], rounding);
    }
    return;
  }
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    const int lane = u.value * kLanes, count = together - lane;
    const auto columns = columns_of(u.value);
    const auto at = [&](int r) QCORE_INLINE_LAMBDA { return value(r, u.value, columns, count); };
    auto* to = y + lane;
    int r = 0;
    if (count >= kLanes) {
      for (; r + 4 <= rows; r += 4, to += 4 * out.stride) {
        store_rounded(to, out.stride, at(r), at(r + 1), at(r + 2), at(r + 3), rounding);
      }
      for (; r + 2 <= rows; r += 2, to += 2 * out.stride) {
        store_rounded(to, out.stride, at(r), at(r + 1), rounding);
      }
      if (r < rows) store_some(to, at(r), kLanes, rounding);
      return;
    }
    for (; r < rows; ++r, to += out.stride) store_some(to, at(r), count, rounding);
  });
}

// Calls run(first row of it, row of the result, count) for each run of results among rows [row, row
// + rows).
template <class Run>
QCORE_INLINE void each_run(const GemmInput& in, int64_t row, int64_t rows, const Run& run) {
  const RowGrid grid = in.grid;
  if (grid.pitch == 0) return run(row, row, rows);
  const int64_t line = (grid.first + row) / grid.pitch, end = row + rows;
  int64_t column = (grid.first + row) % grid.pitch, sample = line / grid.lines,
          down = line % grid.lines;
  for (int64_t r = row; r < end; column = 0) {
    const int64_t here = grid.pitch - column < end - r ? grid.pitch - column : end - r;
    const int64_t count = grid.width - column < here ? grid.width - column : here;
    if (down < grid.height && count > 0) {
      run(r, (sample * grid.height + down) * grid.width + column, count);
    }
    r += here;
    if (++down == grid.lines) {
      down = 0;
      ++sample;
    }
  }
}

// The epilogue of a tile whose sums began with the offsets.
template <int U, class Output>
__attribute__((noinline)) void finish_runs(const I32* sums, const GemmInput& in,
                                           const GemmPanel& panel, const Output& out, int64_t row,
                                           int rows, int unit) {
  each_run(in, row, rows, [&](int64_t from, int64_t result, int64_t count) {
    finish<U, true>(sums + (from - row) * U, panel, out, result, static_cast<int>(count), unit);
  });
}
template <int U, class Output>
QCORE_INLINE void finish_results(const I32* sums, const GemmInput& in, const GemmPanel& panel,
                                 const Output& out, int64_t row, int rows, int unit) {
  if constexpr (kInPlace) {
    if (in.pieces) return finish_runs<U>(sums, in, panel, out, row, rows, unit);
  }
  finish<U, true>(sums, panel, out, row, rows, unit);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
