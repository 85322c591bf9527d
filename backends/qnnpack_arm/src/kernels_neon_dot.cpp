#include "isa_neon_dot.h"

#include "qcore/micro/kernels.inl.h"
