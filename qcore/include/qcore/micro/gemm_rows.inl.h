// How an ISA's matrix multiplication has its rows: as bytes where they are, widened, or in a layout
// of its own.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

constexpr bool kWidens = !std::is_void_v<Widening>, kOwnTiles = !std::is_void_v<Tiles>,
               kBlocks = !std::is_void_v<Blocks>;
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

}  // namespace
}  // namespace qcore::QCORE_ISA
