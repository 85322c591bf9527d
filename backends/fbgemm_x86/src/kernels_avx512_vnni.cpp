#include "isa_avx512_vnni.h"

#include "qcore/kernels.inl.h"
