// What the vocabularies in AVX-512 share: 16 lanes are one register, four products and their sum
// one instruction (VNNI). Instruction sets include it, once QCORE_ISA names them.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"
#include "transpose4.inl.h"

namespace qcore::QCORE_ISA {
namespace {

using I32 = __m512i;
using F32 = __m512;
using Weights = __m512i;
using Same = __m512i;
using Each4 = __m512i;

constexpr int kParts = 1;
constexpr bool kModerateDot = false;
template <int, class T>
QCORE_INLINE T& part(T& x) {
  return x;
}

using Widening = void;
constexpr int kTileUnits = 4;
constexpr int tile_units(int64_t /*rows*/) { return kTileUnits; }
constexpr int tile_rows(int units) { return units == 4 ? 6 : units == 1 ? 12 : 8; }

QCORE_INLINE Same load_same(const uint8_t* p, Constant<kGroup>) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  const auto row = [](const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  };
  __m512i rows = _mm512_castsi128_si512(row(a));
  rows = _mm512_mask_broadcast_i32x4(rows, 0x00F0, row(b));
  rows = _mm512_mask_broadcast_i32x4(rows, 0x0F00, row(c));
  rows = _mm512_mask_broadcast_i32x4(rows, 0xF000, row(d));
  // Transpose 4 x 16 bytes: dwords across the 128-bit lanes first, then bytes within them.
  const __m512i across = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i within =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(across, rows), within);
}

QCORE_INLINE Weights load_weights(const int8_t* p) { return _mm512_loadu_si512(p); }
QCORE_INLINE I32 dot(I32 acc, Same x, Weights w) { return _mm512_dpbusd_epi32(acc, x, w); }

QCORE_INLINE I32 set_i32(int32_t a) { return _mm512_set1_epi32(a); }
QCORE_INLINE I32 load_i32(const int32_t* p) { return _mm512_loadu_si512(p); }
QCORE_INLINE void store_i32(int32_t* p, I32 a) { _mm512_storeu_si512(p, a); }
QCORE_INLINE I32 load_bytes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
QCORE_INLINE I32 load_bytes(const int8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
QCORE_INLINE I32 add(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
QCORE_INLINE I32 mul(I32 a, I32 b) { return _mm512_mullo_epi32(a, b); }
QCORE_INLINE void store_bytes(uint8_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}

QCORE_INLINE F32 set_f32(float a) { return _mm512_set1_ps(a); }
QCORE_INLINE F32 load_f32(const float* p) { return _mm512_loadu_ps(p); }
QCORE_INLINE void store_f32(float* p, F32 a) { _mm512_storeu_ps(p, a); }
QCORE_INLINE F32 to_f32(I32 a) { return _mm512_cvtepi32_ps(a); }
QCORE_INLINE F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
QCORE_INLINE F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
QCORE_INLINE F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
QCORE_INLINE F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
QCORE_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
QCORE_INLINE F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
QCORE_INLINE F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
QCORE_INLINE I32 round_i32(F32 a) {
  return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
QCORE_INLINE void store_indices(uint16_t* p, F32 a, uint16_t most) {
  const __m512i clamped = _mm512_max_epi32(_mm512_min_epi32(round_i32(a), _mm512_set1_epi32(most)),
                                           _mm512_setzero_si512());
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(clamped));
}

// Clamping from above comes before rounding, since large floats become INT32_MIN; from below the
// packing saturates.
struct Rounding {
  __m512 high;
  __m512i zero, low;
};
QCORE_INLINE Rounding rounding(float low, float high, int32_t zero) {
  return {_mm512_set1_ps(high), _mm512_set1_epi16(static_cast<int16_t>(zero)),
          _mm512_set1_epi8(static_cast<char>(static_cast<int32_t>(low) + zero))};
}
QCORE_INLINE __m512i rounded_words(F32 a, F32 b, const Rounding& r) {
  return _mm512_adds_epi16(_mm512_packs_epi32(round_i32(min(a, r.high)), round_i32(min(b, r.high))),
                           r.zero);
}
QCORE_INLINE __m512i clamped(__m512i bytes, const Rounding& r) {
  return _mm512_max_epu8(bytes, r.low);
}

// Of numbers below 2^31, which therefore stay in order when they are packed.
struct BoundedRounding {
  __m512i zero, low, high;
  static QCORE_INLINE BoundedRounding of(float low, float high, int32_t zero) {
    const auto byte = [&](float bound) {
      return _mm512_set1_epi8(static_cast<char>(static_cast<int32_t>(bound) + zero));
    };
    return {_mm512_set1_epi16(static_cast<int16_t>(zero)), byte(low), byte(high)};
  }
};
QCORE_INLINE __m512i rounded_words(F32 a, F32 b, const BoundedRounding& r) {
  return _mm512_adds_epi16(_mm512_packs_epi32(round_i32(a), round_i32(b)), r.zero);
}
QCORE_INLINE __m512i clamped(__m512i bytes, const BoundedRounding& r) {
  return _mm512_max_epu8(_mm512_min_epu8(bytes, r.high), r.low);
}

QCORE_INLINE void store_128(uint8_t* p, __m128i x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x);
}
template <class R>
QCORE_INLINE __m512i rounded_bytes(F32 a, F32 b, F32 c, F32 d, const R& r) {
  const __m512i bytes =
      clamped(_mm512_packus_epi16(rounded_words(a, b, r), rounded_words(c, d, r)), r);
  return _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
}
template <class R>
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, F32 a, F32 b, F32 c, F32 d, const R& r) {
  const __m512i ordered = rounded_bytes(a, b, c, d, r);
  if (step == 16) return _mm512_storeu_si512(p, ordered);
  store_128(p, _mm512_castsi512_si128(ordered));
  store_128(p + step, _mm512_extracti32x4_epi32(ordered, 1));
  store_128(p + 2 * step, _mm512_extracti32x4_epi32(ordered, 2));
  store_128(p + 3 * step, _mm512_extracti32x4_epi32(ordered, 3));
}
template <class R>
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, F32 a, F32 b, const R& r) {
  const __m512i words = rounded_words(a, b, r);
  const __m512i bytes = clamped(_mm512_packus_epi16(words, words), r);
  const __m512i ordered = _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13), bytes);
  store_128(p, _mm512_castsi512_si128(ordered));
  store_128(p + step, _mm512_extracti32x4_epi32(ordered, 1));
}

