// The Python module: the instruction sets of 64-bit ARM in order of preference, and which of them this CPU has.
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "qcore/module.h"

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

// Bits of the kernel's hardware capabilities, by their numbers: older headers do not name them.
#if defined(__linux__)
bool has_dot() { return getauxval(AT_HWCAP) >> 20 & 1; }
bool has_i8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }
#elif defined(__APPLE__)
bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value;
}
bool has_dot() { return has("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dot() { return false; }
bool has_i8mm() { return false; }
#endif

const Isa kIsas[] = {
    {neon_i8mm::kKernels, [] { return has_dot() && has_i8mm(); }},
    {neon_dot::kKernels, has_dot},
    {neon::kKernels, [] { return true; }},
};

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Kernels of qnnpack_arm";
  bind_module<kIsas>(m);
}

}  // namespace qcore
