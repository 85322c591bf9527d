// The vocabulary in AVX2 and FMA: 16 lanes are two registers. Products are summed as int16 pairs of
// even and of odd bytes, since the u8 x s8 instruction (vpmaddubsw) saturates.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA avx2
#define QCORE_ISA_NAME "avx2"

#include "lanes_avx2.inl.h"

namespace qcore::avx2 {
namespace {

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
constexpr bool kModerateDot = false;

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
QCORE_INLINE Pairs load_same(const int16_t* p, Constant<4>) {
  return {same_pair(p), same_pair(p + 2)};
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  const auto twice = [](const uint8_t* p) { return _mm256_broadcastsi128_si256(load_128(p)); };
  // The first half of each 128 bits in the lower ones, the second half in the upper ones, as 16-bit
  // values.
  const __m256i halves =
      _mm256_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1, 6, -1, 7, -1, 8, -1, 9, -1, 10, -1,
                       11, -1, 12, -1, 13, -1, 14, -1, 15, -1);
  const auto widen = [&](__m256i bytes) { return _mm256_shuffle_epi8(bytes, halves); };
  const __m256i ra = twice(a), rb = twice(b), rc = twice(c), rd = twice(d);
  return {{widen(_mm256_unpacklo_epi8(ra, rc)), widen(_mm256_unpacklo_epi8(rb, rd))},
          {widen(_mm256_unpackhi_epi8(ra, rc)), widen(_mm256_unpackhi_epi8(rb, rd))}};
}

QCORE_INLINE Weights load_weights(const int8_t* p) {
  const __m256i a = load_256(p), b = load_256(p + 32);
  return {{even_s8(a), odd_s8(a)}, {even_s8(b), odd_s8(b)}};
}

QCORE_INLINE WideWeights load_weights(const int16_t* p) { return {load_256(p), load_256(p + 16)}; }

// The tiles of the GEMM read values of 16 bits: of rows always, of weights where enough rows share
// their widening. A group of four becomes the pair of its first and third, then that of its second
// and fourth value.
//
// With both widened, a group's sum x0 w0 + x1 w1 + x2 w2 + x3 w3 is (x0 + w1) (x1 + w0) + (x2 + w3)
// (x3 + w2) less x0 x1 + x2 x3 of the row and w0 w1 + w2 w3 of the column: half of the
// multiplications (Winograd, 1968). The excess of rows and columns is subtracted beforehand; all is
// exact modulo 2^32. Additions run on all four of a core's vector units, multiplications on two.
using Tiles = void;
using Blocks = void;
struct Widening {
  static constexpr int kRows = 4;

  static QCORE_INLINE void weights(const int8_t* p, int16_t* to, I32& excess) {
    const Weights w = load_weights(p);
    excess.a = _mm256_sub_epi32(excess.a, _mm256_madd_epi16(w.a.even, w.a.odd));
    excess.b = _mm256_sub_epi32(excess.b, _mm256_madd_epi16(w.b.even, w.b.odd));
    store_256(to, w.a.even);
    store_256(to + 16, w.b.even);
    store_256(to + 32, w.a.odd);
    store_256(to + 48, w.b.odd);
  }

  template <int R>
  static QCORE_INLINE void accumulate(const int16_t* const (&x)[R], const int16_t* w,
                                      int64_t groups, I32* sums) {
    I32 acc[R];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { acc[r.value] = sums[r.value]; });
#pragma GCC unroll 2
    for (int64_t k = 0; k < groups * kGroup; k += kGroup, w += kUnit) {
      const __m256i even_a = load_256(w), even_b = load_256(w + 16), odd_a = load_256(w + 32),
                    odd_b = load_256(w + 48);
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const __m256i even = same_pair(x[r.value] + k), odd = same_pair(x[r.value] + k + 2);
        const auto products = [&](__m256i e, __m256i o) QCORE_INLINE_LAMBDA {
          return _mm256_madd_epi16(_mm256_add_epi16(even, o), _mm256_add_epi16(odd, e));
        };
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
      store_256(to, _mm256_permute2x128_si256(low, high, 0x20));
      store_256(to + 16, _mm256_permute2x128_si256(low, high, 0x31));
      if (kExcess) products = _mm256_add_epi32(products, _mm256_madd_epi16(even, odd));
    }
    for (; groups >= 2; groups -= 2, x += 8, to += 8) {
      const __m128i bytes = load_64(x), even = _mm_and_si128(bytes, _mm_set1_epi16(255)),
                    odd = _mm_srli_epi16(bytes, 8);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi32(even, odd));
      if (kExcess) {
        products = _mm256_add_epi32(products, _mm256_zextsi128_si256(_mm_madd_epi16(even, odd)));
      }
    }
    int32_t rest = 0;
    if (groups > 0) {
      const int16_t pairs[4] = {x[0], x[2], x[1], x[3]};
      std::memcpy(to, pairs, sizeof pairs);
      rest = x[0] * x[1] + x[2] * x[3];
    }
    if (!kExcess) return 0;
    const __m128i fours =
        _mm_add_epi32(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1));
    const __m128i twos = _mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0x4E)),
                  one = _mm_add_epi32(twos, _mm_shuffle_epi32(twos, 0xB1));
    return -(_mm_cvtsi128_si32(one) + rest);
  }
};

QCORE_INLINE __m256i dot(__m256i acc, const Pairs& x, const Pairs& w) {
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
}

QCORE_INLINE I32 dot(const I32& acc, const Pairs& x, const Weights& w) {
  return {dot(acc.a, x, w.a), dot(acc.b, x, w.b)};
}
QCORE_INLINE I32 dot(const I32& acc, __m256i x, const WideWeights& w) {
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(x, w.a)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(x, w.b))};
}

}  // namespace
}  // namespace qcore::avx2
