#include "qcore/isa_scalar.h"

#include "qcore/kernels.inl.h"
