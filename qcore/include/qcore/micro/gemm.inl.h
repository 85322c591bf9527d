// Matrix multiplication, u8 x s8 -> exact int32, of a panel of weights.
#pragma once

#include <cstdint>
#include <type_traits>

#include "qcore/micro/elementwise.inl.h"
#include "qcore/micro/gemm_blocks.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// A piece along K of a unit whose weights are widened: `groups` of them from group `first` on.
struct WidePiece {
  const int16_t* w;
  int64_t first, groups;
};

// `rows` rows against a piece of a widened unit, added to their sums.
template <class Wide, int R>
__attribute__((noinline)) void accumulate_wide(int rows, const GemmInput& in,
                                               const WidePiece& piece, int64_t row, I32* sums) {
  if (rows == R) {
    const int16_t* x[R];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      x[r.value] = row_of<int16_t>(in, row + r.value) + piece.first * kGroup;
    });
    return Wide::template accumulate<R>(x, piece.w, piece.groups, sums);
  }
  if constexpr (R > 1) accumulate_wide<Wide, R - 1>(rows, in, piece, row, sums);
}

// All rows against a panel whose weights are widened piece by piece along K: a piece of a unit
// stays in the L1 cache, one of the rows in the L2 cache. The sums of each unit, [unit][row], wait
// in memory.
template <class Wide, class Output>
void widened_panel(const GemmInput& in, const GemmPanel& panel, const Output& out) {
  const int64_t tiles = (in.rows + Wide::kRows - 1) / Wide::kRows, step = panel.units * kUnitBytes;
  auto* all = reinterpret_cast<I32*>(in.wide_sums);
  for (int64_t first = 0; first < in.groups; first += kWideGroups) {
    const int64_t groups = in.groups - first < kWideGroups ? in.groups - first : kWideGroups;
    for (int unit = 0; unit < panel.units; ++unit) {
      const int8_t* w = panel.w + first * step + unit * kUnitBytes;
      I32 excess = set_i32(0);
      for (int64_t group = 0; group < groups; ++group) {
        Wide::weights(w + group * step, in.wide_panel + group * kUnit, excess);
      }
      // While this piece is used the next comes from beyond the L2 cache.
      const int8_t* next =
          unit + 1 < panel.units ? w + kUnitBytes : panel.w + (first + groups) * step;
      I32* sums = all + unit * in.rows;
      for (int64_t t = 0; t < tiles; ++t) {
        for (int64_t group = groups * t / tiles; group < groups * (t + 1) / tiles; ++group) {
          __builtin_prefetch(next + group * step, 0, 2);
        }
        const int64_t row = tile_begin(in.rows, t, tiles), end = tile_begin(in.rows, t + 1, tiles);
        for (int64_t r = row; r < end; ++r) {
          sums[r] = add(first > 0 ? sums[r] : set_i32(excess_of_row(in, r)), excess);
        }
        accumulate_wide<Wide, Wide::kRows>(static_cast<int>(end - row), in,
                                           {in.wide_panel, first, groups}, row, sums + row);
      }
      if (first + groups < in.groups) continue;
      const auto rows = static_cast<int>(in.rows);
      if (out.weight_zero) {
        subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, 0, rows, 1);
      }
      finish<1, false>(sums, panel, out, 0, rows, unit);
    }
  }
}

// Whether so many tiles share widened weights that these are worth their making.
QCORE_INLINE bool shares_weights(const GemmInput& in) {
  constexpr int kTiles = 3;
  return in.rows > kTiles * tile_rows(1);
}

// A unit of few groups, all of it.
template <class Wide>
Units<int16_t> widened(const GemmInput& in, const Units<int8_t>& packed) {
  I32 unused = set_i32(0);
  for (int64_t group = 0; group < in.groups; ++group) {
    Wide::weights(packed.w + group * packed.step, in.wide_panel + group * kUnit, unused);
  }
  return {in.wide_panel, kUnit / 2};
}

template <int U, class Output>
void units_of(int units, const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  if (units < U) {
    if constexpr (U > 1) units_of<U - 1>(units, in, panel, out, unit);
    return;
  }
  const int64_t unit_bytes = kLayout.units_first ? in.groups * kUnitBytes : kUnitBytes;
  const Units<int8_t> packed{panel.w + unit * unit_bytes, panel.units * kUnitBytes, panel.extreme};
  if constexpr (kBlocks) {
    if (in_blocks<Blocks>(in)) return blocks_of<Blocks, U>(in, packed, panel, out, unit);
  }
  if constexpr (kWidens && U == 1) {
    if (shares_weights(in)) return rows_of<U>(in, widened<Widening>(in, packed), panel, out, unit);
  }
  rows_of<U>(in, packed, panel, out, unit);
}

