// What the kernels on floats are given: cells of recurrent layers, functions, norms, attention,
// interpolation.
#pragma once

#include <cstdint>

namespace qcore {

// One step of up to 16 hidden values of a cell. `input` and `state`: the linears of both, 16 values
// of each gate, rows `stride` apart; h and c: the state (rows, hidden), replaced; y: where the new
// h goes as well.
struct CellStep {
  const float* input;
  const float* state;
  int64_t stride;
  float* h;
  float* c;
  int64_t hidden;
  float* y;
  int64_t y_stride;
  int64_t rows;
  int32_t columns;
};

// A function of one float (docs/numerics.md).
enum class FloatFunction { gelu, gelu_tanh, relu, sigmoid, silu, tanh };

// A row of n floats x, or the sum of two where `other` is not null, normalized into y.
struct FloatNormRow {
  const float* x;
  const float* other;  // null: none
  float* y;
  int64_t n;
  const float* weight;
  const float* bias;
  float eps;
};

// The two points that each point of a result lies between, with the weights of both.
struct Neighbours {
  const int64_t *first, *second;
  const float *before, *after;
};

// `pixels` of a row of results, `unit` values each, from one row of integers.
struct PixelBlend {
  const uint8_t* x;
  bool is_signed;  // the integers are int8
  float* y;
  Neighbours at;
  int64_t pixels, unit;
};

// n integers between two rows: rint(((above * a + below * b) - zero) + zero), less `low`, their
// least.
struct RowBlend {
  const float* a;
  const float* b;
  uint8_t* y;
  int64_t n;
  float above, below;
  float zero, low;
};

// Floats, `row` and `column` apart.
struct FloatMatrix {
  const float* data;
  int64_t row, column;
};

// Queries `first` and on of one head: y (rows, values) of q (rows, width), k (keys, width), v
// (keys, values) and mask (rows, keys; null: none). `scratch`: room for width + keys + values
// floats of each of the rows, rounded up to whole vectors, and 64 * (width + 16) more.
struct AttentionBlock {
  FloatMatrix q, k, v, mask;
  float* y;
  int64_t y_row, y_column;
  int64_t first, rows, keys, width, values;
  float scale;
  bool causal;
  float* scratch;
};

}  // namespace qcore
