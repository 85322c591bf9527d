// Tiles of a matrix multiplication: rows against units of weights, in registers, with their
// epilogue.
#pragma once

#include <utility>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

constexpr bool kWidens = !std::is_void_v<Widening>, kOwnTiles = !std::is_void_v<Tiles>, kBlocks = !std::is_void_v<Blocks>;
using RowValue = std::conditional_t<kWidens, int16_t, uint8_t>;  // what the tiles read of rows

template <class Own>
constexpr Layout layout_of() {
  if constexpr (std::is_void_v<Own>) {
    Layout layout;
    layout.widens = kWidens;
    return layout;
  } else {
    return Own::kLayout;
  }
}
template <class Own>
constexpr int64_t row_step_of() {
  if constexpr (std::is_void_v<Own>) {
    return 1;
  } else {
    return Own::kRowStep;
  }
}
template <class OfBlocks>
constexpr Layout with_pieces(Layout layout) {
  if constexpr (!std::is_void_v<OfBlocks>) layout.piece = OfBlocks::kGroups;
  return layout;
}
constexpr bool kInPlace = !kWidens && !kOwnTiles;  // rows are read where they are
constexpr Layout kLayout = with_pieces<Blocks>(layout_of<Tiles>());
constexpr int64_t kRowStep = row_step_of<Tiles>();  // tiles begin at multiples of it
constexpr int64_t kUnitBytes = kLanes * kLayout.group;

// From so many groups on, fewer products are worth that sums wait in memory.
QCORE_INLINE bool halves_products(const GemmInput& in) { return in.groups >= 64; }

// Behind each row whose products are halved, as 32 bits, its excess: what its sums begin with.
template <class Wide>
void widen_rows(const GemmInput& in, void* to) {
  const bool halved = halves_products(in);
  for (int64_t row = 0; row < in.rows; ++row) {
    const uint8_t* x = in.x + row * in.stride;
    auto* wide = static_cast<int16_t*>(to) + row * in.prepared_stride;
    if (halved) {
      const int32_t excess = Wide::template row<true>(x, wide, in.groups);
      std::memcpy(wide + in.groups * kGroup, &excess, sizeof excess);
    } else {
      Wide::template row<false>(x, wide, in.groups);
    }
  }
}

template <class Wide = Widening, class Own = Tiles>
constexpr auto rows_preparer() -> void (*)(const GemmInput&, void*) {
  if constexpr (!std::is_void_v<Own>) {
    return Own::prepare;
  } else if constexpr (!std::is_void_v<Wide>) {
    return widen_rows<Wide>;
  } else {
    return nullptr;
  }
}

template <class Value>
QCORE_INLINE const Value* row_of(const GemmInput& in, int64_t row) {
  if constexpr (sizeof(Value) == 2) {
    return static_cast<const int16_t*>(in.prepared) + row * in.prepared_stride;
  } else {
    return in.x + row * in.stride;
  }
}

inline int32_t excess_of_row(const GemmInput& in, int64_t row) {
  int32_t excess;
  std::memcpy(&excess, row_of<int16_t>(in, row) + in.groups * kGroup, sizeof excess);
  return excess;
}

// Rows of the tile that most products are summed in.
template <class Wide, class OfBlocks = Blocks>
constexpr int rows_together() {
  if constexpr (!std::is_void_v<OfBlocks>) {
    return OfBlocks::rows(kTileUnits);
  } else if constexpr (std::is_void_v<Wide>) {
    return tile_rows(kTileUnits);
  } else {
    return Wide::kRows;
  }
}

// Sums of one tile, [row][unit], on their way from the registers to the epilogue. Kept apart from it, so that the registers of the
// inner loop are not spilled for its sake.
struct Tile {
  I32 sums[kMaxTileSums];
};

// Weights of units of 16 columns: [step along K][unit][16][values of a step], as they were packed or widened.
template <class Value>
struct Units {
  const Value* w;
  int64_t step;  // distance of steps
  bool extreme = false;
  bool adds = false;            // to sums that there are
  const Value* next = nullptr;  // weights that will be needed, a cache line to each step, `next_step` apart; null: none
  int64_t next_step = 0;

  static constexpr int kValues = kGroup / sizeof(Value);  // a dot product takes 4 bytes along K, or 2 widened values
};

