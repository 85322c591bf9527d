// How many lanes, columns and values along K everything is cut into, and how an ISA's GEMM has its
// operands.
#pragma once

#include <cstdint>

namespace qcore {

constexpr int kLanes = 16;         // lanes of every vector type, on every ISA
constexpr int kGroup = 4;          // values along K that `dot` takes
constexpr int kUnit = 64;          // bytes of packed weights for kLanes columns and kGroup
constexpr int kMaxTileSums = 24;   // vectors that a tile accumulates at most
constexpr int kMaxPanelUnits = 4;  // a panel is at most 4 x 16 columns wide
constexpr int kWideGroups =
    128;  // groups along K that are multiplied at once where weights are widened

// How an ISA's GEMM has its operands: weights are packed [K / group][units][16 columns][group], or
// by units first. Signed rows are int8: uint8 less 128, as their zero point and sums are; the taps
// of a depthwise convolution are then as well.
struct Layout {
  int32_t group = kGroup;
  bool units_first = false;
  bool signed_rows = false;
  bool widens = false;  // rows and weights become 16-bit values
  bool pairs = false;   // groups are packed [group / 2][16 columns][2]
  int32_t piece = 0;    // groups that are multiplied at once at most; K is padded to pieces of one
                        // size; 0: as it is
};

}  // namespace qcore
