// The Python module: the instruction sets of 64-bit ARM in order of preference, and which of them
// this CPU has.
#include "qcore/python/module.h"
#include "cpu.h"

namespace qcore {
namespace neon {
extern const Kernels kKernels;
}
namespace neon_dot {
extern const Kernels kKernels;
}
namespace neon_i8mm {
extern const Kernels kKernels;
}

namespace {

const Isa kIsas[] = {
    {neon_i8mm::kKernels, has_neon_i8mm},
    {neon_dot::kKernels, has_neon_dot},
    {neon::kKernels, [] { return true; }},
};

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Kernels of qnnpack_arm";
  bind_module<kIsas>(m);
}

}  // namespace qcore
