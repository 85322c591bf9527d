// The vocabulary in NEON with dot products (sdot). Activations less 128 are signed bytes, as sdot
// wants them.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA neon_dot
#define QCORE_ISA_NAME "neon_dot"

#include "lanes_neon.inl.h"

namespace qcore::neon_dot {
namespace {

struct Weights {
  int8x16_t v[4];
};
struct Each4 {
  int8x16_t v[4];  // less 128
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
constexpr int tile_rows(int /*units*/) { return 5; }

QCORE_INLINE Weights load_weights(const int8_t* p) {
  return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}};
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  const Bytes64 x = transpose(vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d));
  return {{less_128(x.v[0]), less_128(x.v[1]), less_128(x.v[2]), less_128(x.v[3])}};
}

QCORE_INLINE I32 dot(const I32& acc, const Each4& x, const Weights& w) {
  I32 r;
  for (int i = 0; i < 4; ++i) r.v[i] = vdotq_s32(acc.v[i], w.v[i], x.v[i]);
  return r;
}

// A register of a row is 16 values along K, each four of which are multiplied from their lane.
struct Tiles {
  static constexpr Layout kLayout{4, true, true};
  static constexpr int kRowStep = 1;
  static constexpr bool kInlined = true;

  static void prepare(const GemmInput& in, void* to) {
    sign_rows(in, static_cast<int8_t*>(to), in.groups * kLayout.group);
  }

  template <int R, int Lane>
  static QCORE_INLINE void add_lane(I32 (&sums)[R], const int8x16_t (&x)[R], const int8_t*& w) {
    const int8x16x4_t columns = next_64(w);
    unroll<4>([&](auto i) QCORE_INLINE_LAMBDA {
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        sums[r.value].v[i.value] =
            vdotq_laneq_s32(sums[r.value].v[i.value], columns.val[i.value], x[r.value], Lane);
      });
    });
  }

  template <int R>
  static QCORE_INLINE void accumulate(const GemmInput& in, const int8_t* w, bool, int64_t row,
                                      const int32_t* first, I32* result) {
    const int64_t bytes = in.groups * kLayout.group;
    const int8_t* rows[R];
    I32 sums[R];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      rows[r.value] = static_cast<const int8_t*>(in.prepared) + (row + r.value) * bytes;
      sums[r.value] = load_first(first);
    });
    int8x16_t x[R];
    int64_t k = 0;
    for (; k + 16 <= bytes; k += 16) {
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { x[r.value] = vld1q_s8(rows[r.value] + k); });
      add_lane<R, 0>(sums, x, w);
      add_lane<R, 1>(sums, x, w);
      add_lane<R, 2>(sums, x, w);
      add_lane<R, 3>(sums, x, w);
    }
    if (k < bytes) {  // up to three fours; what is read behind a row is another, or the room behind
                      // them
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { x[r.value] = vld1q_s8(rows[r.value] + k); });
      add_lane<R, 0>(sums, x, w);
      if (bytes - k > 4) add_lane<R, 1>(sums, x, w);
      if (bytes - k > 8) add_lane<R, 2>(sums, x, w);
    }
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { result[r.value] = sums[r.value]; });
  }
};

}  // namespace
}  // namespace qcore::neon_dot
