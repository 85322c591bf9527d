#include "isa_neon_i8mm.h"

#include "qcore/kernels.inl.h"
