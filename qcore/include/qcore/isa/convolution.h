// What the kernels of convolutions are given that are no plain matrix multiplications.
#pragma once

#include <cstdint>

#include "qcore/isa/layout.h"

namespace qcore {

// A line of a depthwise convolution: entries [begin, end) are pixels of the input, from `row` on;
// what is not is padding (null: all).
struct DepthwiseLine {
  const uint8_t* row;
  int64_t begin, end;
};

// `outputs` pixels of each of `rows` output rows, `row_pixels` apart. Entry e of a quad of lines
// holds their pixels in column e; output x reads entries x * stride + column * column_step of each
// quad.
struct DepthwiseInput {
  static constexpr int64_t kEntryBytes =
      256;  // of the channels of four lines that are done at once, on any ISA

  const DepthwiseLine* lines;  // 4 * quads
  int64_t quads, entries, outputs, stride;
  int64_t columns, column_step;
  int64_t packed_rows;  // rows that there are weights for
  int64_t rows, row_pixels;
  int64_t channels;
  const uint8_t* padding;  // a pixel of zero points, and 64 more
  const uint8_t* limit;    // the end of the input
  const int8_t* w;         // [unit][packed row][quad][column][16][4]
  bool extreme;            // -128 stands twice among the four of a dot product
  uint8_t* scratch;

  static int64_t scratch_bytes(int64_t all_entries, int64_t outputs) {
    return all_entries * kEntryBytes + outputs * kLanes * 4;
  }
};

// Tiles [first, first + tiles) of 2x2 results of a 3x3 convolution, numbered (sample, down,
// across), for units [unit, last_unit) of 16 columns.
struct WinogradInput {
  static constexpr int64_t kTileSize = 4,
                           kPositions =
                               16;  // pixels that a tile reads in each dimension, and in all

  const uint8_t* x;        // (sample, height, width, channels)
  const uint8_t* padding;  // a pixel of zero points
  int64_t height, width, channels, out_height, out_width, outputs;
  int64_t pad_above, pad_left;
  int64_t down, across, first, tiles;
  int64_t unit, last_unit;
  const int16_t* w;      // [unit][position][depth / 2][16][2]
  int64_t depth;         // channels, padded to 16
  int16_t* transformed;  // room for (positions, tiles, depth)
  int32_t* sums;         // room for (positions, tiles, 16)
};

}  // namespace qcore
