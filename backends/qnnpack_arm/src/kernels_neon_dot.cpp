#include "isa_neon_dot.h"

#include "qcore/kernels.inl.h"
