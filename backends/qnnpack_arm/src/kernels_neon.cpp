#include "isa_neon.h"

#include "qcore/kernels.inl.h"
