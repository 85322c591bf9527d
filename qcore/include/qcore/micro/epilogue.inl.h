// What becomes of sums: bytes, requantized, after another tensor was added or not; or floats.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"

namespace qcore::QCORE_ISA {
namespace {

template <class T>
struct Lanes {
  T v[kLanes] = {};
};

template <class T>
QCORE_INLINE Lanes<T> some(const T* p, int64_t count) {
  Lanes<T> lanes;
  std::memcpy(lanes.v, p, static_cast<size_t>(count) * sizeof(T));
  return lanes;
}

template <class T>
QCORE_INLINE I32 load_some_bytes(const T* p, int64_t count) {
  if (count >= kLanes) return load_bytes(p);
  if constexpr (kStoresSome) {
    return load_first_bytes(p, static_cast<int>(count));
  } else {
    return load_bytes(some(p, count).v);
  }
}

// `count` lanes of the result (16 but for the last columns).
QCORE_INLINE void store_bytes(uint8_t* p, const I32& v, int count) {
  if (count >= kLanes) return store_bytes(p, v);
  uint8_t all[kLanes];
  store_bytes(all, v);
  std::memcpy(p, all, static_cast<size_t>(count));
}

QCORE_INLINE void store_f32(float* p, const F32& v, int count) {
  if (count >= kLanes) return store_f32(p, v);
  float all[kLanes];
  store_f32(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(float));
}

// Bounds are integers, so clamping first and rounding then is the same as the reverse, and never
// overflows. NaN becomes `high`.
QCORE_INLINE I32 round_clamped(const F32& v, float low, float high, int32_t zero) {
  return add(round_i32(max(min(v, set_f32(high)), set_f32(low))), set_i32(zero));
}

// The real value of each integer, as the elementwise operators take it.
QCORE_INLINE F32 real_lanes(const I32& x, Operand operand) {
  const float offset = -(operand.scale * static_cast<float>(operand.zero));
  return fma(set_f32(operand.scale), to_f32(x), set_f32(offset));
}

// What 16 columns need, loaded once for all rows of a tile.
struct RequantizedColumns {
  I32 offset;
  F32 bias, multiplier;
};

struct FloatColumns {
  I32 column_sum;
  F32 weight_scale, bias;
};

// A requantized output that another tensor is added to.
struct SummedOutput : RequantizedOutput {};

// One whose results are clamped as bytes, since none overflows on the way there.
struct BoundedOutput : RequantizedOutput {};

// run(the output as its epilogue is to be)
template <class Run, class Bounded = BoundedRounding>
QCORE_INLINE void with_sum(const RequantizedOutput& out, const Run& run) {
  if (out.residual.x) return run(SummedOutput{out});
  if constexpr (!std::is_void_v<Bounded>) {
    if (out.bounded) return run(BoundedOutput{out});
  }
  run(out);
}

QCORE_INLINE RequantizedColumns load_columns(const RequantizedOutput& out, int64_t column) {
  return {load_i32(out.offset + column), load_f32(out.bias + column),
          load_f32(out.multiplier + column)};
}

QCORE_INLINE FloatColumns load_columns(const FloatOutput& out, int64_t column) {
  return {load_i32(out.column_sum + column), load_f32(out.weight_scale + column),
          load_f32(out.bias + column)};
}

// What all sums of these columns may begin with, no longer to be added to them.
QCORE_INLINE I32 take_offset(RequantizedColumns& c) {
  const I32 offset = c.offset;
  c.offset = set_i32(0);
  return offset;
}
QCORE_INLINE I32 take_offset(FloatColumns& /*c*/) { return set_i32(0); }

// The same for columns from `column` on, of all units of a panel.
alignas(64) constexpr int32_t kZeros[kMaxPanelUnits * kLanes] = {};
QCORE_INLINE const int32_t* begins_of(const RequantizedOutput& out, int64_t column) {
  return out.offset + column;
}
QCORE_INLINE const int32_t* begins_of(const FloatOutput& /*out*/, int64_t /*column*/) {
  return kZeros;
}

// Results of `count` columns from `column` of a row on, but for the last step, which `store` does:
// to round where they become bytes.
QCORE_INLINE F32 result(const I32& acc, const RequantizedOutput& out, const RequantizedColumns& c,
                        int64_t /*row*/, int64_t /*column*/, int /*count*/) {
  return mul(fma(c.bias, set_f32(out.bias_scale), to_f32(add(acc, c.offset))), c.multiplier);
}

QCORE_INLINE F32 result(const I32& acc, const SummedOutput& out, const RequantizedColumns& c,
                        int64_t row, int64_t column, int count) {
  const F32 own = result(acc, static_cast<const RequantizedOutput&>(out), c, row, column, count);
  const Residual& other = out.residual;
  const uint8_t* p = other.x + row * other.stride + column;
  const F32 x = real_lanes(load_some_bytes(p, count), other.operand);
  return mul(add(real_lanes(round_clamped(own, out.low, out.high, out.zero), other.own), x),
             set_f32(other.sum.multiplier));
}

QCORE_INLINE F32 result(const I32& acc, const FloatOutput& out, const FloatColumns& c, int64_t row,
                        int64_t /*column*/, int /*count*/) {
  const I32 centered = add(acc, mul(c.column_sum, set_i32(-out.row_zero[row])));
  const F32 y = fma(to_f32(centered), mul(set_f32(out.row_scale[row]), c.weight_scale), c.bias);
  return out.relu ? max(set_f32(0.0f), y) : y;
}

// How the results of an output are stored.
QCORE_INLINE Rounding rounding_of(const RequantizedOutput& out) {
  return rounding(out.low, out.high, out.zero);
}
template <class Bounded = BoundedRounding>
QCORE_INLINE Bounded rounding_of(const BoundedOutput& out) {
  return Bounded::of(out.low, out.high, out.zero);
}
QCORE_INLINE Rounding rounding_of(const SummedOutput& out) {
  return rounding(out.residual.sum.low, out.residual.sum.high, out.residual.sum.zero);
}

struct AsTheyAre {};
QCORE_INLINE AsTheyAre rounding_of(const FloatOutput&) { return {}; }

template <class OfBytes>
QCORE_INLINE void store_some(uint8_t* p, const F32& v, int count, const OfBytes& r) {
  uint8_t all[2 * kLanes];
  store_rounded(all, kLanes, v, v, r);
  if (count >= kLanes) {
    std::memcpy(p, all, kLanes);  // of a fixed size: no call
  } else {
    std::memcpy(p, all, static_cast<size_t>(count));
  }
}

QCORE_INLINE void store_some(float* p, const F32& v, int count, AsTheyAre) {
  store_f32(p, v, count);
}
QCORE_INLINE void store_rounded(float* p, const F32& a, AsTheyAre) { store_f32(p, a); }
QCORE_INLINE void store_rounded(float* p, int64_t step, const F32& a, const F32& b, AsTheyAre) {
  store_f32(p, a);
  store_f32(p + step, b);
}
QCORE_INLINE void store_rounded(float* p, int64_t step, const F32& a, const F32& b, const F32& c,
                                const F32& d, AsTheyAre r) {
  store_rounded(p, step, a, b, r);
  store_rounded(p + 2 * step, step, c, d, r);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
