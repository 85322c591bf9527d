// The Python module: the instruction sets of x86 in order of preference, and which of them this CPU has.
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "qcore/module.h"

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

// Not known to every compiler's __builtin_cpu_supports.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

// __builtin_cpu_supports asks cpuid, and xgetbv for what the operating system saves.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }

bool has_avx_vnni() {
  constexpr unsigned kLeaf = 7, kSubleaf = 1, kBit = 1 << 4;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx2() && __get_cpuid_count(kLeaf, kSubleaf, &a, &b, &c, &d) && (a & kBit);
}

#ifndef QCORE_EMULATE_AVX512
bool has_avx512_vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// The system saves tiles (bits 17 and 18 of XCR0) only for processes that asked for it.
bool has_amx() {
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25, kSaved = 3u << 17;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!has_avx512_vnni() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTiles) == 0 || (d & kInt8) == 0) return false;
  unsigned low = 0, high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kSaved) != kSaved) return false;
#ifdef __linux__
  constexpr long kAskForState = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
#else
  return false;
#endif
}
#endif

const Isa kIsas[] = {
#ifndef QCORE_EMULATE_AVX512
    {avx512_amx::kKernels, has_amx},
    {avx512_vnni::kKernels, has_avx512_vnni},
#endif
    {avx_vnni::kKernels, has_avx_vnni},
    {avx2::kKernels, has_avx2},
    {scalar::kKernels, [] { return true; }},
#ifdef QCORE_EMULATE_AVX512
    {avx512_amx::kKernels, has_avx2},  // last: they are used where they are asked for, and never chosen
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
