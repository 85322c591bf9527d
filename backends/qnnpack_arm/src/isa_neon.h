// The vocabulary in NEON of ARMv8.0: bytes are widened to 16 bits, then multiplied and summed
// to 32.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA neon
#define QCORE_ISA_NAME "neon"

#include "lanes_neon.inl.h"

namespace qcore::neon {
namespace {

struct Each4 {  // bytes less 128 of 8 lanes, twice: two along K by turns, then the other two
  int8x16_t v[4];
};
struct Weights {
  int8x16_t v[4];
};

constexpr int kParts = 1;
constexpr bool kModerateDot = true;
template <int, class T>
QCORE_INLINE T& part(T& x) {
  return x;
}

using Widening = void;
using Blocks = void;
constexpr int kTileUnits = 1;
constexpr int tile_units(int64_t /*rows*/) { return kTileUnits; }
constexpr int tile_rows(int /*units*/) { return 4; }

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  const uint8x16_t x[4] = {vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d)};
  return {{less_128(vzip1q_u8(x[0], x[1])), less_128(vzip2q_u8(x[0], x[1])),
           less_128(vzip1q_u8(x[2], x[3])), less_128(vzip2q_u8(x[2], x[3]))}};
}

QCORE_INLINE Weights load_weights(const int8_t* p) {
  const int8x16x4_t w = vld4q_s8(p);
  return {{vzip1q_s8(w.val[0], w.val[1]), vzip2q_s8(w.val[0], w.val[1]),
           vzip1q_s8(w.val[2], w.val[3]), vzip2q_s8(w.val[2], w.val[3])}};
}

// Products of the low halves: in assembler, since compilers keep halves of weights in registers of
// their own, and run out of them.
QCORE_INLINE int16x8_t multiply_low(int8x16_t x, int8x16_t w) {
  int16x8_t product;
  asm("smull %0.8h, %1.8b, %2.8b" : "=w"(product) : "w"(x), "w"(w));
  return product;
}
QCORE_INLINE int16x8_t multiply_add_low(int16x8_t sum, int8x16_t x, int8x16_t w) {
  asm("smlal %0.8h, %1.8b, %2.8b" : "+w"(sum) : "w"(x), "w"(w));
  return sum;
}

QCORE_INLINE int8x16x4_t load(const Each4& x) {
  return vld1q_s8_x4(reinterpret_cast<const int8_t*>(x.v));
}

QCORE_INLINE I32 dot(const I32& acc, const Each4& each, const Weights& w) {
  const int8x16x4_t x = load(each);
  I32 r = acc;
  for (int i = 0; i < 4; ++i) {
    int32x4_t* sums = r.v + i % 2 * 2;
    sums[0] = vpadalq_s16(sums[0], multiply_low(x.val[i], w.v[i]));
    sums[1] = vpadalq_s16(sums[1], vmull_high_s8(x.val[i], w.v[i]));
  }
  return r;
}

// Two products fit into 16 bits, unless both are -128 * -128.
QCORE_INLINE I32 dot_moderate(const I32& acc, const Each4& each, const Weights& w) {
  const int8x16x4_t x = load(each);
  I32 r = acc;
  for (int i = 0; i < 2; ++i) {
    int32x4_t* sums = r.v + 2 * i;
    sums[0] = vpadalq_s16(
        sums[0], multiply_add_low(multiply_low(x.val[i], w.v[i]), x.val[i + 2], w.v[i + 2]));
    sums[1] = vpadalq_s16(sums[1],
                          vmlal_high_s8(vmull_high_s8(x.val[i], w.v[i]), x.val[i + 2], w.v[i + 2]));
  }
  return r;
}

// A register of weights is two values along K of 8 columns, which are multiplied by the same two of
// a row: products of two such registers are summed in 16 bits, which is exact unless both are -128
// * -128, then pairwise to 32.
struct Tiles {
  static constexpr Layout kLayout{4, true, true, false, true};
  static constexpr int kRowStep = 1;
  static constexpr bool kInlined = true;

  static void prepare(const GemmInput& in, void* to) {
    sign_rows(in, static_cast<int8_t*>(to), in.groups * kLayout.group);
  }

  // Four values along K: a and b are two of them each.
  template <bool Extreme>
  static QCORE_INLINE void add_products(I32& sum, int16x8_t a, int16x8_t b, const int8x16x4_t& w) {
    const int8x16_t x[2] = {vreinterpretq_s8_s16(a), vreinterpretq_s8_s16(b)};
    unroll<2>([&](auto half) QCORE_INLINE_LAMBDA {
      const int8x16_t first = w.val[half.value], second = w.val[2 + half.value];
      int32x4_t* sums = sum.v + 2 * half.value;
      if constexpr (Extreme) {
        sums[0] = vpadalq_s16(vpadalq_s16(sums[0], multiply_low(x[0], first)),
                              multiply_low(x[1], second));
        sums[1] = vpadalq_s16(vpadalq_s16(sums[1], vmull_high_s8(x[0], first)),
                              vmull_high_s8(x[1], second));
      } else {
        sums[0] = vpadalq_s16(sums[0], multiply_add_low(multiply_low(x[0], first), x[1], second));
        sums[1] = vpadalq_s16(sums[1], vmlal_high_s8(vmull_high_s8(x[0], first), x[1], second));
      }
    });
  }

  // The next 64 bytes of weights: in registers that need not be neighbours where sums take most of
  // them.
  template <int R>
  static QCORE_INLINE int8x16x4_t next(const int8_t*& w) {
    if constexpr (R <= 2) return next_64(w);
    const int8x16x4_t bytes{{vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)}};
    w += 64;
    return bytes;
  }

  template <int R, bool Extreme>
  static QCORE_INLINE void accumulate(const GemmInput& in, const int8_t* w, int64_t row,
                                      const int32_t* first, I32* result) {
    const int64_t bytes = in.groups * kLayout.group;
    const int16_t* rows[R];
    I32 sums[R];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      rows[r.value] = reinterpret_cast<const int16_t*>(static_cast<const int8_t*>(in.prepared) +
                                                       (row + r.value) * bytes);
      sums[r.value] = load_first(first);
    });
    int64_t k = 0;
    for (; k + 8 <= bytes; k += 8) {
      const int8x16x4_t columns = next<R>(w), more = next<R>(w);
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const int16x8x4_t x = vld4q_dup_s16(rows[r.value]);
        rows[r.value] += 4;
        asm("" : "+r"(rows[r.value]));
        add_products<Extreme>(sums[r.value], x.val[0], x.val[1], columns);
        add_products<Extreme>(sums[r.value], x.val[2], x.val[3], more);
      });
    }
    if (k < bytes) {
      const int8x16x4_t columns = next<R>(w);
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const int16x8x2_t x = vld2q_dup_s16(rows[r.value]);
        add_products<Extreme>(sums[r.value], x.val[0], x.val[1], columns);
      });
    }
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { result[r.value] = sums[r.value]; });
  }

  template <int R>
  static QCORE_INLINE void accumulate(const GemmInput& in, const int8_t* w, bool extreme,
                                      int64_t row, const int32_t* first, I32* result) {
    if (extreme) {
      accumulate<R, true>(in, w, row, first, result);
    } else {
      accumulate<R, false>(in, w, row, first, result);
    }
  }
};

}  // namespace
}  // namespace qcore::neon
