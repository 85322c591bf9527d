// What the vocabularies of NEON share: 16 lanes are four registers. Instruction sets include it,
// once QCORE_ISA names them.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

namespace qcore::QCORE_ISA {
namespace {

struct I32 {
  int32x4_t v[4];
};
struct F32 {
  float32x4_t v[4];
};

#define QCORE_QUARTERS(TYPE, EXPRESSION)             \
  TYPE r;                                            \
  for (int i = 0; i < 4; ++i) r.v[i] = (EXPRESSION); \
  return r

QCORE_INLINE I32 set_i32(int32_t a) { QCORE_QUARTERS(I32, vdupq_n_s32(a)); }
QCORE_INLINE I32 load_i32(const int32_t* p) { QCORE_QUARTERS(I32, vld1q_s32(p + 4 * i)); }

QCORE_INLINE void store_i32(int32_t* p, const I32& a) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, a.v[i]);
}

QCORE_INLINE I32 from_words(uint16x8_t a, uint16x8_t b) {
  return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(a))),
           vreinterpretq_s32_u32(vmovl_high_u16(a)),
           vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(b))),
           vreinterpretq_s32_u32(vmovl_high_u16(b))}};
}

QCORE_INLINE I32 from_bytes(uint8x16_t x) {
  return from_words(vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
}
QCORE_INLINE I32 load_bytes(const uint8_t* p) { return from_bytes(vld1q_u8(p)); }

QCORE_INLINE I32 load_bytes(const int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t a = vmovl_s8(vget_low_s8(x)), b = vmovl_high_s8(x);
  return {{vmovl_s16(vget_low_s16(a)), vmovl_high_s16(a), vmovl_s16(vget_low_s16(b)),
           vmovl_high_s16(b)}};
}

QCORE_INLINE I32 add(const I32& a, const I32& b) { QCORE_QUARTERS(I32, vaddq_s32(a.v[i], b.v[i])); }
QCORE_INLINE I32 mul(const I32& a, const I32& b) { QCORE_QUARTERS(I32, vmulq_s32(a.v[i], b.v[i])); }

// The low 16 bits of the lanes of two quarters.
QCORE_INLINE uint16x8_t words(int32x4_t a, int32x4_t b) {
  return vuzp1q_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b));
}

// The low byte of each lane.
QCORE_INLINE void store_bytes(uint8_t* p, const I32& a) {
  const uint16x8_t low = words(a.v[0], a.v[1]), high = words(a.v[2], a.v[3]);
  vst1q_u8(p, vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high)));
}

QCORE_INLINE F32 set_f32(float a) { QCORE_QUARTERS(F32, vdupq_n_f32(a)); }
QCORE_INLINE F32 load_f32(const float* p) { QCORE_QUARTERS(F32, vld1q_f32(p + 4 * i)); }
QCORE_INLINE void store_f32(float* p, const F32& a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
QCORE_INLINE F32 to_f32(const I32& a) { QCORE_QUARTERS(F32, vcvtq_f32_s32(a.v[i])); }
QCORE_INLINE F32 add(const F32& a, const F32& b) { QCORE_QUARTERS(F32, vaddq_f32(a.v[i], b.v[i])); }
QCORE_INLINE F32 sub(const F32& a, const F32& b) { QCORE_QUARTERS(F32, vsubq_f32(a.v[i], b.v[i])); }
QCORE_INLINE F32 mul(const F32& a, const F32& b) { QCORE_QUARTERS(F32, vmulq_f32(a.v[i], b.v[i])); }
QCORE_INLINE F32 div(const F32& a, const F32& b) { QCORE_QUARTERS(F32, vdivq_f32(a.v[i], b.v[i])); }
QCORE_INLINE F32 fma(const F32& a, const F32& b, const F32& c) {
  QCORE_QUARTERS(F32, vfmaq_f32(c.v[i], a.v[i], b.v[i]));
}

// Where one is NaN, the second operand is the result, as on x86; NEON's own would be the NaN.
QCORE_INLINE F32 min(const F32& a, const F32& b) {
  QCORE_QUARTERS(F32, vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]));
}
QCORE_INLINE F32 max(const F32& a, const F32& b) {
  QCORE_QUARTERS(F32, vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]));
}

QCORE_INLINE I32 round_i32(const F32& a) { QCORE_QUARTERS(I32, vcvtnq_s32_f32(a.v[i])); }
QCORE_INLINE F32 round_f32(const F32& a) { QCORE_QUARTERS(F32, vrndnq_f32(a.v[i])); }
QCORE_INLINE F32 floor_f32(const F32& a) { QCORE_QUARTERS(F32, vrndmq_f32(a.v[i])); }

