// All kernels of one ISA, in one table. An ISA's .cpp includes its vocabulary, then this.

#include "qcore/gemm.inl.h"
#include "qcore/depthwise.inl.h"
#include "qcore/elementwise.inl.h"
#include "qcore/pooling.inl.h"

namespace qcore::QCORE_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {
    QCORE_ISA_NAME, gemm<RequantizedOutput>, gemm<FloatOutput>, depthwise, quantize, dequantize<uint8_t>, dequantize<int8_t>,
    range, add, mul, requantize, clamp, lookup, max, average, peak,
};

}  // namespace qcore::QCORE_ISA
