// Which instruction sets this CPU has.
#pragma once

#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace qcore {

// Bits of the kernel's hardware capabilities, by their numbers: older headers do not name them.
#if defined(__linux__)
inline bool has_neon_dot() { return getauxval(AT_HWCAP) >> 20 & 1; }
inline bool has_i8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }
#elif defined(__APPLE__)
inline bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value;
}
inline bool has_neon_dot() { return has("hw.optional.arm.FEAT_DotProd"); }
inline bool has_i8mm() { return has("hw.optional.arm.FEAT_I8MM"); }
#else
inline bool has_neon_dot() { return false; }
inline bool has_i8mm() { return false; }
#endif
inline bool has_neon_i8mm() { return has_neon_dot() && has_i8mm(); }

}  // namespace qcore
