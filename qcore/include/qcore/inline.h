// Attributes for code that is compiled once per ISA: nothing of it may be shared by the linker.
#pragma once

#define QCORE_INLINE inline __attribute__((always_inline))
