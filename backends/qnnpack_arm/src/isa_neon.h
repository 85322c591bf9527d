// The vocabulary in NEON of ARMv8.0: bytes are widened to 16 bits, then multiplied and summed to 32.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/inline.h"
#include "qcore/kernels.h"

#define QCORE_ISA neon
#define QCORE_ISA_NAME "neon"

namespace qcore::neon {
namespace {

#include "lanes_neon.h"

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
constexpr int tile_rows(int /*units*/) { return 5; }

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const uint8x16_t x[4] = {vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d)};
  return {{less_128(vzip1q_u8(x[0], x[1])), less_128(vzip2q_u8(x[0], x[1])), less_128(vzip1q_u8(x[2], x[3])), less_128(vzip2q_u8(x[2], x[3]))}};
}

QCORE_INLINE Weights load_weights(const int8_t* p) {
  const int8x16x4_t w = vld4q_s8(p);
  return {{vzip1q_s8(w.val[0], w.val[1]), vzip2q_s8(w.val[0], w.val[1]), vzip1q_s8(w.val[2], w.val[3]), vzip2q_s8(w.val[2], w.val[3])}};
}

// Products of the low halves: in assembler, since compilers keep halves of weights in registers of their own, and run out of them.
QCORE_INLINE int16x8_t multiply_low(int8x16_t x, int8x16_t w) {
  int16x8_t product;
  asm("smull %0.8h, %1.8b, %2.8b" : "=w"(product) : "w"(x), "w"(w));
  return product;
}
QCORE_INLINE int16x8_t multiply_add_low(int16x8_t sum, int8x16_t x, int8x16_t w) {
  asm("smlal %0.8h, %1.8b, %2.8b" : "+w"(sum) : "w"(x), "w"(w));
  return sum;
}

QCORE_INLINE int8x16x4_t load(const Each4& x) { return vld1q_s8_x4(reinterpret_cast<const int8_t*>(x.v)); }

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
    sums[0] = vpadalq_s16(sums[0], multiply_add_low(multiply_low(x.val[i], w.v[i]), x.val[i + 2], w.v[i + 2]));
    sums[1] = vpadalq_s16(sums[1], vmlal_high_s8(vmull_high_s8(x.val[i], w.v[i]), x.val[i + 2], w.v[i + 2]));
  }
  return r;
}

// Products of signed bytes are summed by twos in 16 bits, which is exact unless both are -128 * -128, then pairwise to 32. A register
// holds 16 values along K of one row, one column, or (four of them) their sum.
struct Tiles {
  static constexpr Layout kLayout{16, true, true};
  static constexpr int kRowStep = 1;
  static constexpr bool kReadsAgain = true;  // what the epilogue needs, for each tile: fewer instructions so

  static void prepare(const GemmInput& in, void* to) { sign_rows(in, static_cast<int8_t*>(to), in.groups * kLayout.group); }

  template <bool Extreme>
  static QCORE_INLINE int32x4_t products(int8x16_t x, int8x16_t w) {
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
    if constexpr (Extreme) {
      return vpadalq_s16(vpaddlq_s16(low), vmull_high_s8(x, w));
    } else {
      return vpaddlq_s16(vmlal_high_s8(low, x, w));
    }
  }

  template <bool Extreme>
  static QCORE_INLINE int32x4_t add_products(int32x4_t sum, int8x16_t x, int8x16_t w) {
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
    if constexpr (Extreme) {
      return vpadalq_s16(vpadalq_s16(sum, low), vmull_high_s8(x, w));
    } else {
      return vpadalq_s16(sum, vmlal_high_s8(low, x, w));
    }
  }

  // Q times four columns from the `quarter`th on.
  template <int R, int Q, bool Extreme>
  static QCORE_INLINE void accumulate_quarters(const GemmInput& in, const int8_t* w, int64_t row, int quarter, const I32& first, I32* result) {
    const int64_t bytes = in.groups * kLayout.group;
    const int8_t* rows[R];
    int32x4_t sums[R][4 * Q];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      rows[r.value] = static_cast<const int8_t*>(in.prepared) + (row + r.value) * bytes;
      unroll<4 * Q>([&](auto i) QCORE_INLINE_LAMBDA { sums[r.value][i.value] = vdupq_n_s32(0); });
    });
    const auto add_group = [&](int64_t k, auto begins) QCORE_INLINE_LAMBDA {
      int8x16_t x[R];
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { x[r.value] = vld1q_s8(rows[r.value] + k); });
      unroll<Q>([&](auto q) QCORE_INLINE_LAMBDA {
        const int8x16x4_t columns = next_64(w);
        unroll<4>([&](auto i) QCORE_INLINE_LAMBDA {
          constexpr int at = 4 * decltype(q)::value + decltype(i)::value;
          unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
            auto& sum = sums[r.value][at];
            const int8x16_t column = columns.val[i.value];
            sum = begins.value ? products<Extreme>(x[r.value], column) : add_products<Extreme>(sum, x[r.value], column);
          });
        });
      });
      w += 64 * (4 - Q);
    };
    if (bytes > 0) add_group(0, Constant<1>{});
    for (int64_t k = 16; k < bytes; k += 16) add_group(k, Constant<0>{});
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      const auto& s = sums[r.value];
      unroll<Q>([&](auto q) QCORE_INLINE_LAMBDA {
        constexpr int at = 4 * decltype(q)::value;
        const int32x4_t four = vpaddq_s32(vpaddq_s32(s[at], s[at + 1]), vpaddq_s32(s[at + 2], s[at + 3]));
        result[r.value].v[quarter + q.value] = vaddq_s32(four, first.v[quarter + q.value]);
      });
    });
  }

  template <int R>
  static QCORE_INLINE void accumulate(const GemmInput& in, const int8_t* w, bool extreme, int64_t row, const I32& first, I32* result) {
    constexpr int kQuarters = R == 1 ? 4 : R == 2 ? 2 : 1;  // as many as have their sums in registers
    for (int quarter = 0; quarter < 4; quarter += kQuarters, w += 64 * kQuarters) {
      if (extreme) {
        accumulate_quarters<R, kQuarters, true>(in, w, row, quarter, first, result);
      } else {
        accumulate_quarters<R, kQuarters, false>(in, w, row, quarter, first, result);
      }
    }
  }
};

}  // namespace
}  // namespace qcore::neon
