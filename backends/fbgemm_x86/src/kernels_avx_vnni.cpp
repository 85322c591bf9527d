#include "isa_avx_vnni.h"

#include "qcore/kernels.inl.h"
