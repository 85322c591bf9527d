// The vocabulary in NEON with dot products (sdot). Activations less 128 are signed bytes, as sdot wants them: what that takes away
// is added again as products of the weights with 64, twice.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/inline.h"

#define QCORE_ISA neon_dot
#define QCORE_ISA_NAME "neon_dot"

namespace qcore::neon_dot {
namespace {

#include "lanes_neon.h"

struct Weights {
  int8x16_t v[4];
};
struct Same {
  int8x16_t v;  // less 128
};
struct Each4 {
  int8x16_t v[4];  // less 128
};

constexpr int kParts = 1;
template <int, class T>
QCORE_INLINE T& part(T& x) {
  return x;
}

using Widening = void;
constexpr int kTileUnits = 1;
constexpr int tile_units(int64_t /*rows*/) { return kTileUnits; }
constexpr int tile_rows(int /*units*/) { return 6; }

QCORE_INLINE int8x16_t less_128(uint8x16_t x) { return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(128))); }

QCORE_INLINE Weights load_weights(const int8_t* p) { return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}}; }

template <int>
QCORE_INLINE Same load_same(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return {less_128(vreinterpretq_u8_u32(vdupq_n_u32(four)))};
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const Bytes64 x = transpose(vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d));
  return {{less_128(x.v[0]), less_128(x.v[1]), less_128(x.v[2]), less_128(x.v[3])}};
}

// 128 times the sum of the weights.
QCORE_INLINE int32x4_t restore_128(int32x4_t acc, int8x16_t w) {
  const int8x16_t half = vdupq_n_s8(64);
  return vdotq_s32(vdotq_s32(acc, w, half), w, half);
}

QCORE_INLINE I32 dot(const I32& acc, const Same& x, const Weights& w) {
  I32 r;
  for (int i = 0; i < 4; ++i) r.v[i] = vdotq_s32(restore_128(acc.v[i], w.v[i]), w.v[i], x.v);
  return r;
}

QCORE_INLINE I32 dot(const I32& acc, const Each4& x, const Weights& w) {
  I32 r;
  for (int i = 0; i < 4; ++i) r.v[i] = vdotq_s32(restore_128(acc.v[i], w.v[i]), w.v[i], x.v[i]);
  return r;
}

}  // namespace
}  // namespace qcore::neon_dot
