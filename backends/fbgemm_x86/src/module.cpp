// The Python module: the instruction sets of x86 in order of preference, and which of them this CPU
// has.
#include "qcore/python/module.h"
#include "cpu.h"

namespace qcore {
namespace scalar {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx_vnni {
extern const Kernels kKernels;
}
namespace avx512_vnni {
extern const Kernels kKernels;
}
namespace avx512_amx {
extern const Kernels kKernels;
}

namespace {

const Isa kIsas[] = {
#ifndef QCORE_EMULATE_AVX512
    {avx512_amx::kKernels, has_amx},
    {avx512_vnni::kKernels, has_avx512_vnni},
#endif
    {avx_vnni::kKernels, has_avx_vnni},
    {avx2::kKernels, has_avx2},
    {scalar::kKernels, [] { return true; }},
#ifdef QCORE_EMULATE_AVX512
    {avx512_amx::kKernels, has_avx2},  // last: they are used where they are asked for, and never
                                       // chosen
    {avx512_vnni::kKernels, has_avx2},
#endif
};

}  // namespace

PYBIND11_MODULE(_native, m) {
  __builtin_cpu_init();
  m.doc() = "Kernels of fbgemm_x86";
  bind_module<kIsas>(m);
}

}  // namespace qcore
