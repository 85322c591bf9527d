// Elementwise kernels, 16 lanes at a time; the last lanes go through a buffer.
#pragma once

#include <cstdint>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

QCORE_INLINE I32 quantize_lanes(const F32& x, const QuantizeParameters& q) {
  const F32 inverse = set_f32(q.inverse_scale), zero = set_f32(q.zero);
  return round_clamped(q.fused ? fma(x, inverse, zero) : add(mul(x, inverse), zero), q.low, q.high,
                       0);
}

QCORE_INLINE I32 result_lanes(const F32& value, const IntegerResult& r) {
  return round_clamped(mul(value, set_f32(r.multiplier)), r.low, r.high, r.zero);
}

void quantize(const float* x, uint8_t* y, int64_t n, const QuantizeParameters& q) {
  int64_t i = 0;
  if (q.fused && q.low >= 0.0f) {
    const Rounding rounded = rounding(q.low, q.high, 0);
    const F32 inverse = set_f32(q.inverse_scale), zero = set_f32(q.zero);
    const auto at = [&](int64_t j)
                        QCORE_INLINE_LAMBDA { return fma(load_f32(x + j), inverse, zero); };
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      store_rounded(y + i, kLanes, at(i), at(i + kLanes), at(i + 2 * kLanes), at(i + 3 * kLanes),
                    rounded);
    }
  }
  for (; i + kLanes <= n; i += kLanes) store_bytes(y + i, quantize_lanes(load_f32(x + i), q));
  if (i < n) {
    store_bytes(y + i, quantize_lanes(load_f32(some(x + i, n - i).v), q), static_cast<int>(n - i));
  }
}

template <class T>
void dequantize(const T* x, float* y, int64_t n, float scale, int32_t zero) {
  const auto lanes = [&](const T* p) QCORE_INLINE_LAMBDA {
    return mul(to_f32(add(load_bytes(p), set_i32(-zero))), set_f32(scale));
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f32(y + i, lanes(x + i));
  if (i < n) store_f32(y + i, lanes(some(x + i, n - i).v), static_cast<int>(n - i));
}

// Lowest and highest of all that `take` has seen; a sum that is NaN where not all is finite.
struct Extremes {
  F32 low = set_f32(__builtin_inff()), high = set_f32(-__builtin_inff()), finite = set_f32(0.0f);

  QCORE_INLINE void take(const F32& v) {
    low = min(v, low);
    high = max(v, high);
    finite = fma(v, set_f32(0.0f), finite);  // 0 * v is NaN where v is infinite or NaN
  }

  QCORE_INLINE void join(const Extremes& other) {
    low = min(other.low, low);
    high = max(other.high, high);
    finite = add(other.finite, finite);
  }

  QCORE_INLINE bool result(float* lowest, float* highest) const {
    Lanes<float> lows, highs, zeros;
    store_f32(lows.v, low);
    store_f32(highs.v, high);
    store_f32(zeros.v, finite);
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) {
        lows.v[j] = lows.v[j + width] < lows.v[j] ? lows.v[j + width] : lows.v[j];
        highs.v[j] = highs.v[j + width] > highs.v[j] ? highs.v[j + width] : highs.v[j];
        zeros.v[j] += zeros.v[j + width];
      }
    }
    *lowest = lows.v[0];
    *highest = highs.v[0];
    return zeros.v[0] == 0.0f;
  }
};

bool range(const float* x, int64_t n, float* low, float* high) {
  Extremes even, odd;  // two, since the sums of one would wait for each other
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even.take(load_f32(x + i));
    odd.take(load_f32(x + i + kLanes));
  }
  for (; i < n; i += kLanes) {
    Lanes<float> last = some(x + i, n - i < kLanes ? n - i : kLanes);
    for (int64_t j = n - i; j < kLanes; ++j) last.v[j] = x[i];
    even.take(load_f32(last.v));
  }
  even.join(odd);
  return even.result(low, high);
}

// Stores value(i, count), floats to round, of all n elements: 64 at a time, where there are as
// many.
template <class Value>
QCORE_INLINE void store_results(uint8_t* y, int64_t n, const IntegerResult& r, const Value& value) {
  const Rounding rounded = rounding(r.low, r.high, r.zero);
  const F32 multiplier = set_f32(r.multiplier);
  const auto at = [&](int64_t i, int64_t count)
                      QCORE_INLINE_LAMBDA { return mul(value(i, count), multiplier); };
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    store_rounded(y + i, kLanes, at(i, kLanes), at(i + kLanes, kLanes), at(i + 2 * kLanes, kLanes),
                  at(i + 3 * kLanes, kLanes), rounded);
  }
  for (; i < n; i += kLanes) {
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    store_some(y + i, at(i, count), static_cast<int>(count), rounded);
  }
}

// run(the integers of an operand as they are stored)
template <class Run>
QCORE_INLINE void as_stored(const uint8_t* x, const Operand& q, const Run& run) {
  if (q.is_signed) {
    run(reinterpret_cast<const int8_t*>(x));
  } else {
    run(x);
  }
}

void add(const BinaryElements& given) {
  const BinaryElements e = given;  // a copy that stores of bytes cannot alias, as that below
  as_stored(e.a, e.qa, [&](const auto* a) {
    as_stored(e.b, e.qb, [&](const auto* b) {
      store_results(e.y, e.n, e.result, [&](int64_t i, int64_t count) QCORE_INLINE_LAMBDA {
        return add(real_lanes(load_some_bytes(a + i, count), e.qa),
                   real_lanes(load_some_bytes(b + i, count), e.qb));
      });
    });
  });
}

void mul(const BinaryElements& given) {
  const BinaryElements e = given;
  as_stored(e.a, e.qa, [&](const auto* a) {
    as_stored(e.b, e.qb, [&](const auto* b) {
      store_results(e.y, e.n, e.result, [&](int64_t i, int64_t count) QCORE_INLINE_LAMBDA {
        return to_f32(mul(add(load_some_bytes(a + i, count), set_i32(-e.qa.zero)),
                          add(load_some_bytes(b + i, count), set_i32(-e.qb.zero))));
      });
    });
  });
}

void requantize(const uint8_t* stored, uint8_t* y, int64_t n, Operand q, const IntegerResult& r) {
  as_stored(stored, q, [&](const auto* x) {
    store_results(y, n, r, [&](int64_t i, int64_t count) QCORE_INLINE_LAMBDA {
      return real_lanes(load_some_bytes(x + i, count), q);
    });
  });
}

// Plain loops: compilers vectorise them for each ISA.
void clamp(const uint8_t* x, uint8_t* y, int64_t n, uint8_t low, uint8_t high) {
  for (int64_t i = 0; i < n; ++i) {
    const uint8_t v = x[i] < low ? low : x[i];
    y[i] = v > high ? high : v;
  }
}

void lookup(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

// The table of an output, where it has one, over results that are still in the cache.
void look_up(const RequantizedOutput& out, int64_t row, int64_t rows, int64_t column,
             int64_t columns) {
  if (!out.table) return;
  for (uint8_t* y = out.y + row * out.stride + column; rows > 0; --rows, y += out.stride) {
    lookup(y, y, columns, out.table);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