// R rows x U units, all of K in registers. `begins`: what the sums of each column begin with; kInPieces: rows are not one behind the other.
template <int R, int U, bool kInPieces, class Value>
__attribute__((noinline)) void accumulate(const GemmInput& in, const Units<Value>& units, const int32_t* begins, int64_t row, I32* sums) {
  constexpr int kValues = Units<Value>::kValues, kCacheLine = 64 / sizeof(Value), kAhead = 3072 / sizeof(Value);
  I32 acc[R][U];
  const RowValue* x[R];
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    x[r.value] = row_of<RowValue>(in, row + r.value);
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = load_i32(begins + u.value * kLanes); });
  });
  if (units.adds) {
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = sums[r.value * U + u.value]; });
    });
  }
  const Value *w = units.w, *next = units.next ? units.next : w;
  const auto step = [&](int64_t k) QCORE_INLINE_LAMBDA {
    using Weight = decltype(load_weights(w));
    const auto unit = [&](auto u) QCORE_INLINE_LAMBDA { return load_weights(w + u.value * kLanes * kValues); };
    const auto same = [&](auto r) QCORE_INLINE_LAMBDA { return load_same(x[r.value] + k, Constant<kValues>{}); };
    if constexpr (sizeof(Weight) > sizeof(I32)) {
      // Unpacked weights take several registers: one unit at a time leaves the sums theirs.
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        const Weight weights = unit(u);
        unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = dot(acc[r.value][u.value], same(r), weights); });
      });
    } else {
      Weight weights[U];
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { weights[u.value] = unit(u); });
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const auto values = same(r);
        unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = dot(acc[r.value][u.value], values, weights[u.value]); });
      });
    }
    if constexpr (R == 1) {  // one row reads weights as fast as they come
      unroll<U * kLanes * kValues / kCacheLine>([&](auto line) QCORE_INLINE_LAMBDA { __builtin_prefetch(w + kAhead + line.value * kCacheLine); });
    } else {
      __builtin_prefetch(next, 0, 2);
      next += units.next_step;
    }
    w += units.step;
  };
  const int64_t k_end = in.groups * kGroup;
  if constexpr (kInPieces) {
    const int64_t bytes = in.piece_groups * kGroup;
    const int64_t* piece = in.pieces;
    for (int64_t done = 0; done < k_end; done += bytes, ++piece) {
      for (int64_t k = *piece, end = k + bytes; k < end; k += kValues) step(k);
    }
  } else {
    for (int64_t k = 0; k < k_end; k += kValues) step(k);
  }
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { sums[r.value * U + u.value] = acc[r.value][u.value]; });
  });
}

// The same by what the ISA has for it.
template <class Own, int R>
__attribute__((noinline)) void accumulate(const GemmInput& in, const Units<int8_t>& units, const int32_t* begins, int64_t row, I32* sums) {
  Own::template accumulate<R>(in, units.w, units.extreme, row, begins, sums);
}

template <int R, int U, class Value>
void accumulate_rows(int rows, const GemmInput& in, const Units<Value>& units, const int32_t* begins, int64_t row, I32* sums) {
  if (rows == R) {
    if constexpr (kOwnTiles) {
      return accumulate<Tiles, R>(in, units, begins, row, sums);
    } else {
      if constexpr (kInPlace) {
        if (in.pieces) return accumulate<R, U, true>(in, units, begins, row, sums);
      }
      return accumulate<R, U, false>(in, units, begins, row, sums);
    }
  }
  if constexpr (R > 1) accumulate_rows<R - 1, U>(rows, in, units, begins, row, sums);
}

inline void subtract_weight_zeros(I32* sums, const GemmInput& in, const int32_t* weight_zero, int64_t row, int rows, int units) {
  for (int i = 0; i < rows * units; ++i) {
    sums[i] = add(sums[i], mul(load_i32(weight_zero + i % units * kLanes), set_i32(-in.sums[row + i / units])));
  }
}

