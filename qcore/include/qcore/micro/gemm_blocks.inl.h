// Blocks of tiles that an ISA multiplies in registers of their own (AMX).
#pragma once

#include <cstdint>

#include "qcore/micro/gemm_units.inl.h"

namespace qcore::QCORE_ISA {
namespace {

template <class OfBlocks>
QCORE_INLINE bool in_blocks(const GemmInput& in) {
  return (in.rows >= OfBlocks::kFewestRows && in.groups >= OfBlocks::kFewestGroups) || in.pieces;
}

// `tiles` tiles of rows against U units: their products, which stay where the ISA sums them, or
// their sums from there.
template <class OfBlocks, int T, int U>
__attribute__((noinline)) void multiply_block(int64_t tiles, const GemmInput& in,
                                              const Units<int8_t>& units, int64_t row) {
  if (tiles == T) return OfBlocks::template multiply<T, U>(in, units.w, units.step, row);
  if constexpr (T > 1) multiply_block<OfBlocks, T - 1, U>(tiles, in, units, row);
}
template <class OfBlocks, int T, int U>
QCORE_INLINE void store_block(int64_t tiles, const GemmInput& in, int64_t row, I32* sums) {
  if (tiles == T) return OfBlocks::template store<T, U>(in, row, sums);
  if constexpr (T > 1) store_block<OfBlocks, T - 1, U>(tiles, in, row, sums);
}

// Whether so many tiles of rows share a piece that the next one comes in time.
template <class OfBlocks>
QCORE_INLINE bool shares_pieces(const GemmInput& in) {
  constexpr int kTiles = 5;
  return in.wide_sums && in.rows > kTiles * OfBlocks::kTileRows;
}

// The same as rows_by_pieces; pieces are whole steps of the blocks. Sums of a tile of rows lie
// together, since the last one may overlap the one before it.
template <class OfBlocks, int U, class Output>
void blocks_by_pieces(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel,
                      const Output& out, int unit) {
  constexpr int kTile = OfBlocks::kTileRows;
  const int64_t tiles = (in.rows + kTile - 1) / kTile, last = in.rows < kTile ? 0 : in.rows - kTile;
  const int64_t steps = in.groups / OfBlocks::groups_of(in),
                step_bytes = OfBlocks::groups_of(in) * units.step;
  const int64_t pieces = (steps * step_bytes + kPieceBytes - 1) / kPieceBytes;
  auto* all = reinterpret_cast<I32*>(in.wide_sums);
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t first = steps * p / pieces, end = steps * (p + 1) / pieces;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = t * kTile, begin = row < last ? row : last;
      I32* sums = all + (pieces > 1 ? row * U : 0);
      const int8_t* next = units.w + end * step_bytes + (end - first) * step_bytes * t / tiles;
      OfBlocks::template add_products<U>(
          in, {units.w, units.step, begin, first, end, p > 0, next, step_bytes / tiles}, sums);
      if (p + 1 < pieces) continue;
      sums += (row - begin) * U;
      const int rows = static_cast<int>(in.rows - row < kTile ? in.rows - row : kTile);
      if (out.weight_zero) {
        subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows,
                              U);
      }
      each_run(in, row, rows, [&](int64_t from, int64_t result, int64_t count) {
        finish<U, false>(sums + (from - row) * U, panel, out, result, static_cast<int>(count),
                         unit);
      });
    }
  }
}

// All rows against U units, in blocks. The next block is multiplied while the epilogue of this one
// runs.
template <class OfBlocks, int U, class Output>
void blocks_of(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel,
               const Output& out, int unit) {
  if constexpr (U > 2) {
    if (U == panel.units && shares_pieces<OfBlocks>(in)) {
      return blocks_by_pieces<OfBlocks, U>(in, units, panel, out, unit);
    }
  }
  constexpr int kTile = OfBlocks::kTileRows, kRows = OfBlocks::rows(U), kTiles = kRows / kTile;
  I32 room[(kTile + kRows) * U];
  I32* sums = room + kTile * U;
  const auto rows_at = [&](int64_t row) {
    return static_cast<int>(in.rows - row < kRows ? in.rows - row : kRows);
  };
  const auto tiles_at = [&](int64_t row) { return (rows_at(row) + kTile - 1) / kTile; };
  multiply_block<OfBlocks, kTiles, U>(tiles_at(0), in, units, 0);
  store_block<OfBlocks, kTiles, U>(tiles_at(0), in, 0, sums);
  for (int64_t row = 0; row < in.rows; row += kRows) {
    const int rows = rows_at(row);
    const int64_t next = row + kRows;
    if (next < in.rows) multiply_block<OfBlocks, kTiles, U>(tiles_at(next), in, units, next);
    if (out.weight_zero) {
      subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
    }
    each_run(in, row, rows, [&](int64_t first, int64_t result, int64_t count) {
      finish<U, false>(sums + (first - row) * U, panel, out, result, static_cast<int>(count), unit);
    });
    if (next < in.rows) store_block<OfBlocks, kTiles, U>(tiles_at(next), in, next, sums);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
