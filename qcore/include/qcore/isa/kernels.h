// What an instruction set's kernels are given and are called by: plain data only, since this header is compiled for every ISA.
#pragma once

#include <cstdint>

namespace qcore {

constexpr int kLanes = 16;         // lanes of every vector type, on every ISA
constexpr int kGroup = 4;          // values along K that `dot` takes
constexpr int kUnit = 64;          // bytes of packed weights for kLanes columns and kGroup
constexpr int kMaxTileSums = 24;    // vectors that a tile accumulates at most
constexpr int kMaxPanelUnits = 4;  // a panel is at most 4 x 16 columns wide
constexpr int kWideGroups = 128;   // groups along K that are multiplied at once where weights are widened

// How an ISA's GEMM has its operands: weights are packed [K / group][units][16 columns][group], or by units first. Signed rows are int8:
// uint8 less 128, as their zero point and sums are; the taps of a depthwise convolution are then as well.
struct Layout {
  int32_t group = kGroup;
  bool units_first = false;
  bool signed_rows = false;
  bool widens = false;  // rows and weights become 16-bit values
  bool pairs = false;   // groups are packed [group / 2][16 columns][2]
  int32_t piece = 0;    // groups that are multiplied at once at most; K is padded to pieces of one size; 0: as it is
};

// Which rows of a GEMM are results, where not all are: rows `first`, first + 1, ... are pixels of samples of `lines` lines of `pitch`
// pixels; results are `width` pixels of `height` lines of each.
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
  const int32_t* sums;  // of each row; null where all weight zero points are 0
  const void* prepared = nullptr;  // the rows, as Kernels::prepare_rows has made them
  int64_t prepared_stride = 0;     // values from one to the next, where they are widened
  int16_t* wide_panel = nullptr;   // room for kWideGroups * kUnit
  int32_t* wide_sums = nullptr;    // room for rows * kMaxPanelUnits * kLanes, 64-byte aligned
  const int64_t* pieces = nullptr;  // where the pieces along K of a row begin, from its first byte on; null: one behind the other
  int64_t piece_groups = 0;         // of each of these; where there are none, what an ISA with pieces multiplies at once
  RowGrid grid{};
};

// Packed weights; `column` indexes parameters (padded to 16), `output` the result. extreme: -128 stands twice in a column, half a group apart.
struct GemmPanel {
  const int8_t* w;
  int32_t units;
  int32_t columns;
  int64_t column;
  int64_t output;
  int64_t group;
  bool extreme;
};

// A result in integers: clamp(rint(value * multiplier), low, high) + zero.
struct IntegerResult {
  float multiplier;
  int32_t zero;
  float low, high;
};

struct Operand {
  float scale;
  int32_t zero;
  bool is_signed = false;  // the integers are int8
};

// Another tensor with the rows and columns of a requantized output, added to it as the operator `add` would: `own` and `operand` are
// what that output (by itself) and x mean, `sum` is what the sum becomes.
struct Residual {
  const uint8_t* x = nullptr;  // null: none
  int64_t stride = 0;
  Operand own{}, operand{};
  IntegerResult sum{};
};

// y = clamp(rint(fma(bias, bias_scale, acc + offset) * multiplier), low, high) + zero; pointers: per column.
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

// A line of a depthwise convolution: entries [begin, end) are pixels of the input, from `row` on; what is not is padding (null: all).
struct DepthwiseLine {
  const uint8_t* row;
  int64_t begin, end;
};

// `outputs` pixels of each of `rows` output rows, `row_pixels` apart. Entry e of a quad of lines holds their pixels in column e; output x
// reads entries x * stride + column * column_step of each quad.
struct DepthwiseInput {
  static constexpr int64_t kEntryBytes = 256;  // of the channels of four lines that are done at once, on any ISA

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

  static int64_t scratch_bytes(int64_t all_entries, int64_t outputs) { return all_entries * kEntryBytes + outputs * kLanes * 4; }
};