// Whole numbers; those beyond [0, most] and NaN become some number in it, since the narrowing
// saturates.
QCORE_INLINE void store_indices(uint16_t* p, const F32& a, uint16_t most) {
  const I32 whole = round_i32(a);
  for (int half = 0; half < 2; ++half) {
    const uint16x8_t found =
        vqmovun_high_s32(vqmovun_s32(whole.v[2 * half]), whole.v[2 * half + 1]);
    vst1q_u16(p + 8 * half, vminq_u16(found, vdupq_n_u16(most)));
  }
}

constexpr bool kStoresSome = false;
using Spread = void;

// Clamping from above also makes a number of NaN; from below the narrowing saturates.
struct Rounding {
  float32x4_t high;
  int16x8_t zero;
  uint8x16_t low;
};
QCORE_INLINE Rounding rounding(float low, float high, int32_t zero) {
  return {vdupq_n_f32(high), vdupq_n_s16(static_cast<int16_t>(zero)),
          vdupq_n_u8(static_cast<uint8_t>(static_cast<int32_t>(low) + zero))};
}
QCORE_INLINE int32x4_t whole(float32x4_t v, const Rounding& r) {
  return vcvtnq_s32_f32(vminnmq_f32(v, r.high));
}
QCORE_INLINE uint8x16_t clamped(uint8x16_t bytes, const Rounding& r) {
  return vmaxq_u8(bytes, r.low);
}

// Of numbers, which stay in order when they are narrowed.
struct BoundedRounding {
  int16x8_t zero;
  uint8x16_t low, high;
  static QCORE_INLINE BoundedRounding of(float low, float high, int32_t zero) {
    const auto byte = [&](float bound) {
      return vdupq_n_u8(static_cast<uint8_t>(static_cast<int32_t>(bound) + zero));
    };
    return {vdupq_n_s16(static_cast<int16_t>(zero)), byte(low), byte(high)};
  }
};
QCORE_INLINE int32x4_t whole(float32x4_t v, const BoundedRounding& /*r*/) {
  return vcvtnq_s32_f32(v);
}
QCORE_INLINE uint8x16_t clamped(uint8x16_t bytes, const BoundedRounding& r) {
  return vmaxq_u8(vminq_u8(bytes, r.high), r.low);
}

template <class R>
QCORE_INLINE void store_rounded(uint8_t* p, const F32& a, const R& r) {
  const auto words = [&](float32x4_t v, float32x4_t w) {
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(whole(v, r)), whole(w, r)), r.zero);
  };
  vst1q_u8(p,
           clamped(vqmovun_high_s16(vqmovun_s16(words(a.v[0], a.v[1])), words(a.v[2], a.v[3])), r));
}
template <class R>
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b, const R& r) {
  store_rounded(p, a, r);
  store_rounded(p + step, b, r);
}
template <class R>
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b, const F32& c,
                                const F32& d, const R& r) {
  store_rounded(p, step, a, b, r);
  store_rounded(p + 2 * step, step, c, d, r);
}

QCORE_INLINE F32 power_of_two(const I32& n) {
  QCORE_QUARTERS(F32, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n.v[i], vdupq_n_s32(127)), 23)));
}
QCORE_INLINE F32 magnitude(const F32& a) { QCORE_QUARTERS(F32, vabsq_f32(a.v[i])); }
QCORE_INLINE F32 with_sign(const F32& a, const F32& sign) {
  QCORE_QUARTERS(F32, vbslq_f32(vdupq_n_u32(0x80000000u), sign.v[i], a.v[i]));
}
QCORE_INLINE F32 where_negative(const F32& x, const F32& a, const F32& b) {
  QCORE_QUARTERS(F32, vbslq_f32(vcltzq_s32(vreinterpretq_s32_f32(x.v[i])), a.v[i], b.v[i]));
}
QCORE_INLINE F32 keep_nan(const F32& a, const F32& x) {
  QCORE_QUARTERS(F32, vbslq_f32(vceqq_f32(x.v[i], x.v[i]), a.v[i], x.v[i]));
}

QCORE_INLINE F32 load_f16(const uint16_t* p) {
  QCORE_QUARTERS(F32, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))));
}

QCORE_INLINE I32 load_nibbles(const uint8_t* p) {
  const uint8x8_t x = vld1_u8(p);
  return from_words(vmovl_u8(vand_u8(x, vdup_n_u8(15))), vmovl_u8(vshr_n_u8(x, 4)));
}

