// The vocabulary in AVX2 with AVX-VNNI: four products and their sum are one instruction, on
// registers of 8 lanes.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA avx_vnni
#define QCORE_ISA_NAME "avx_vnni"

#include "lanes_avx2.inl.h"

namespace qcore::avx_vnni {
namespace {

struct Weights {
  __m256i a, b;
};
struct Each4 {
  __m256i a, b;
};

using Tiles = void;
using Blocks = void;
using Widening = void;
constexpr int kTileUnits = 1;
constexpr int tile_units(int64_t rows) { return rows > 3 ? kTileUnits : rows > 1 ? 2 : 4; }
constexpr int tile_rows(int units) { return units == 1 ? 6 : units == 2 ? 3 : 1; }
constexpr bool kModerateDot = false;

QCORE_INLINE __m256i load_same(const uint8_t* p, Constant<kGroup>) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  const auto halves = [](__m128i low, __m128i high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
  };
  const __m128i ra = load_128(a), rb = load_128(b), rc = load_128(c), rd = load_128(d);
  const __m256i ab = halves(_mm_unpacklo_epi8(ra, rb), _mm_unpackhi_epi8(ra, rb));
  const __m256i cd = halves(_mm_unpacklo_epi8(rc, rd), _mm_unpackhi_epi8(rc, rd));
  const __m256i low = _mm256_unpacklo_epi16(ab, cd), high = _mm256_unpackhi_epi16(ab, cd);
  return {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
}

QCORE_INLINE Weights load_weights(const int8_t* p) { return {load_256(p), load_256(p + 32)}; }
QCORE_INLINE __m256i dot(__m256i acc, __m256i x, __m256i w) {
  return _mm256_dpbusd_avx_epi32(acc, x, w);
}
QCORE_INLINE I32 dot(const I32& acc, __m256i x, const Weights& w) {
  return {dot(acc.a, x, w.a), dot(acc.b, x, w.b)};
}

}  // namespace
}  // namespace qcore::avx_vnni