// Units that are multiplied at once. Blocks of two units and twice the rows read half as much of
// weights that the L1 cache does not hold.
template <class OfBlocks>
QCORE_INLINE int units_together(const GemmInput& in, const GemmPanel& panel) {
  if constexpr (!std::is_void_v<OfBlocks>) {
    if (!(panel.units > 2 && shares_pieces<OfBlocks>(in)) && in_blocks<OfBlocks>(in) &&
        in.groups * kUnitBytes * panel.units > OfBlocks::kL1Bytes) {
      return 2;
    }
  }
  return tile_units(in.rows);
}

// The ISA's state for the blocks of one call.
template <class OfBlocks>
struct Configured {
  explicit Configured(const GemmInput& in) {
    if (in_blocks<OfBlocks>(in)) OfBlocks::begin(in);
  }
  ~Configured() { OfBlocks::end(); }
};
template <>
struct Configured<void> {
  explicit Configured(const GemmInput& /*in*/) {}
};

template <class OfBlocks = Blocks>
constexpr auto holder() -> void (*)(bool) {
  if constexpr (std::is_void_v<OfBlocks>) {
    return nullptr;
  } else {
    return OfBlocks::hold;
  }
}

template <class Output>
void gemm(const GemmInput& in, const GemmPanel& panel, const Output& out) {
  if constexpr (kWidens) {
    if (halves_products(in) && shares_weights(in)) return widened_panel<Widening>(in, panel, out);
  }
  const Configured<Blocks> configured(in);
  const int most = units_together<Blocks>(in, panel);
  for (int unit = 0; unit < panel.units; unit += most) {
    const int left = panel.units - unit;
    units_of<kMaxPanelUnits>(left < most ? left : most, in, panel, out, unit);
  }
}

void gemm_u8(const GemmInput& in, const GemmPanel& panel, const RequantizedOutput& out) {
  with_sum(out, [&](const auto& output) { gemm(in, panel, output); });
  each_run(in, 0, in.rows, [&](int64_t, int64_t result, int64_t count) {
    look_up(out, result, count, panel.output, panel.columns);
  });
}

// The largest tile again and again, over operands in the L1 cache.
template <class Wide = Widening, class OfBlocks = Blocks>
int64_t peak(int64_t rounds) {
  using Value = std::conditional_t<kWidens, int16_t, int8_t>;
  constexpr int64_t kDepth = 256, kRows = rows_together<Wide, OfBlocks>();
  alignas(64) static const RowValue x[kRows * kDepth] = {1, 2, 3, 4};
  alignas(64) static const Value w[kTileUnits * kLanes * kDepth] = {1, -2, 3};
  GemmInput in{reinterpret_cast<const uint8_t*>(x),
               kDepth,
               kRows,
               kDepth / kLayout.group,
               nullptr,
               x,
               kDepth};
  in.piece_groups = kLayout.piece;
  constexpr int kSums = kRows * kTileUnits;
  I32 sums[kSums] = {};
  const Configured<OfBlocks> configured(in);
  for (int64_t round = 0; round < rounds; ++round) {
    if constexpr (!std::is_void_v<OfBlocks>) {
      multiply_block<OfBlocks, 1, kTileUnits>(1, in, Units<Value>{w, kTileUnits * kUnit}, 0);
      store_block<OfBlocks, 1, kTileUnits>(1, in, 0, sums);
    } else if constexpr (std::is_void_v<Wide>) {
      accumulate_rows<kRows, kTileUnits>(
          kRows, in, Units<Value>{w, kTileUnits * kLanes * Units<Value>::kValues}, kZeros, 0, sums);
    } else {
      accumulate_wide<Wide, kRows>(kRows, in, {w, 0, in.groups}, 0, sums);
    }
    asm volatile("" : : "r"(sums) : "memory");
  }
  return rounds * kDepth / kGroup * kRows * kTileUnits;
}

}  // namespace
}  // namespace qcore::QCORE_ISA
