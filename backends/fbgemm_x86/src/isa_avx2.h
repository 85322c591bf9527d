// The vocabulary in AVX2 and FMA: 16 lanes are two registers. Products are summed as int16 pairs of even and of odd bytes,
// since the u8 x s8 instruction (vpmaddubsw) saturates.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/inline.h"
#include "qcore/kernels.h"

#define QCORE_ISA avx2
#define QCORE_ISA_NAME "avx2"

namespace qcore::avx2 {
namespace {

struct I32 {
  __m256i a, b;
};
struct F32 {
  __m256 a, b;
};
struct Pairs {  // of 8 lanes: first and third, second and fourth value
  __m256i even, odd;
};
struct Each4 {
  Pairs a, b;
};
struct Weights {
  Pairs a, b;
};

struct WideWeights {
  __m256i a, b;
};

constexpr int kTileUnits = 1;
constexpr int tile_units(int64_t rows) { return rows > 3 ? kTileUnits : rows > 1 ? 2 : 4; }
constexpr int tile_rows(int units) { return units == 1 ? 6 : units == 2 ? 3 : units == 3 ? 2 : 1; }

QCORE_INLINE __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
QCORE_INLINE __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
QCORE_INLINE __m128i load_64(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
QCORE_INLINE __m256i even_u8(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi16(255)); }
QCORE_INLINE __m256i odd_u8(__m256i x) { return _mm256_srli_epi16(x, 8); }
QCORE_INLINE __m256i even_s8(__m256i w) { return _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8); }
QCORE_INLINE __m256i odd_s8(__m256i w) { return _mm256_srai_epi16(w, 8); }

QCORE_INLINE __m256i same_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return _mm256_set1_epi32(pair);
}
QCORE_INLINE __m256i load_same(const int16_t* p, Constant<2>) { return same_pair(p); }
QCORE_INLINE Pairs load_same(const int16_t* p, Constant<4>) { return {same_pair(p), same_pair(p + 2)}; }

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const auto twice = [](const uint8_t* p) { return _mm256_broadcastsi128_si256(load_128(p)); };
  // The first half of each 128 bits in the lower ones, the second half in the upper ones, as 16-bit values.
  const __m256i halves = _mm256_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1, 6, -1, 7, -1, 8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1);
  const auto widen = [&](__m256i bytes) { return _mm256_shuffle_epi8(bytes, halves); };
  const __m256i ra = twice(a), rb = twice(b), rc = twice(c), rd = twice(d);
  return {{widen(_mm256_unpacklo_epi8(ra, rc)), widen(_mm256_unpacklo_epi8(rb, rd))}, {widen(_mm256_unpackhi_epi8(ra, rc)), widen(_mm256_unpackhi_epi8(rb, rd))}};
}

QCORE_INLINE Weights load_weights(const int8_t* p) {
  const __m256i a = load_256(p), b = load_256(p + 32);
  return {{even_s8(a), odd_s8(a)}, {even_s8(b), odd_s8(b)}};
}

QCORE_INLINE WideWeights load_weights(const int16_t* p) { return {load_256(p), load_256(p + 16)}; }

QCORE_INLINE void store_256(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }

// The tiles of the GEMM read values of 16 bits: of rows always, of weights where enough rows share their widening. A group of four
// becomes the pair of its first and third, then that of its second and fourth value.
//
// With both widened, a group's sum x0 w0 + x1 w1 + x2 w2 + x3 w3 is (x0 + w1) (x1 + w0) + (x2 + w3) (x3 + w2) less x0 x1 + x2 x3 of the row
// and w0 w1 + w2 w3 of the column: half of the multiplications (Winograd, 1968). The excess of rows and columns is subtracted
// beforehand; all is exact modulo 2^32. Additions run on all four of a core's vector units, multiplications on two.
using Tiles = void;
using Blocks = void;
struct Widening {
  static constexpr int kRows = 4;

  static QCORE_INLINE void weights(const int8_t* p, int16_t* to, I32& excess) {
    const Weights w = load_weights(p);
    excess.a = _mm256_sub_epi32(excess.a, _mm256_madd_epi16(w.a.even, w.a.odd));
    excess.b = _mm256_sub_epi32(excess.b, _mm256_madd_epi16(w.b.even, w.b.odd));
    store_256(to, w.a.even), store_256(to + 16, w.b.even), store_256(to + 32, w.a.odd), store_256(to + 48, w.b.odd);
  }