QCORE_INLINE uint32x4_t lane_bits(int quarter) {
  const uint32x4_t first = {1, 2, 4, 8};
  return vshlq_u32(first, vdupq_n_s32(4 * quarter));
}
QCORE_INLINE uint16_t equal_bits(const F32& a, const F32& b) {
  uint32x4_t bits = vdupq_n_u32(0);
  for (int i = 0; i < 4; ++i) {
    bits = vorrq_u32(bits, vandq_u32(vceqq_f32(a.v[i], b.v[i]), lane_bits(i)));
  }
  return static_cast<uint16_t>(vaddvq_u32(bits));
}
QCORE_INLINE F32 keep(uint16_t bits, const F32& a) {
  QCORE_QUARTERS(F32, vreinterpretq_f32_u32(vandq_u32(vtstq_u32(vdupq_n_u32(bits), lane_bits(i)),
                                                      vreinterpretq_u32_f32(a.v[i]))));
}

#undef QCORE_QUARTERS

// Four rows of four, transposed.
QCORE_INLINE void transpose4(const float* from, int64_t row, float* to, int64_t to_row) {
  const float32x4x2_t ac = vzipq_f32(vld1q_f32(from), vld1q_f32(from + 2 * row)),
                      bd = vzipq_f32(vld1q_f32(from + row), vld1q_f32(from + 3 * row));
  for (int half = 0; half < 2; ++half) {
    const float32x4x2_t columns = vzipq_f32(ac.val[half], bd.val[half]);
    vst1q_f32(to + 2 * half * to_row, columns.val[0]);
    vst1q_f32(to + (2 * half + 1) * to_row, columns.val[1]);
  }
}

// The next 64 bytes of weights. The pointer is opaque, so that compilers advance it with each load,
// not in instructions of its own.
QCORE_INLINE int8x16x4_t next_64(const int8_t*& w) {
  const int8x16x4_t bytes = vld1q_s8_x4(w);
  w += 64;
  asm("" : "+r"(w));
  return bytes;
}

// Sums that begin with what lies at `first`: the pointer is opaque anew each time, so that
// compilers load them two by two for each row, not once and move them one by one.
QCORE_INLINE I32 load_first(const int32_t*& first) {
  asm("" : "+r"(first));
  return load_i32(first);
}

QCORE_INLINE int8x16_t less_128(uint8x16_t x) {
  return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(128)));
}

// Rows as signed bytes, one after the other.
inline void sign_rows(const GemmInput& in, int8_t* to, int64_t bytes) {
  const bool one = in.stride == bytes;  // they lie so already
  const int64_t rows = one ? 1 : in.rows;
  if (one) bytes *= in.rows;
  for (int64_t row = 0; row < rows; ++row, to += bytes) {
    const uint8_t* x = in.x + row * in.stride;
    int64_t i = 0;
    for (; i + 64 <= bytes; i += 64) {
      const uint8x16x4_t v = vld1q_u8_x4(x + i);
      const int8x16x4_t less{
          {less_128(v.val[0]), less_128(v.val[1]), less_128(v.val[2]), less_128(v.val[3])}};
      vst1q_s8_x4(to + i, less);  // by name: it is a macro in clang
    }
    for (; i + 16 <= bytes; i += 16) vst1q_s8(to + i, less_128(vld1q_u8(x + i)));
    for (; i < bytes; i += 4) {
      uint32_t four;
      std::memcpy(&four, x + i, 4);
      four ^= 0x80808080u;
      std::memcpy(to + i, &four, 4);
    }
  }
}

// Four rows of 16 bytes, transposed: four bytes for each of 16 lanes.
struct Bytes64 {
  uint8x16_t v[4];
};
QCORE_INLINE Bytes64 transpose(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
  const uint16x8_t ab_low = vreinterpretq_u16_u8(vzip1q_u8(a, b)),
                   ab_high = vreinterpretq_u16_u8(vzip2q_u8(a, b));
  const uint16x8_t cd_low = vreinterpretq_u16_u8(vzip1q_u8(c, d)),
                   cd_high = vreinterpretq_u16_u8(vzip2q_u8(c, d));
  return {{vreinterpretq_u8_u16(vzip1q_u16(ab_low, cd_low)),
           vreinterpretq_u8_u16(vzip2q_u16(ab_low, cd_low)),
           vreinterpretq_u8_u16(vzip1q_u16(ab_high, cd_high)),
           vreinterpretq_u8_u16(vzip2q_u16(ab_high, cd_high))}};
}

}  // namespace
}  // namespace qcore::QCORE_ISA
