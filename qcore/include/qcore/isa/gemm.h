// What a kernel of matrix multiplication is given: rows, a panel of weights, and what becomes of
// the sums.
#pragma once

#include <cstdint>

#include "qcore/isa/elements.h"
#include "qcore/isa/layout.h"

namespace qcore {

// Which rows of a GEMM are results, where not all are: rows `first`, first + 1, ... are pixels of
// samples of `lines` lines of `pitch` pixels; results are `width` pixels of `height` lines of each.
struct RowGrid {
  int64_t first = 0;
  int64_t pitch = 0, lines = 0;  // 0: all are
  int64_t width = 0, height = 0;
};

// Rows of activations; groups * Layout::group bytes are read of each.
struct GemmInput {
  const uint8_t* x;
  int64_t stride;
  int64_t rows;
  int64_t groups;
  const int32_t* sums;              // of each row; null where all weight zero points are 0
  const void* prepared = nullptr;   // the rows, as Kernels::prepare_rows has made them
  int64_t prepared_stride = 0;      // values from one to the next, where they are widened
  int16_t* wide_panel = nullptr;    // room for kWideGroups * kUnit
  int32_t* wide_sums = nullptr;     // room for rows * kMaxPanelUnits * kLanes, 64-byte aligned
  const int64_t* pieces = nullptr;  // where the pieces along K of a row begin, from its first byte
                                    // on; null: one behind the other
  int64_t piece_groups =
      0;  // of each of these; where there are none, what an ISA with pieces multiplies at once
  RowGrid grid{};
};

// Packed weights; `column` indexes parameters (padded to 16), `output` the result. extreme: -128
// stands twice in a column, half a group apart.
struct GemmPanel {
  const int8_t* w;
  int32_t units;
  int32_t columns;
  int64_t column;
  int64_t output;
  int64_t group;
  bool extreme;
};

// Another tensor with the rows and columns of a requantized output, added to it as the operator
// `add` would: `own` and `operand` are what that output (by itself) and x mean, `sum` is what the
// sum becomes.
struct Residual {
  const uint8_t* x = nullptr;  // null: none
  int64_t stride = 0;
  Operand own{}, operand{};
  IntegerResult sum{};
};

// y = clamp(rint(fma(bias, bias_scale, acc + offset) * multiplier), low, high) + zero; pointers:
// per column.
struct RequantizedOutput {
  uint8_t* y;
  int64_t stride;
  const int32_t* offset;
  const float* bias;
  const float* multiplier;
  const int32_t* weight_zero;  // null where all are 0
  float bias_scale;
  float low;
  float high;
  int32_t zero;
  Residual residual{};
  const uint8_t* table = nullptr;  // of 256 bytes, which replace the results at the end; null: none
  bool bounded = false;            // whatever acc is, no product reaches 2^31

  RequantizedOutput from_row(int64_t row) const {
    RequantizedOutput out = *this;
    out.y += row * stride;
    if (residual.x) out.residual.x += row * residual.stride;
    return out;
  }
};

// y = fma(acc - row_zero * column_sum, row_scale * weight_scale, bias), at least `low`.
struct FloatOutput {
  float* y;
  int64_t stride;
  const float* row_scale;
  const int32_t* row_zero;
  const int32_t* column_sum;
  const float* weight_scale;
  const float* bias;
  const int32_t* weight_zero;  // null where all are 0
  bool relu;
};

// Rows of floats.
struct HalfInput {
  const float* x;
  int64_t stride;
  int64_t rows;
  int64_t k;
};

// Packed float16 weights [k][units][16 columns]; else as GemmPanel.
struct HalfPanel {
  const uint16_t* w;
  int32_t units;
  int32_t columns;
  int64_t column;
  int64_t output;
  int64_t group;
};

// y = sum + bias (null: none), at least 0 with relu.
struct HalfOutput {
  float* y;
  int64_t stride;
  const float* bias;
  bool relu;
};

}  // namespace qcore
