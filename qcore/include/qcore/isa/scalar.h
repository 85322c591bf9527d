// The vocabulary of an instruction set, in plain C++: 16 lanes in arrays. It is the model for the
// others.
#pragma once

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

#define QCORE_ISA scalar
#define QCORE_ISA_NAME "scalar"

namespace qcore::scalar {
namespace {

struct I32 {
  int32_t v[16];
};
struct F32 {
  float v[16];
};
struct Same {  // four values along K, the same for all lanes
  uint8_t v[4];
};
struct Each4 {  // four values along K of each lane's own
  uint8_t v[64];
};
struct Weights {
  int8_t v[64];
};

constexpr int kParts = 1;  // registers of a vector that are worth a loop of their own
constexpr bool kModerateDot =
    false;  // `dot_moderate`, a shorter `dot` for weights of which no four have -128 twice
constexpr bool kStoresSome =
    false;  // `store_rounded_some` and `load_first_bytes`, which touch no other bytes
using BoundedRounding = void;  // Rounding for numbers below 2^31
using Spread = void;  // or how 64 channels are at once four vectors, for depthwise convolutions
template <int, class T>
QCORE_INLINE T& part(T& x) {
  return x;
}

using Tiles = void;     // a GEMM of its own: layout, rows and tiles, where an ISA has it
using Widening = void;  // how tiles get values of 16 bits, where they need them
using Blocks = void;    // sums of many rows by instructions for matrices, where an ISA has them
constexpr int kTileUnits = 1;  // units of 16 columns that a tile of many rows spans at most
constexpr int tile_units(int64_t /*rows*/) { return kTileUnits; }
constexpr int tile_rows(int /*units*/) { return 4; }  // rows of a tile

QCORE_INLINE Same load_same(const uint8_t* p, Constant<kGroup>) {
  Same r;
  std::memcpy(r.v, p, 4);
  return r;
}

QCORE_INLINE Each4 load_each4(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                              const uint8_t* d) {
  Each4 r;
  for (int i = 0; i < 16; ++i) {
    r.v[4 * i] = a[i];
    r.v[4 * i + 1] = b[i];
    r.v[4 * i + 2] = c[i];
    r.v[4 * i + 3] = d[i];
  }
  return r;
}

QCORE_INLINE Weights load_weights(const int8_t* p) {
  Weights r;
  std::memcpy(r.v, p, 64);
  return r;
}

QCORE_INLINE I32 dot(I32 acc, const Same& x, const Weights& w) {
  for (int i = 0; i < 16; ++i) {
    acc.v[i] += x.v[0] * w.v[4 * i] + x.v[1] * w.v[4 * i + 1] + x.v[2] * w.v[4 * i + 2] +
                x.v[3] * w.v[4 * i + 3];
  }
  return acc;
}

QCORE_INLINE I32 dot(I32 acc, const Each4& x, const Weights& w) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 4; ++j) acc.v[i] += x.v[4 * i + j] * w.v[4 * i + j];
  }
  return acc;
}

#define QCORE_LANES(TYPE, EXPRESSION)                 \
  TYPE r;                                             \
  for (int i = 0; i < 16; ++i) r.v[i] = (EXPRESSION); \
  return r

// Integer addition and multiplication wrap: only the final sum has to fit.
QCORE_INLINE int32_t wrap_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
QCORE_INLINE int32_t wrap_mul(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}

QCORE_INLINE I32 set_i32(int32_t a) { QCORE_LANES(I32, a); }
QCORE_INLINE I32 load_i32(const int32_t* p) { QCORE_LANES(I32, p[i]); }
QCORE_INLINE void store_i32(int32_t* p, const I32& a) { std::memcpy(p, a.v, sizeof a.v); }
QCORE_INLINE I32 load_bytes(const uint8_t* p) { QCORE_LANES(I32, p[i]); }
QCORE_INLINE I32 load_bytes(const int8_t* p) { QCORE_LANES(I32, p[i]); }
QCORE_INLINE I32 add(const I32& a, const I32& b) { QCORE_LANES(I32, wrap_add(a.v[i], b.v[i])); }
QCORE_INLINE I32 mul(const I32& a, const I32& b) { QCORE_LANES(I32, wrap_mul(a.v[i], b.v[i])); }
QCORE_INLINE void store_bytes(uint8_t* p, const I32& a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<uint8_t>(a.v[i]);
}

QCORE_INLINE F32 set_f32(float a) { QCORE_LANES(F32, a); }
QCORE_INLINE F32 load_f32(const float* p) { QCORE_LANES(F32, p[i]); }
QCORE_INLINE void store_f32(float* p, const F32& a) { std::memcpy(p, a.v, sizeof a.v); }
QCORE_INLINE F32 to_f32(const I32& a) { QCORE_LANES(F32, static_cast<float>(a.v[i])); }
QCORE_INLINE F32 add(const F32& a, const F32& b) { QCORE_LANES(F32, a.v[i] + b.v[i]); }
QCORE_INLINE F32 mul(const F32& a, const F32& b) { QCORE_LANES(F32, a.v[i] * b.v[i]); }
QCORE_INLINE F32 fma(const F32& a, const F32& b, const F32& c) {
  QCORE_LANES(F32, __builtin_fmaf(a.v[i], b.v[i], c.v[i]));
}

QCORE_INLINE F32 sub(const F32& a, const F32& b) { QCORE_LANES(F32, a.v[i] - b.v[i]); }
QCORE_INLINE F32 div(const F32& a, const F32& b) { QCORE_LANES(F32, a.v[i] / b.v[i]); }

