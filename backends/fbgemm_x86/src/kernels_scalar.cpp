#include "qcore/isa/scalar.h"

#include "qcore/micro/kernels.inl.h"
