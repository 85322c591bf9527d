#ifdef QCORE_EMULATE_AVX512
#include "emulated_avx512.h"
#endif
#include "isa_avx512_amx.h"

#include "qcore/micro/kernels.inl.h"
