#include "isa_neon.h"

#include "qcore/micro/kernels.inl.h"
