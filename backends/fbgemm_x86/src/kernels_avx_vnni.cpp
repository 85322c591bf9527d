#include "isa_avx_vnni.h"

#include "qcore/micro/kernels.inl.h"
