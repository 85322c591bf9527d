// One instruction set's kernels in a table: what it is called, how it has its operands, and a
// function for each kernel. Plain data only, since this header is compiled for every ISA.
#pragma once

#include <cstdint>

#include "qcore/isa/convolution.h"
#include "qcore/isa/elements.h"
#include "qcore/isa/floats.h"
#include "qcore/isa/gemm.h"
#include "qcore/isa/layout.h"
#include "qcore/isa/training.h"

namespace qcore {

// One instruction set's kernels.
struct Kernels {
  const char* name;
  Layout layout;
  void (*prepare_rows)(const GemmInput&,
                       void* to);  // to 2 bytes for each that is read of a row, and a group more;
                                   // null: rows stay as they are
  void (*hold)(bool held);  // calls of gemm while held, on this thread, share what they set up;
                            // null: there is nothing of that kind
  void (*gemm_u8)(const GemmInput&, const GemmPanel&, const RequantizedOutput&);
  void (*gemm_f32)(const GemmInput&, const GemmPanel&, const FloatOutput&);
  void (*depthwise)(const DepthwiseInput&, const RequantizedOutput&);
  void (*winograd)(const WinogradInput&,
                   const RequantizedOutput&);  // null where plain sums of products are faster
  void (*quantize)(const float* x, uint8_t* y, int64_t n, const QuantizeParameters&);
  void (*dequantize_u8)(const uint8_t* x, float* y, int64_t n, float scale, int32_t zero);
  void (*dequantize_s8)(const int8_t* x, float* y, int64_t n, float scale, int32_t zero);
  bool (*range)(const float* x, int64_t n, float* low,
                float* high);  // false where not all are finite
  void (*add)(const BinaryElements&);
  void (*mul)(const BinaryElements&);
  void (*requantize)(const uint8_t* x, uint8_t* y, int64_t n, Operand, const IntegerResult&);
  void (*clamp)(const uint8_t* x, uint8_t* y, int64_t n, uint8_t low, uint8_t high);
  void (*lookup)(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table);
  void (*max)(
      const WindowRows&, int64_t outputs,
      int64_t step);  // rows: of the first output; of the others `step` bytes further on for each
  void (*average)(const WindowRows&, const AverageParameters&);
  void (*gemm_half)(const HalfInput&, const HalfPanel&, const HalfOutput&);
  void (*lstm_cell)(const CellStep&);
  void (*gru_cell)(const CellStep&);
  void (*rnn_tanh_cell)(const CellStep&);
  void (*rnn_relu_cell)(const CellStep&);
  bool (*sum_bags)(const Table&, const Bags&);
  void (*fake_quantize)(const MaskedElements&, uint16_t* inside,
                        const FakeQuantizeChannels&);  // inside: one bit for each element
  void (*keep_inside)(const MaskedElements&, const uint16_t* inside);
  void (*column_ranges)(const float* x, int64_t rows, int64_t columns, float* low, float* high);
  bool (*histogram)(const float* x, int64_t n, const HistogramBins&,
                    const HistogramResult&);  // false where not all are finite
  void (*sums)(const uint8_t* x, int64_t n, int64_t* sum, int64_t* squares);
  void (*normalize)(const uint8_t* x, uint8_t* y, int64_t n, const Normalization&,
                    const ElementAffine&);
  void (*normalize_slice)(const uint8_t* x, uint8_t* y, int64_t n, const Normalization&,
                          const SliceAffine&);
  void (*softmax)(const uint8_t* x, uint8_t* y, int64_t n, const int64_t* terms,
                  const IntegerResult&);
  void (*attention)(const AttentionBlock&);
  void (*blend_pixels)(const PixelBlend&);
  void (*blend_rows)(const RowBlend&);
  void (*float_function)(const float* x, float* y, int64_t n, FloatFunction);
  void (*float_add)(const float* a, const float* b, float* y, int64_t n);
  void (*float_layer_norm)(const FloatNormRow&);
  int64_t (*peak)(
      int64_t rounds);  // nothing but dot products of 64 pairs, for benchmarks; how many were done
};

}  // namespace qcore