// Where one is NaN, the second operand is the result, as on x86.
QCORE_INLINE F32 min(const F32& a, const F32& b) {
  QCORE_LANES(F32, a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
QCORE_INLINE F32 max(const F32& a, const F32& b) {
  QCORE_LANES(F32, a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}

// Whole numbers; those beyond [0, most] and NaN become some number in it.
QCORE_INLINE void store_indices(uint16_t* p, const F32& a, uint16_t most) {
  const float high = most;
  for (int i = 0; i < 16; ++i) {
    p[i] = static_cast<uint16_t>(!(a.v[i] > 0.0f) ? 0.0f : a.v[i] < high ? a.v[i] : high);
  }
}

// To nearest, ties to even; |a| < 2^22.
QCORE_INLINE I32 round_i32(const F32& a) {
  I32 r;
  for (int i = 0; i < 16; ++i) {
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves no bits for a fraction
    r.v[i] = static_cast<int32_t>((a.v[i] + magic) - magic);
  }
  return r;
}

// Bytes of rounded floats, results of arithmetic: at most `high`, NaN too, at least `low`, then
// shifted by `zero`.
struct Rounding {
  float low, high;
  int32_t zero;
};
QCORE_INLINE Rounding rounding(float low, float high, int32_t zero) { return {low, high, zero}; }

// 16 bytes of each vector, `step` apart.
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b,
                                const Rounding& r) {
  const auto rounded = [&](const F32& v) {
    return add(round_i32(max(min(v, set_f32(r.high)), set_f32(r.low))), set_i32(r.zero));
  };
  store_bytes(p, rounded(a));
  store_bytes(p + step, rounded(b));
}
QCORE_INLINE void store_rounded(uint8_t* p, int64_t step, const F32& a, const F32& b, const F32& c,
                                const F32& d, const Rounding& r) {
  store_rounded(p, step, a, b, r);
  store_rounded(p + 2 * step, step, c, d, r);
}

// 2**n, for n from -126 to 127.
QCORE_INLINE F32 power_of_two(const I32& n) {
  F32 r;
  for (int i = 0; i < 16; ++i) {
    const uint32_t bits = static_cast<uint32_t>(n.v[i] + 127) << 23;
    std::memcpy(&r.v[i], &bits, 4);
  }
  return r;
}

QCORE_INLINE F32 magnitude(const F32& a) { QCORE_LANES(F32, __builtin_fabsf(a.v[i])); }
QCORE_INLINE F32 with_sign(const F32& a, const F32& sign) {
  QCORE_LANES(F32, __builtin_copysignf(a.v[i], sign.v[i]));
}

// `a` where x has its sign bit set, else `b`.
QCORE_INLINE F32 where_negative(const F32& x, const F32& a, const F32& b) {
  QCORE_LANES(F32, __builtin_signbit(x.v[i]) ? a.v[i] : b.v[i]);
}

// x where it is NaN, else `a`.
QCORE_INLINE F32 keep_nan(const F32& a, const F32& x) {
  QCORE_LANES(F32, x.v[i] != x.v[i] ? x.v[i] : a.v[i]);
}

// From float16: the exponent is moved by 112, and again for infinity and NaN; subnormal numbers
// become normal ones.
QCORE_INLINE F32 load_f16(const uint16_t* p) {
  F32 r;
  for (int i = 0; i < 16; ++i) {
    const uint32_t sign = (p[i] & 0x8000u) << 16, rest = p[i] & 0x7FFFu;
    const float small = static_cast<float>(rest) * 0x1p-24f;
    uint32_t bits = (rest << 13) + ((rest >= 0x7C00u ? 224u : 112u) << 23);
    if (rest < 0x400u) std::memcpy(&bits, &small, 4);
    bits |= sign;
    std::memcpy(&r.v[i], &bits, 4);
  }
  return r;
}

// 16 values of 4 bits from 8 bytes: the low halves, then the high ones.
QCORE_INLINE I32 load_nibbles(const uint8_t* p) {
  QCORE_LANES(I32, i < 8 ? p[i] & 15 : p[i - 8] >> 4);
}

// To a whole number, ties to even; NaN and infinity stay.
QCORE_INLINE float round_lane(float a) {
  const float most = 8388608.0f, size = __builtin_fabsf(a);  // 2^23: floats from there on are whole
  return size < most ? __builtin_copysignf((size + most) - most, a) : a;
}
QCORE_INLINE F32 round_f32(const F32& a) { QCORE_LANES(F32, round_lane(a.v[i])); }
QCORE_INLINE F32 floor_f32(const F32& a) {
  QCORE_LANES(F32, round_lane(a.v[i]) - (round_lane(a.v[i]) > a.v[i] ? 1.0f : 0.0f));
}

// One bit for each lane, lane 0 the lowest.
QCORE_INLINE uint16_t equal_bits(const F32& a, const F32& b) {
  unsigned bits = 0;
  for (int i = 0; i < 16; ++i) bits |= static_cast<unsigned>(a.v[i] == b.v[i]) << i;
  return static_cast<uint16_t>(bits);
}
QCORE_INLINE F32 keep(uint16_t bits, const F32& a) {
  QCORE_LANES(F32, bits >> i & 1 ? a.v[i] : 0.0f);
}

#undef QCORE_LANES

// Four rows of four, transposed.
QCORE_INLINE void transpose4(const float* from, int64_t row, float* to, int64_t to_row) {
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 4; ++c) to[c * to_row + r] = from[r * row + c];
  }
}

}  // namespace
}  // namespace qcore::scalar
