// Vectors of AVX2, 16 lanes in two registers, and all of the vocabulary but products. Instruction
// sets that differ in these include it, once QCORE_ISA names them.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"
#include "transpose4.inl.h"

namespace qcore::QCORE_ISA {
namespace {

struct I32 {
  __m256i a, b;
};
struct F32 {
  __m256 a, b;
};

QCORE_INLINE __m256i load_256(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
QCORE_INLINE __m128i load_128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
QCORE_INLINE __m128i load_64(const void* p) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
QCORE_INLINE void store_256(void* p, __m256i x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x);
}

// Loops over halves of vectors leave more registers to each.
constexpr int kParts = 2;
constexpr bool kStoresSome = false;
using Spread = void;
using BoundedRounding = void;
template <int kPart, class T>
QCORE_INLINE auto& part(T& x) {
  if constexpr (kPart == 0) {
    return x.a;
  } else {
    return x.b;
  }
}

QCORE_INLINE I32 set_i32(int32_t a) { return {_mm256_set1_epi32(a), _mm256_set1_epi32(a)}; }
QCORE_INLINE I32 load_i32(const int32_t* p) { return {load_256(p), load_256(p + 8)}; }
QCORE_INLINE void store_i32(int32_t* p, const I32& x) {
  store_256(p, x.a);
  store_256(p + 8, x.b);
}

QCORE_INLINE I32 load_bytes(const uint8_t* p) {
  return {_mm256_cvtepu8_epi32(load_64(p)), _mm256_cvtepu8_epi32(load_64(p + 8))};
}
QCORE_INLINE I32 load_bytes(const int8_t* p) {
  return {_mm256_cvtepi8_epi32(load_64(p)), _mm256_cvtepi8_epi32(load_64(p + 8))};
}

QCORE_INLINE I32 add(const I32& x, const I32& y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
QCORE_INLINE I32 mul(const I32& x, const I32& y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}

// The low byte of each lane.
QCORE_INLINE void store_bytes(uint8_t* p, const I32& x) {
  const __m256i low = _mm256_set1_epi32(255);
  const __m256i words = _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

QCORE_INLINE F32 set_f32(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
QCORE_INLINE F32 load_f32(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
QCORE_INLINE void store_f32(float* p, const F32& x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
QCORE_INLINE F32 to_f32(const I32& x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
QCORE_INLINE F32 add(const F32& x, const F32& y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
QCORE_INLINE F32 mul(const F32& x, const F32& y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
QCORE_INLINE F32 sub(const F32& x, const F32& y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
QCORE_INLINE F32 div(const F32& x, const F32& y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
QCORE_INLINE F32 fma(const F32& x, const F32& y, const F32& z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
QCORE_INLINE F32 min(const F32& x, const F32& y) {
  return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
QCORE_INLINE F32 max(const F32& x, const F32& y) {
  return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

// By the rounding mode in force, which is to nearest, ties to even.
QCORE_INLINE I32 round_i32(const F32& x) {
  return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}

// Whole numbers; those beyond [0, most] and NaN become some number in it, since the packing
// saturates.
QCORE_INLINE void store_indices(uint16_t* p, const F32& x, uint16_t most) {
  const I32 whole = round_i32(x);
  const __m256i words = _mm256_min_epu16(_mm256_packus_epi32(whole.a, whole.b),
                                         _mm256_set1_epi16(static_cast<int16_t>(most)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xD8));
}

// Clamping from above comes before rounding, since large floats become INT32_MIN; from below the
// packing saturates.
struct Rounding {
  __m256 high;
  __m256i zero, low;
};
QCORE_INLINE Rounding rounding(float low, float high, int32_t zero) {
  return {_mm256_set1_ps(high), _mm256_set1_epi16(static_cast<int16_t>(zero)),
          _mm256_set1_epi8(static_cast<char>(static_cast<int32_t>(low) + zero))};
}
QCORE_INLINE __m256i rounded_words(const F32& x, const Rounding& r) {
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(x.a, r.high)),
                                           _mm256_cvtps_epi32(_mm256_min_ps(x.b, r.high)));
  return _mm256_adds_epi16(words, r.zero);
}
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b,
                                const Rounding& r) {
  const __m256i bytes =
      _mm256_max_epu8(_mm256_packus_epi16(rounded_words(a, r), rounded_words(b, r)), r.low);
  const __m256i ordered =
      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(ordered));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + step), _mm256_extracti128_si256(ordered, 1));
}
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b, const F32& c,
                                const F32& d, const Rounding& r) {
  store_rounded(p, step, a, b, r);
  store_rounded(p + 2 * step, step, c, d, r);
}

QCORE_INLINE __m256 round_256(__m256 x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
QCORE_INLINE F32 round_f32(const F32& x) { return {round_256(x.a), round_256(x.b)}; }
QCORE_INLINE F32 floor_f32(const F32& x) { return {_mm256_floor_ps(x.a), _mm256_floor_ps(x.b)}; }

QCORE_INLINE uint16_t equal_bits(const F32& x, const F32& y) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ)),
            high = _mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ));
  return static_cast<uint16_t>(low | high << 8);
}
QCORE_INLINE __m256 keep_256(__m256i bits, __m256i each, __m256 x) {
  return _mm256_and_ps(x,
                       _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, each), each)));
}
QCORE_INLINE F32 keep(uint16_t bits, const F32& x) {
  const __m256i all = _mm256_set1_epi32(bits), low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return {keep_256(all, low, x.a), keep_256(all, _mm256_slli_epi32(low, 8), x.b)};
}

QCORE_INLINE __m256 power_of_two_256(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
QCORE_INLINE F32 power_of_two(const I32& n) {
  return {power_of_two_256(n.a), power_of_two_256(n.b)};
}

QCORE_INLINE __m256 sign_bit() { return _mm256_set1_ps(-0.0f); }
QCORE_INLINE F32 magnitude(const F32& x) {
  return {_mm256_andnot_ps(sign_bit(), x.a), _mm256_andnot_ps(sign_bit(), x.b)};
}
QCORE_INLINE __m256 with_sign_256(__m256 x, __m256 sign) {
  return _mm256_or_ps(_mm256_andnot_ps(sign_bit(), x), _mm256_and_ps(sign_bit(), sign));
}
QCORE_INLINE F32 with_sign(const F32& x, const F32& sign) {
  return {with_sign_256(x.a, sign.a), with_sign_256(x.b, sign.b)};
}
QCORE_INLINE F32 where_negative(const F32& x, const F32& y, const F32& z) {
  return {_mm256_blendv_ps(z.a, y.a, x.a), _mm256_blendv_ps(z.b, y.b, x.b)};
}
QCORE_INLINE F32 keep_nan(const F32& x, const F32& from) {
  return {_mm256_blendv_ps(x.a, from.a, _mm256_cmp_ps(from.a, from.a, _CMP_UNORD_Q)),
          _mm256_blendv_ps(x.b, from.b, _mm256_cmp_ps(from.b, from.b, _CMP_UNORD_Q))};
}

QCORE_INLINE F32 load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 8))};
}

QCORE_INLINE I32 load_nibbles(const uint8_t* p) {
  const __m128i x = load_64(p), low = _mm_set1_epi8(15);
  return {_mm256_cvtepu8_epi32(_mm_and_si128(x, low)),
          _mm256_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16(x, 4), low))};
}

}  // namespace
}  // namespace qcore::QCORE_ISA