  template <int R>
  static QCORE_INLINE void accumulate(const int16_t* const (&x)[R], const int16_t* w, int64_t groups, I32* sums) {
    I32 acc[R];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { acc[r.value] = sums[r.value]; });
#pragma GCC unroll 2
    for (int64_t k = 0; k < groups * kGroup; k += kGroup, w += kUnit) {
      const __m256i even_a = load_256(w), even_b = load_256(w + 16), odd_a = load_256(w + 32), odd_b = load_256(w + 48);
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const __m256i even = same_pair(x[r.value] + k), odd = same_pair(x[r.value] + k + 2);
        const auto products = [&](__m256i e, __m256i o) QCORE_INLINE_LAMBDA { return _mm256_madd_epi16(_mm256_add_epi16(even, o), _mm256_add_epi16(odd, e)); };
        acc[r.value].a = _mm256_add_epi32(acc[r.value].a, products(even_a, odd_a));
        acc[r.value].b = _mm256_add_epi32(acc[r.value].b, products(even_b, odd_b));
      });
    }
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { sums[r.value] = acc[r.value]; });
  }

  // Returns the excess of the row, where it is asked for.
  template <bool kExcess>
  static QCORE_INLINE int32_t row(const uint8_t* x, int16_t* to, int64_t groups) {
    __m256i products = _mm256_setzero_si256();
    for (; groups >= 8; groups -= 8, x += 32, to += 32) {
      const __m256i bytes = load_256(x), even = even_u8(bytes), odd = odd_u8(bytes);
      const __m256i low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
      store_256(to, _mm256_permute2x128_si256(low, high, 0x20)), store_256(to + 16, _mm256_permute2x128_si256(low, high, 0x31));
      if (kExcess) products = _mm256_add_epi32(products, _mm256_madd_epi16(even, odd));
    }
    for (; groups >= 2; groups -= 2, x += 8, to += 8) {
      const __m128i bytes = load_64(x), even = _mm_and_si128(bytes, _mm_set1_epi16(255)), odd = _mm_srli_epi16(bytes, 8);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi32(even, odd));
      if (kExcess) products = _mm256_add_epi32(products, _mm256_zextsi128_si256(_mm_madd_epi16(even, odd)));
    }
    int32_t rest = 0;
    if (groups > 0) {
      const int16_t pairs[4] = {x[0], x[2], x[1], x[3]};
      std::memcpy(to, pairs, sizeof pairs);
      rest = x[0] * x[1] + x[2] * x[3];
    }
    if (!kExcess) return 0;
    const __m128i fours = _mm_add_epi32(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1));
    const __m128i twos = _mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0x4E)), one = _mm_add_epi32(twos, _mm_shuffle_epi32(twos, 0xB1));
    return -(_mm_cvtsi128_si32(one) + rest);
  }
};

QCORE_INLINE __m256i dot(__m256i acc, const Pairs& x, const Pairs& w) {
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
}

QCORE_INLINE I32 dot(const I32& acc, const Pairs& x, const Weights& w) { return {dot(acc.a, x, w.a), dot(acc.b, x, w.b)}; }
QCORE_INLINE I32 dot(const I32& acc, __m256i x, const WideWeights& w) {
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x, w.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(x, w.b))};
}

// Loops over halves of vectors leave more registers to each.
constexpr int kParts = 2;
constexpr bool kModerateDot = false;
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
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}

QCORE_INLINE I32 load_bytes(const uint8_t* p) { return {_mm256_cvtepu8_epi32(load_64(p)), _mm256_cvtepu8_epi32(load_64(p + 8))}; }
QCORE_INLINE I32 load_bytes(const int8_t* p) { return {_mm256_cvtepi8_epi32(load_64(p)), _mm256_cvtepi8_epi32(load_64(p + 8))}; }