// The epilogue of sums [row][unit], which began with the offsets or did not. What is rounded together: four vectors of a row where it has
// them, all that it has where some bytes of vectors can be stored, else vectors of a column.
template <int U, bool kBegun, class Output>
QCORE_INLINE void finish(const I32* sums, const GemmPanel& panel, const Output& output, int64_t row, int rows, int unit) {
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
        store_rounded(y, kLanes, value(r, 0, c0, kLanes), value(r, 1, c1, kLanes), value(r, 2, c2, kLanes), value(r, 3, c3, kLanes), rounding);
      }
      return;
    }
  }
  if constexpr (kSome) {
    decltype(columns_of(0)) columns[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { columns[u.value] = columns_of(u.value); });
    for (int r = 0; r < rows; ++r, y += out.stride) {
      F32 v[4] = {set_f32(0.0f), set_f32(0.0f), set_f32(0.0f), set_f32(0.0f)};
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { v[u.value] = value(r, u.value, columns[u.value], together - u.value * kLanes); });
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
      for (; r + 4 <= rows; r += 4, to += 4 * out.stride) store_rounded(to, out.stride, at(r), at(r + 1), at(r + 2), at(r + 3), rounding);
      for (; r + 2 <= rows; r += 2, to += 2 * out.stride) store_rounded(to, out.stride, at(r), at(r + 1), rounding);
      if (r < rows) store_some(to, at(r), kLanes, rounding);
      return;
    }
    for (; r < rows; ++r, to += out.stride) store_some(to, at(r), count, rounding);
  });
}

// Calls run(first row of it, row of the result, count) for each run of results among rows [row, row + rows).
template <class Run>
QCORE_INLINE void each_run(const GemmInput& in, int64_t row, int64_t rows, const Run& run) {
  const RowGrid grid = in.grid;
  if (grid.pitch == 0) return run(row, row, rows);
  const int64_t line = (grid.first + row) / grid.pitch, end = row + rows;
  int64_t column = (grid.first + row) % grid.pitch, sample = line / grid.lines, down = line % grid.lines;
  for (int64_t r = row; r < end; column = 0) {
    const int64_t here = grid.pitch - column < end - r ? grid.pitch - column : end - r;
    const int64_t count = grid.width - column < here ? grid.width - column : here;
    if (down < grid.height && count > 0) run(r, (sample * grid.height + down) * grid.width + column, count);
    r += here;
    if (++down == grid.lines) down = 0, ++sample;
  }
}

// The epilogue of a tile whose sums began with the offsets.
template <int U, class Output>
__attribute__((noinline)) void finish_runs(const I32* sums, const GemmInput& in, const GemmPanel& panel, const Output& out, int64_t row, int rows, int unit) {
  each_run(in, row, rows, [&](int64_t from, int64_t result, int64_t count) { finish<U, true>(sums + (from - row) * U, panel, out, result, static_cast<int>(count), unit); });
}
template <int U, class Output>
QCORE_INLINE void finish_results(const I32* sums, const GemmInput& in, const GemmPanel& panel, const Output& out, int64_t row, int rows, int unit) {
  if constexpr (kInPlace) {
    if (in.pieces) return finish_runs<U>(sums, in, panel, out, row, rows, unit);
  }
  finish<U, true>(sums, panel, out, row, rows, unit);
}

// What 16 columns need.
template <class Output>
struct Needed {
  Output out;
  decltype(load_columns(std::declval<Output>(), 0)) columns;
  I32 first;  // what sums begin with
  decltype(rounding_of(std::declval<Output>())) rounding;

  Needed(const Output& out_, int64_t column) : out(out_), columns(load_columns(out, column)), first(take_offset(columns)), rounding(rounding_of(out)) {}
};

// The largest tiles of an ISA's own, from sums to results in registers. The first row that is left.
template <class Own, class Output>
__attribute__((noinline)) int64_t whole_tiles(const GemmInput& input, const Units<int8_t>& units, const GemmPanel& panel, const Output& output, int unit) {
  constexpr int kRows = tile_rows(1);
  const GemmInput in = input;  // a copy that stores of bytes cannot alias, as those below
  const int8_t* w = units.w;
  const bool extreme = units.extreme;
  const Needed<Output> needed(output, panel.column + unit * kLanes);
  const int64_t column = panel.output + unit * kLanes, stride = output.stride;
  auto* y = output.y + column;
  const int64_t end = in.rows - in.rows % kRows;
  for (int64_t row = 0; row < end; row += kRows) {
    const Needed<Output>* again = &needed;
    asm("" : "+r"(again));  // read for each tile: else compilers would keep it all in registers that the sums want
    I32 sums[kRows + kRows % kRowStep];
    const auto* first = reinterpret_cast<const int32_t*>(again->first.v);
    if constexpr (Own::kInlined) {
      Own::template accumulate<kRows>(in, w, extreme, row, first, sums);
    } else {
      accumulate<Own, kRows>(in, units, first, row, sums);
    }
    asm("" : "+r"(again));
    const Output out = again->out;
    auto columns = again->columns;
    take_offset(columns);
    const auto rounding = again->rounding;
    unroll<kRows>([&](auto r) QCORE_INLINE_LAMBDA {
      store_rounded(y, result(sums[r.value], out, columns, row + r.value, column, kLanes), rounding);
      y += stride;
    });
  }
  return end;
}

