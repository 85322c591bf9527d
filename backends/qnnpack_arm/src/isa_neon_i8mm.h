// The vocabulary in NEON with i8mm, whose dot product (usdot) takes unsigned activations as they
// are.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA neon_i8mm
#define QCORE_ISA_NAME "neon_i8mm"

#include "lanes_neon.inl.h"

namespace qcore::neon_i8mm {
namespace {

struct Weights {
  int8x16_t v[4];
};
struct Each4 {
  uint8x16_t v[4];
};

constexpr int kParts = 1;
constexpr bool kModerateDot = false;
template <int, class T>
QCORE_INLINE T& part(T& x) {
  return x;
}

using Widening = void;
using Blocks = void;
constexpr int kTileUnits = 1;
constexpr int tile_units(int64_t /*rows*/) { return kTileUnits; }
constexpr int tile_rows(int /*units*/) { return 6; }

QCORE_INLINE Weights load_weights(const int8_t* p) {
  return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  const Bytes64 x = transpose(vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d));
  return {{x.v[0], x.v[1], x.v[2], x.v[3]}};
}

QCORE_INLINE I32 dot(const I32& acc, const Each4& x, const Weights& w) {
  I32 r;
  for (int i = 0; i < 4; ++i) r.v[i] = vusdotq_s32(acc.v[i], x.v[i], w.v[i]);
  return r;
}

// A register holds two rows, or two columns, of 8 values along K; of sums, it holds two rows and
// two columns.
struct Tiles {
  static constexpr Layout kLayout{8, true, false};
  static constexpr int kRowStep = 2;
  static constexpr bool kInlined =
      false;  // sums take so many registers that beside the epilogue some would be kept in memory

  // Rows two by two, 8 values of each in turn.
  static void prepare(const GemmInput& in, void* to) {
    auto* pairs = static_cast<uint8_t*>(to);
    for (int64_t row = 0; row < in.rows; row += 2) {
      const uint8_t* a = in.x + row * in.stride;
      const uint8_t* b = row + 1 < in.rows ? a + in.stride : a;
      for (int64_t i = 0; i < in.groups; ++i, a += 8, b += 8, pairs += 16) {
        vst1q_u8(pairs, vcombine_u8(vld1_u8(a), vld1_u8(b)));
      }
    }
  }

  template <int R>
  static QCORE_INLINE void accumulate(const GemmInput& in, const int8_t* w, bool, int64_t row,
                                      const int32_t* first, I32* result) {
    constexpr int kPairs = (R + 1) / 2;
    const int64_t bytes = in.groups * 16;
    const uint8_t* x = static_cast<const uint8_t*>(in.prepared) + row / 2 * bytes;
    const I32 begin = load_i32(first);
    int32x4_t sums[kPairs][8];
    unroll<8>([&](auto i) QCORE_INLINE_LAMBDA {
      const int64x2_t columns = vreinterpretq_s64_s32(begin.v[i.value / 2]);
      const int32x4_t both_rows = vreinterpretq_s32_s64(i.value % 2 ? vzip2q_s64(columns, columns)
                                                                    : vzip1q_s64(columns, columns));
      unroll<kPairs>([&](auto p) QCORE_INLINE_LAMBDA { sums[p.value][i.value] = both_rows; });
    });
    const auto add_group = [&]() QCORE_INLINE_LAMBDA {
      uint8x16_t rows[kPairs];
      unroll<kPairs>([&](auto p)
                         QCORE_INLINE_LAMBDA { rows[p.value] = vld1q_u8(x + p.value * bytes); });
      unroll<2>([&](auto half) QCORE_INLINE_LAMBDA {
        const int8x16x4_t columns = next_64(w);
        unroll<4>([&](auto i) QCORE_INLINE_LAMBDA {
          constexpr int at = 4 * decltype(half)::value + decltype(i)::value;
          unroll<kPairs>([&](auto p) QCORE_INLINE_LAMBDA {
            sums[p.value][at] =
                vusmmlaq_s32(sums[p.value][at], rows[p.value], columns.val[i.value]);
          });
        });
      });
      x += 16;
    };
    int64_t group = 0;
    for (; group + 2 <= in.groups; group += 2) {
      add_group();
      add_group();
    }
    if (group < in.groups) add_group();
    unroll<kPairs>([&](auto p) QCORE_INLINE_LAMBDA {
      unroll<4>([&](auto i) QCORE_INLINE_LAMBDA {
        const int64x2_t a = vreinterpretq_s64_s32(sums[p.value][2 * i.value]),
                        b = vreinterpretq_s64_s32(sums[p.value][2 * i.value + 1]);
        result[2 * p.value].v[i.value] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
        result[2 * p.value + 1].v[i.value] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
      });
    });
  }
};

}  // namespace
}  // namespace qcore::neon_i8mm
