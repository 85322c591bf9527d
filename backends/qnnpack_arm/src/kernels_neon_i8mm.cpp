#include "isa_neon_i8mm.h"

#include "qcore/micro/kernels.inl.h"
