// All kernels of one ISA, in one table. An ISA's .cpp includes its vocabulary, then this.

#include <type_traits>
#include <utility>

#include "qcore/epilogue.inl.h"
#include "qcore/elementwise.inl.h"
#include "qcore/gemm_tiles.inl.h"
#include "qcore/gemm_blocks.inl.h"
#include "qcore/gemm.inl.h"
#include "qcore/depthwise.inl.h"
#include "qcore/winograd.inl.h"
#include "qcore/pooling.inl.h"
#include "qcore/training.inl.h"
#include "qcore/normalization.inl.h"
#include "qcore/half.inl.h"
#include "qcore/gates.inl.h"
#include "qcore/floats.inl.h"
#include "qcore/attention.inl.h"
#include "qcore/embedding.inl.h"
#include "qcore/softmax.inl.h"
#include "qcore/interpolate.inl.h"

namespace qcore::QCORE_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {
    QCORE_ISA_NAME, kLayout, rows_preparer(), holder(), gemm_u8, gemm<FloatOutput>, depthwise, winograd_kernel(), quantize, dequantize<uint8_t>, dequantize<int8_t>,
    range, add, mul, requantize, clamp, lookup, max, average,
    gemm_half, cell<LstmCell>, cell<GruCell>, cell<RnnTanhCell>, cell<RnnReluCell>, sum_bags,
    fake_quantize, keep_inside, column_ranges, histogram,
    sums, normalize, normalize_slice,
    softmax, attention, blend_pixels, blend_rows,
    float_function, float_add, float_layer_norm, peak<>,
};

}  // namespace qcore::QCORE_ISA
