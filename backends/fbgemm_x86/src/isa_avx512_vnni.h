// The vocabulary in AVX-512 with VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA avx512_vnni
#define QCORE_ISA_NAME "avx512_vnni"

#include "lanes_avx512.inl.h"

namespace qcore::avx512_vnni {
namespace {

using Tiles = void;
using Blocks = void;

}  // namespace
}  // namespace qcore::avx512_vnni