// Where one of several tiles of nearly equal height begins.
QCORE_INLINE int64_t tile_begin(int64_t rows, int64_t tile, int64_t tiles) {
  const int64_t begin = (rows + kRowStep - 1) / kRowStep * tile / tiles * kRowStep;
  return begin < rows ? begin : rows;
}

// Weights of several units are multiplied piece by piece along K: a piece stays in the L1 cache while all rows are multiplied with it, and
// the next, which lies behind it, comes closer meanwhile.
constexpr bool kPieces = kTileUnits > 1 && !kWidens && !kOwnTiles;
constexpr int64_t kPieceBytes = 24 * 1024;

// All rows against all units of a panel. Where there are several pieces, sums wait in memory, [row][unit].
template <int U, class Output>
void rows_by_pieces(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  const int64_t tiles = (in.rows + kRows - 1) / kRows, most = kPieceBytes / (U * kUnitBytes);
  const int64_t least = in.pieces ? in.piece_groups : 1, count = in.groups / least;
  const int64_t wanted = in.wide_sums ? (in.groups + most - 1) / most : 1, pieces = wanted < count ? wanted : count;
  const int32_t* begins = begins_of(out, panel.column + unit * kLanes);
  Tile tile;
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t begin = count * p / pieces, first = begin * least, groups = count * (p + 1) / pieces * least - first;
    GemmInput piece = in;
    piece.groups = groups;
    if (in.pieces) {
      piece.pieces += begin;
    } else {
      piece.x += first * kLayout.group;
    }
    Units<int8_t> weights = units;
    weights.w += first * units.step;
    weights.adds = p > 0;
    weights.next_step = (units.step + tiles - 1) / tiles;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = tile_begin(in.rows, t, tiles), end = tile_begin(in.rows, t + 1, tiles);
      const int rows = static_cast<int>(end - row);
      I32* sums = pieces > 1 ? reinterpret_cast<I32*>(in.wide_sums) + row * U : tile.sums;
      weights.next = weights.w + (groups + groups * t / tiles) * units.step;
      accumulate_rows<kRows, U>(rows, piece, weights, begins, row, sums);
      if (p + 1 < pieces) continue;
      if (out.weight_zero) subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
      finish_results<U>(sums, in, panel, out, row, rows, unit);
    }
  }
}

// All rows against U units, in tiles of nearly equal height.
template <int U, class Value, class Output>
void rows_of(const GemmInput& in, const Units<Value>& units, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  static_assert(kRows * U <= kMaxTileSums);
  constexpr int kTogether = kMaxTileSums / (kRows * U);  // tiles to an epilogue
  const int64_t tiles = (in.rows + kRows - 1) / kRows;
  if constexpr (kPieces && std::is_same_v<Value, int8_t>) {
    if (in.rows > kRows && U == panel.units) return rows_by_pieces<U>(in, units, panel, out, unit);
  }
  const int32_t* begins = begins_of(out, panel.column + unit * kLanes);
  Tile tile;
  if constexpr (kOwnTiles && U == 1) {
    if (in.rows >= kRows && !out.weight_zero && panel.columns - unit * kLanes >= kLanes) {
      const int64_t row = whole_tiles<Tiles>(in, units, panel, out, unit);
      if (row == in.rows) return;
      const auto rows = static_cast<int>(in.rows - row);
      accumulate_rows<kRows, U>(rows, in, units, begins, row, tile.sums);
      return finish<U, true>(tile.sums, panel, out, row, rows, unit);
    }
  }
  for (int64_t t = 0; t < tiles; t += kTogether) {
    const int64_t first = tile_begin(in.rows, t, tiles), last = t + kTogether < tiles ? t + kTogether : tiles;
    int64_t row = first;
    for (int64_t i = t; i < last; ++i) {
      const int64_t end = tile_begin(in.rows, i + 1, tiles);
      accumulate_rows<kRows, U>(static_cast<int>(end - row), in, units, begins, row, tile.sums + (row - first) * U);
      row = end;
    }
    const int rows = static_cast<int>(row - first);
    if (out.weight_zero) subtract_weight_zeros(tile.sums, in, out.weight_zero + panel.column + unit * kLanes, first, rows, U);
    finish_results<U>(tile.sums, in, panel, out, first, rows, unit);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