QCORE_INLINE __mmask64 first_bits(int count) {
  return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

// 64 channels in four vectors, as bytes are transposed and packed within 128-bit lanes: vector v
// has lanes of four from channels 4 v, 16 + 4 v, 32 + 4 v and 48 + 4 v on.
struct Spread {
  static QCORE_INLINE void load(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                                const uint8_t* d, Each4* to) {
    const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b), z = _mm512_loadu_si512(c),
                  w = _mm512_loadu_si512(d);
    const __m512i low_xy = _mm512_unpacklo_epi8(x, y), low_zw = _mm512_unpacklo_epi8(z, w);
    const __m512i high_xy = _mm512_unpackhi_epi8(x, y), high_zw = _mm512_unpackhi_epi8(z, w);
    to[0] = _mm512_unpacklo_epi16(low_xy, low_zw);
    to[1] = _mm512_unpackhi_epi16(low_xy, low_zw);
    to[2] = _mm512_unpacklo_epi16(high_xy, high_zw);
    to[3] = _mm512_unpackhi_epi16(high_xy, high_zw);
  }

  // Four times 16 bytes, `step` bytes apart.
  static QCORE_INLINE __m512i lanes(const void* p, int64_t step) {
    const auto at = [&](int i) {
      return _mm_loadu_si128(
          reinterpret_cast<const __m128i*>(static_cast<const uint8_t*>(p) + i * step));
    };
    const __m512i first = _mm512_mask_broadcast_i32x4(_mm512_castsi128_si512(at(0)), 0x00F0, at(1));
    return _mm512_mask_broadcast_i32x4(_mm512_mask_broadcast_i32x4(first, 0x0F00, at(2)), 0xF000,
                                       at(3));
  }
  static QCORE_INLINE Weights lanes(const int8_t* w, int64_t step) {
    return lanes(static_cast<const void*>(w), step);
  }
  static QCORE_INLINE I32 lanes(const int32_t* p) { return lanes(p, 4 * kLanes); }
  static QCORE_INLINE F32 lanes(const float* p) {
    return _mm512_castsi512_ps(lanes(p, 4 * kLanes));
  }

  template <class R>
  static QCORE_INLINE void store(uint8_t* p, int count, F32 a, F32 b, F32 c, F32 d, const R& r) {
    const __m512i bytes =
        clamped(_mm512_packus_epi16(rounded_words(a, b, r), rounded_words(c, d, r)), r);
    if (count == 64) return _mm512_storeu_si512(p, bytes);
    _mm512_mask_storeu_epi8(p, first_bits(count), bytes);
  }
};

// The first `count` bytes of four vectors.
constexpr bool kStoresSome = true;
template <class R>
QCORE_INLINE void store_rounded_some(uint8_t* p, int count, F32 a, F32 b, F32 c, F32 d,
                                     const R& r) {
  _mm512_mask_storeu_epi8(p, first_bits(count), rounded_bytes(a, b, c, d, r));
}
QCORE_INLINE I32 load_first_bytes(const uint8_t* p, int count) {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(static_cast<__mmask16>(first_bits(count)), p));
}
QCORE_INLINE I32 load_first_bytes(const int8_t* p, int count) {
  return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(static_cast<__mmask16>(first_bits(count)), p));
}

QCORE_INLINE F32 power_of_two(I32 n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
QCORE_INLINE F32 magnitude(F32 a) { return _mm512_abs_ps(a); }
QCORE_INLINE F32 with_sign(F32 a, F32 sign) {
  constexpr int kSignFromSecond = 0xD8;  // bit c ? b : a
  return _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(sign),
                                _mm512_set1_epi32(INT32_MIN), kSignFromSecond));
}
QCORE_INLINE F32 where_negative(F32 x, F32 a, F32 b) {
  return _mm512_mask_mov_ps(b, _mm512_movepi32_mask(_mm512_castps_si512(x)), a);
}
QCORE_INLINE F32 keep_nan(F32 a, F32 x) {
  return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}

QCORE_INLINE F32 load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

QCORE_INLINE I32 load_nibbles(const uint8_t* p) {
  const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepu8_epi32(
      _mm_and_si128(_mm_unpacklo_epi64(x, _mm_srli_epi16(x, 4)), _mm_set1_epi8(15)));
}

QCORE_INLINE F32 round_f32(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
QCORE_INLINE F32 floor_f32(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
QCORE_INLINE uint16_t equal_bits(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
QCORE_INLINE F32 keep(uint16_t bits, F32 a) { return _mm512_maskz_mov_ps(bits, a); }

}  // namespace
}  // namespace qcore::QCORE_ISA
