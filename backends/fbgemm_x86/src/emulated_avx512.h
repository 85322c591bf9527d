// AVX-512 intrinsics on a CPU without them, through SIMDe, so that the kernels' bits can be tested
// there: for developers, slow, never chosen by itself. Here is what SIMDe lacks; each is two halves
// of AVX2.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

// Compilers have functions of these names, which cannot be inlined without AVX-512.
#define _mm512_cvtepu8_epi32 qcore_cvtepu8_epi32
#define _mm512_cvtepi8_epi32 qcore_cvtepi8_epi32
#define _mm512_cvtepi32_epi8 qcore_cvtepi32_epi8
#define _mm512_cvtepi32_epi16 qcore_cvtepi32_epi16
#define _mm512_cvtepi32_ps qcore_cvtepi32_ps
#define _mm512_cvtph_ps qcore_cvtph_ps
#undef _mm512_cvt_roundps_epi32
#define _mm512_cvt_roundps_epi32(x, nearest) qcore_cvtps_epi32(x)

namespace {

struct Halves {
  __m256i low, high;
};

inline Halves halves(__m512i x) {
  return {_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1)};
}
inline __m512i join(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
inline __m512 join_f32(__m256 low, __m256 high) {
  return _mm512_castsi512_ps(join(_mm256_castps_si256(low), _mm256_castps_si256(high)));
}
inline __m128i upper_8(__m128i x) { return _mm_unpackhi_epi64(x, x); }

inline __m512i qcore_cvtepu8_epi32(__m128i x) {
  return join(_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(upper_8(x)));
}
inline __m512i qcore_cvtepi8_epi32(__m128i x) {
  return join(_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(upper_8(x)));
}

inline __m256i qcore_cvtepi32_epi16(__m512i x) {
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  const Halves h = halves(x);
  return _mm256_permute4x64_epi64(
      _mm256_packus_epi32(_mm256_and_si256(h.low, low), _mm256_and_si256(h.high, low)), 0xD8);
}

inline __m128i qcore_cvtepi32_epi8(__m512i x) {
  const __m256i words = _mm256_and_si256(qcore_cvtepi32_epi16(x), _mm256_set1_epi16(0xFF));
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

inline __m512 qcore_cvtepi32_ps(__m512i x) {
  const Halves h = halves(x);
  return join_f32(_mm256_cvtepi32_ps(h.low), _mm256_cvtepi32_ps(h.high));
}

inline __m512i qcore_cvtps_epi32(__m512 x) {
  const Halves h = halves(_mm512_castps_si512(x));
  return join(_mm256_cvtps_epi32(_mm256_castsi256_ps(h.low)),
              _mm256_cvtps_epi32(_mm256_castsi256_ps(h.high)));
}

inline __m512 qcore_cvtph_ps(__m256i x) {
  return join_f32(_mm256_cvtph_ps(_mm256_castsi256_si128(x)),
                  _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)));
}

}  // namespace
