#include "isa_avx2.h"

#include "qcore/kernels.inl.h"
