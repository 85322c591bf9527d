// All rows of a matrix multiplication against some units of weights, tile by tile, each with its
// epilogue.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "qcore/micro/gemm_results.inl.h"
#include "qcore/micro/gemm_tiles.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// What 16 columns need.
template <class Output>
struct Needed {
  Output out;
  decltype(load_columns(std::declval<Output>(), 0)) columns;
  I32 first;  // what sums begin with
  decltype(rounding_of(std::declval<Output>())) rounding;

  Needed(const Output& out_, int64_t column)
      : out(out_),
        columns(load_columns(out, column)),
        first(take_offset(columns)),
        rounding(rounding_of(out)) {}
};

// The largest tiles of an ISA's own, from sums to results in registers. The first row that is left.
template <class Own, class Output>
__attribute__((noinline)) int64_t whole_tiles(const GemmInput& input, const Units<int8_t>& units,
                                              const GemmPanel& panel, const Output& output,
                                              int unit) {
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
    asm(""
        : "+r"(again));  // read for each tile: else compilers would keep it all in registers that
                         // the sums want
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
      store_rounded(y, result(sums[r.value], out, columns, row + r.value, column, kLanes),
                    rounding);
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

// Weights of several units are multiplied piece by piece along K: a piece stays in the L1 cache
// while all rows are multiplied with it, and the next, which lies behind it, comes closer
// meanwhile.
constexpr bool kPieces = kTileUnits > 1 && !kWidens && !kOwnTiles;
constexpr int64_t kPieceBytes = 24 * 1024;

// All rows against all units of a panel. Where there are several pieces, sums wait in memory,
// [row][unit].
template <int U, class Output>
void rows_by_pieces(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel,
                    const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  const int64_t tiles = (in.rows + kRows - 1) / kRows, most = kPieceBytes / (U * kUnitBytes);
  const int64_t least = in.pieces ? in.piece_groups : 1, count = in.groups / least;
  const int64_t wanted = in.wide_sums ? (in.groups + most - 1) / most : 1,
                pieces = wanted < count ? wanted : count;
  const int32_t* begins = begins_of(out, panel.column + unit * kLanes);
  Tile tile;
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t begin = count * p / pieces, first = begin * least,
                  groups = count * (p + 1) / pieces * least - first;
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
      if (out.weight_zero) {
        subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows,
                              U);
      }
      finish_results<U>(sums, in, panel, out, row, rows, unit);
    }
  }
}

// All rows against U units, in tiles of nearly equal height.
template <int U, class Value, class Output>
void rows_of(const GemmInput& in, const Units<Value>& units, const GemmPanel& panel,
             const Output& out, int unit) {
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
    const int64_t first = tile_begin(in.rows, t, tiles),
                  last = t + kTogether < tiles ? t + kTogether : tiles;
    int64_t row = first;
    for (int64_t i = t; i < last; ++i) {
      const int64_t end = tile_begin(in.rows, i + 1, tiles);
      accumulate_rows<kRows, U>(static_cast<int>(end - row), in, units, begins, row,
                                tile.sums + (row - first) * U);
      row = end;
    }
    const int rows = static_cast<int>(row - first);
    if (out.weight_zero) {
      subtract_weight_zeros(tile.sums, in, out.weight_zero + panel.column + unit * kLanes, first,
                            rows, U);
    }
    finish_results<U>(tile.sums, in, panel, out, first, rows, unit);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
