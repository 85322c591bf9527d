// The vocabulary in NEON with i8mm, whose dot product (usdot) takes unsigned activations as they are.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/inline.h"

#define QCORE_ISA neon_i8mm
#define QCORE_ISA_NAME "neon_i8mm"

namespace qcore::neon_i8mm {
namespace {

#include "lanes_neon.h"

struct Weights {
  int8x16_t v[4];
};
struct Same {
  uint8x16_t v;
};
struct Each4 {
  uint8x16_t v[4];
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

QCORE_INLINE Weights load_weights(const int8_t* p) { return {{vld1q_s8(p), vld1q_s8(p + 16), vld1q_s8(p + 32), vld1q_s8(p + 48)}}; }

template <int>
QCORE_INLINE Same load_same(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return {vreinterpretq_u8_u32(vdupq_n_u32(four))};
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const Bytes64 x = transpose(vld1q_u8(a), vld1q_u8(b), vld1q_u8(c), vld1q_u8(d));
  return {{x.v[0], x.v[1], x.v[2], x.v[3]}};
}

QCORE_INLINE I32 dot(const I32& acc, const Same& x, const Weights& w) {
  I32 r;
  for (int i = 0; i < 4; ++i) r.v[i] = vusdotq_s32(acc.v[i], x.v, w.v[i]);
  return r;
}

QCORE_INLINE I32 dot(const I32& acc, const Each4& x, const Weights& w) {
  I32 r;
  for (int i = 0; i < 4; ++i) r.v[i] = vusdotq_s32(acc.v[i], x.v[i], w.v[i]);
  return r;
}

}  // namespace
}  // namespace qcore::neon_i8mm