// Tiles [first, first + tiles) of 2x2 results of a 3x3 convolution, numbered (sample, down, across), for units [unit, last_unit) of 16 columns.
struct WinogradInput {
  static constexpr int64_t kTileSize = 4, kPositions = 16;  // pixels that a tile reads in each dimension, and in all

  const uint8_t* x;  // (sample, height, width, channels)
  const uint8_t* padding;  // a pixel of zero points
  int64_t height, width, channels, out_height, out_width, outputs;
  int64_t pad_above, pad_left;
  int64_t down, across, first, tiles;
  int64_t unit, last_unit;
  const int16_t* w;  // [unit][position][depth / 2][16][2]
  int64_t depth;     // channels, padded to 16
  int16_t* transformed;  // room for (positions, tiles, depth)
  int32_t* sums;         // room for (positions, tiles, 16)
};

// clamp(rint(fma(x, inverse_scale, zero)), low, high), or, per channel, the product and the sum rounded one by one.
struct QuantizeParameters {
  float inverse_scale;
  float zero;
  float low, high;
  bool fused;
};

// How a sum of integers becomes an average: (sum + offset) * multiplier; the zero point joins by fma, or after rounding. The integers are
// `shift` more than what they stand for, which `zero` is as well.
struct AverageParameters {
  int32_t offset;
  float multiplier;
  int32_t zero;
  bool fused;
  int32_t shift = 0;
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

// One step of up to 16 hidden values of a cell. `input` and `state`: the linears of both, 16 values of each gate, rows `stride` apart;
// h and c: the state (rows, hidden), replaced; y: where the new h goes as well.
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

// Rows of `dim` integers, `stride` bytes apart, with scale and offset of each; nibbles: as load_nibbles takes them, whole vectors.
struct Table {
  const uint8_t* rows;
  int64_t stride;
  const float* parameters;
  int64_t count, dim;
  bool nibbles;
};

// Bags of rows, one bag after the other: y (bags, dim) = the sums of fma(p * scale, row, ... + p * offset), p: `weights`, or 1 (null).
struct Bags {
  const int64_t* rows;
  int64_t entries;
  const float* weights;
  const int64_t* counts;  // of entries, one for each bag
  const float* divisors;  // of the sums; null: none
  int64_t bags;
  float* y;
};

// Fake quantization: element i has the parameters of channel i / inner % channels. Where inner is 1, 16 elements behind the last
// channel repeat the first ones. low, high: the range of integers less the zero point.
struct FakeQuantizeChannels {
  const float *inverse, *scale, *low, *high;
  int64_t channels, inner;
};

// The bin of x: floor(x * multiplier) - first; or, where `divides`, floor((x + offset) * multiplier / divisor). last: that of the last bin.
struct HistogramBins {
  float multiplier, offset, divisor;
  float first;
  bool divides;
};

// A row normalized: rint(fma((x - zero - center) * factor, weight, bias) * result.multiplier), as IntegerResult says.
struct Normalization {
  int32_t zero;
  float center, factor;
  IntegerResult result;
};

// A function of one float (docs/numerics.md).
enum class FloatFunction { gelu, gelu_tanh, relu, sigmoid, silu, tanh };

// The two points that each point of a result lies between, with the weights of both.
struct Neighbours {
  const int64_t *first, *second;
  const float *before, *after;
};

// Floats, `row` and `column` apart.
struct FloatMatrix {
  const float* data;
  int64_t row, column;
};

// Queries `first` and on of one head: y (rows, values) of q (rows, width), k (keys, width), v (keys, values) and mask (rows, keys; null: none).
// `scratch`: room for width + keys + values floats of each of the rows, rounded up to whole vectors, and 64 * (width + 16) more.
struct AttentionBlock {
  FloatMatrix q, k, v, mask;
  float* y;
  int64_t y_row, y_column;
  int64_t first, rows, keys, width, values;
  float scale;
  bool causal;
  float* scratch;
};

// One instruction set's kernels.
struct Kernels {
  const char* name;
  Layout layout;
  void (*prepare_rows)(const GemmInput&, void* to);  // to 2 bytes for each that is read of a row, and a group more; null: rows stay as they are
  void (*hold)(bool held);  // calls of gemm while held, on this thread, share what they set up; null: there is nothing of that kind
  void (*gemm_u8)(const GemmInput&, const GemmPanel&, const RequantizedOutput&);
  void (*gemm_f32)(const GemmInput&, const GemmPanel&, const FloatOutput&);
  void (*depthwise)(const DepthwiseInput&, const RequantizedOutput&);
  void (*winograd)(const WinogradInput&, const RequantizedOutput&);  // null where plain sums of products are faster
  void (*quantize)(const float* x, uint8_t* y, int64_t n, const QuantizeParameters&);
  void (*dequantize_u8)(const uint8_t* x, float* y, int64_t n, float scale, int32_t zero);
  void (*dequantize_s8)(const int8_t* x, float* y, int64_t n, float scale, int32_t zero);
  bool (*range)(const float* x, int64_t n, float* low, float* high);  // false where not all are finite
  void (*add)(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, Operand, Operand, const IntegerResult&);
  void (*mul)(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, Operand, Operand, const IntegerResult&);
  void (*requantize)(const uint8_t* x, uint8_t* y, int64_t n, Operand, const IntegerResult&);
  void (*clamp)(const uint8_t* x, uint8_t* y, int64_t n, uint8_t low, uint8_t high);
  void (*lookup)(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table);
  void (*max)(const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels, int64_t outputs, int64_t step);  // rows: of the first output
  void (*average)(const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels, const AverageParameters&);
  void (*gemm_half)(const HalfInput&, const HalfPanel&, const HalfOutput&);
  void (*lstm_cell)(const CellStep&);
  void (*gru_cell)(const CellStep&);
  void (*rnn_tanh_cell)(const CellStep&);
  void (*rnn_relu_cell)(const CellStep&);
  bool (*sum_bags)(const Table&, const Bags&);
  void (*fake_quantize)(const float* x, float* y, uint16_t* inside, int64_t begin, int64_t end, const FakeQuantizeChannels&);
  void (*keep_inside)(const float* x, float* y, const uint16_t* inside, int64_t begin, int64_t end);
  void (*column_ranges)(const float* x, int64_t rows, int64_t columns, float* low, float* high);
  bool (*histogram)(const float* x, int64_t n, const HistogramBins&, uint32_t* counts, int64_t table, float* low, float* high);
  void (*sums)(const uint8_t* x, int64_t n, int64_t* sum, int64_t* squares);
  void (*normalize)(const uint8_t* x, uint8_t* y, int64_t n, const Normalization&, const float* weight, const float* bias);
  void (*normalize_slice)(const uint8_t* x, uint8_t* y, int64_t n, const Normalization&, float weight, float bias);
  void (*softmax)(const uint8_t* x, uint8_t* y, int64_t n, const int64_t* terms, const IntegerResult&);
  void (*attention)(const AttentionBlock&);
  void (*blend_pixels)(const uint8_t* x, bool is_signed, float* y, const Neighbours&, int64_t pixels, int64_t unit);
  void (*blend_rows)(const float* a, const float* b, uint8_t* y, int64_t n, float above, float below, float zero, float low);  // y: less `low`
  void (*float_function)(const float* x, float* y, int64_t n, FloatFunction);
  void (*float_add)(const float* a, const float* b, float* y, int64_t n);
  void (*float_layer_norm)(const float* x, const float* other, float* y, int64_t n, const float* weight, const float* bias, float eps);  // a row, or the sum of two
  int64_t (*peak)(int64_t rounds);  // nothing but dot products of 64 pairs, for benchmarks; how many were done
};

}  // namespace qcore