QCORE_INLINE I32 add(const I32& x, const I32& y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
QCORE_INLINE I32 mul(const I32& x, const I32& y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }

// The low byte of each lane.
QCORE_INLINE void store_bytes(uint8_t* p, const I32& x) {
  const __m256i low = _mm256_set1_epi32(255);
  const __m256i words = _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

QCORE_INLINE F32 set_f32(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
QCORE_INLINE F32 load_f32(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
QCORE_INLINE void store_f32(float* p, const F32& x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
QCORE_INLINE F32 to_f32(const I32& x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
QCORE_INLINE F32 add(const F32& x, const F32& y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
QCORE_INLINE F32 mul(const F32& x, const F32& y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
QCORE_INLINE F32 sub(const F32& x, const F32& y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
QCORE_INLINE F32 div(const F32& x, const F32& y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
QCORE_INLINE F32 fma(const F32& x, const F32& y, const F32& z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
QCORE_INLINE F32 min(const F32& x, const F32& y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
QCORE_INLINE F32 max(const F32& x, const F32& y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }

// By the rounding mode in force, which is to nearest, ties to even.
QCORE_INLINE I32 round_i32(const F32& x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }

// Whole numbers; those beyond [0, most] and NaN become some number in it, since the packing saturates.
QCORE_INLINE void store_indices(uint16_t* p, const F32& x, uint16_t most) {
  const I32 whole = round_i32(x);
  const __m256i words = _mm256_min_epu16(_mm256_packus_epi32(whole.a, whole.b), _mm256_set1_epi16(static_cast<int16_t>(most)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(words, 0xD8));
}

// Clamping from above comes before rounding, since large floats become INT32_MIN; from below the packing saturates.
struct Rounding {
  __m256 high;
  __m256i zero, low;
};
QCORE_INLINE Rounding rounding(float low, float high, int32_t zero) {
  return {_mm256_set1_ps(high), _mm256_set1_epi16(static_cast<int16_t>(zero)), _mm256_set1_epi8(static_cast<char>(static_cast<int32_t>(low) + zero))};
}
QCORE_INLINE __m256i rounded_words(const F32& x, const Rounding& r) {
  const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(x.a, r.high)), _mm256_cvtps_epi32(_mm256_min_ps(x.b, r.high)));
  return _mm256_adds_epi16(words, r.zero);
}
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b, const Rounding& r) {
  const __m256i bytes = _mm256_max_epu8(_mm256_packus_epi16(rounded_words(a, r), rounded_words(b, r)), r.low);
  const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(ordered));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + step), _mm256_extracti128_si256(ordered, 1));
}
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b, const F32& c, const F32& d, const Rounding& r) {
  store_rounded(p, step, a, b, r);
  store_rounded(p + 2 * step, step, c, d, r);
}

QCORE_INLINE __m256 round_256(__m256 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
QCORE_INLINE F32 round_f32(const F32& x) { return {round_256(x.a), round_256(x.b)}; }
QCORE_INLINE F32 floor_f32(const F32& x) { return {_mm256_floor_ps(x.a), _mm256_floor_ps(x.b)}; }

QCORE_INLINE uint16_t equal_bits(const F32& x, const F32& y) {
  const int low = _mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_EQ_OQ)), high = _mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_EQ_OQ));
  return static_cast<uint16_t>(low | high << 8);
}
QCORE_INLINE __m256 keep_256(__m256i bits, __m256i each, __m256 x) {
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, each), each)));
}
QCORE_INLINE F32 keep(uint16_t bits, const F32& x) {
  const __m256i all = _mm256_set1_epi32(bits), low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return {keep_256(all, low, x.a), keep_256(all, _mm256_slli_epi32(low, 8), x.b)};
}

QCORE_INLINE __m256 power_of_two_256(__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
QCORE_INLINE F32 power_of_two(const I32& n) { return {power_of_two_256(n.a), power_of_two_256(n.b)}; }

QCORE_INLINE __m256 sign_bit() { return _mm256_set1_ps(-0.0f); }
QCORE_INLINE F32 magnitude(const F32& x) { return {_mm256_andnot_ps(sign_bit(), x.a), _mm256_andnot_ps(sign_bit(), x.b)}; }
QCORE_INLINE __m256 with_sign_256(__m256 x, __m256 sign) { return _mm256_or_ps(_mm256_andnot_ps(sign_bit(), x), _mm256_and_ps(sign_bit(), sign)); }
QCORE_INLINE F32 with_sign(const F32& x, const F32& sign) { return {with_sign_256(x.a, sign.a), with_sign_256(x.b, sign.b)}; }
QCORE_INLINE F32 where_negative(const F32& x, const F32& y, const F32& z) { return {_mm256_blendv_ps(z.a, y.a, x.a), _mm256_blendv_ps(z.b, y.b, x.b)}; }
QCORE_INLINE F32 keep_nan(const F32& x, const F32& from) {
  return {_mm256_blendv_ps(x.a, from.a, _mm256_cmp_ps(from.a, from.a, _CMP_UNORD_Q)), _mm256_blendv_ps(x.b, from.b, _mm256_cmp_ps(from.b, from.b, _CMP_UNORD_Q))};
}

QCORE_INLINE F32 load_f16(const uint16_t* p) { return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 8))}; }

QCORE_INLINE I32 load_nibbles(const uint8_t* p) {
  const __m128i x = load_64(p), low = _mm_set1_epi8(15);
  return {_mm256_cvtepu8_epi32(_mm_and_si128(x, low)), _mm256_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16(x, 4), low))};
}

}  // namespace
}  // namespace qcore::avx2
