// All kernels of one ISA, in one table. An ISA's .cpp includes its vocabulary, then this.
#pragma once

#include <cstdint>

#include "qcore/micro/attention.inl.h"
#include "qcore/micro/depthwise.inl.h"
#include "qcore/micro/elementwise.inl.h"
#include "qcore/micro/embedding.inl.h"
#include "qcore/micro/floats.inl.h"
#include "qcore/micro/gates.inl.h"
#include "qcore/micro/gemm.inl.h"
#include "qcore/micro/half.inl.h"
#include "qcore/micro/interpolate.inl.h"
#include "qcore/micro/normalization.inl.h"
#include "qcore/micro/pooling.inl.h"
#include "qcore/micro/softmax.inl.h"
#include "qcore/micro/training.inl.h"
#include "qcore/micro/winograd.inl.h"

namespace qcore::QCORE_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {
    QCORE_ISA_NAME,
    kLayout,
    rows_preparer(),
    holder(),
    gemm_u8,
    gemm<FloatOutput>,
    depthwise,
    winograd_kernel(),
    quantize,
    dequantize<uint8_t>,
    dequantize<int8_t>,
    range,
    add,
    mul,
    requantize,
    clamp,
    lookup,
    max,
    average,
    gemm_half,
    cell<LstmCell>,
    cell<GruCell>,
    cell<RnnTanhCell>,
    cell<RnnReluCell>,
    sum_bags,
    fake_quantize,
    keep_inside,
    column_ranges,
    histogram,
    sums,
    normalize,
    normalize_slice,
    softmax,
    attention,
    blend_pixels,
    blend_rows,
    float_function,
    float_add,
    float_layer_norm,
    peak<>,
};

}  // namespace qcore::QCORE_ISA
