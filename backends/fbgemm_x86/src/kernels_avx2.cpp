#include "isa_avx2.h"

#include "qcore/micro/kernels.inl.h"
