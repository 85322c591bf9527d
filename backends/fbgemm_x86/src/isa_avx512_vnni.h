// The vocabulary in AVX-512 with VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/inline.h"
#include "qcore/kernels.h"

#define QCORE_ISA avx512_vnni
#define QCORE_ISA_NAME "avx512_vnni"

namespace qcore::avx512_vnni {
namespace {

#include "lanes_avx512.h"

using Tiles = void;
using Blocks = void;

}  // namespace
}  // namespace qcore::avx512_vnni
