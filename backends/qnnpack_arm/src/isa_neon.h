// The vocabulary in NEON of ARMv8.0: bytes are widened to 16 bits, then multiplied and summed to 32.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/inline.h"

#define QCORE_ISA neon
#define QCORE_ISA_NAME "neon"

namespace qcore::neon {
namespace {

#include "lanes_neon.h"

struct Same {
  int16x4_t v;
};
struct Each4 {  // each of the four along K: 16 lanes
  int16x8_t low[4], high[4];
};
struct Weights {
  int16x8_t low[4], high[4];
};

constexpr int kParts = 1;
template <int, class T>
QCORE_INLINE T& part(T& x) {
  return x;
}

using Widening = void;
constexpr int kTileUnits = 1;
constexpr int tile_units(int64_t /*rows*/) { return kTileUnits; }
constexpr int tile_rows(int /*units*/) { return 4; }

template <int>
QCORE_INLINE Same load_same(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return {vreinterpret_s16_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))))};
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c, const uint8_t* d) {
  const uint8_t* const rows[4] = {a, b, c, d};
  Each4 r;
  for (int j = 0; j < 4; ++j) {
    const uint8x16_t x = vld1q_u8(rows[j]);
    r.low[j] = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x)));
    r.high[j] = vreinterpretq_s16_u16(vmovl_high_u8(x));
  }
  return r;
}

QCORE_INLINE Weights load_weights(const int8_t* p) {
  const int8x16x4_t w = vld4q_s8(p);
  Weights r;
  for (int j = 0; j < 4; ++j) {
    r.low[j] = vmovl_s8(vget_low_s8(w.val[j]));
    r.high[j] = vmovl_high_s8(w.val[j]);
  }
  return r;
}

template <int J>
QCORE_INLINE I32 dot_of(const I32& acc, const Same& x, const Weights& w) {
  return {{vmlal_lane_s16(acc.v[0], vget_low_s16(w.low[J]), x.v, J), vmlal_high_lane_s16(acc.v[1], w.low[J], x.v, J),
           vmlal_lane_s16(acc.v[2], vget_low_s16(w.high[J]), x.v, J), vmlal_high_lane_s16(acc.v[3], w.high[J], x.v, J)}};
}
QCORE_INLINE I32 dot(const I32& acc, const Same& x, const Weights& w) {
  return dot_of<3>(dot_of<2>(dot_of<1>(dot_of<0>(acc, x, w), x, w), x, w), x, w);
}

QCORE_INLINE I32 dot(const I32& acc, const Each4& x, const Weights& w) {
  I32 r = acc;
  for (int j = 0; j < 4; ++j) {
    r.v[0] = vmlal_s16(r.v[0], vget_low_s16(x.low[j]), vget_low_s16(w.low[j]));
    r.v[1] = vmlal_high_s16(r.v[1], x.low[j], w.low[j]);
    r.v[2] = vmlal_s16(r.v[2], vget_low_s16(x.high[j]), vget_low_s16(w.high[j]));
    r.v[3] = vmlal_high_s16(r.v[3], x.high[j], w.high[j]);
  }
  return r;
}

}  // namespace
}  // namespace qcore::neon
