// Pooling: channels in lanes, over the rows of one window.
#pragma once

#include <cstdint>
#include <cstring>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

template <int N>
QCORE_INLINE void max_bytes(const uint8_t* const* rows, int64_t count, int64_t from, uint8_t* y) {
  typedef uint8_t Bytes __attribute__((vector_size(N)));  // compilers have it on every ISA
  Bytes most, x;
  std::memcpy(&most, rows[0] + from, N);
  for (int64_t r = 1; r < count; ++r) {
    std::memcpy(&x, rows[r] + from, N);
    most = x > most ? x : most;
  }
  std::memcpy(y, &most, N);
}

// `outputs` pixels one behind the other, of rows that are `step` bytes further on for each.
void max(const WindowRows& window, int64_t outputs, int64_t step) {
  const uint8_t* const* const rows = window.rows;
  const int64_t count = window.count, channels = window.channels;
  uint8_t* y = window.y;
  for (int64_t i = 0; i < outputs; ++i, y += channels) {
    const int64_t from = i * step;
    int64_t c = 0;
    for (; c + 32 <= channels; c += 32) max_bytes<32>(rows, count, from + c, y + c);
    for (; c + 8 <= channels; c += 8) max_bytes<8>(rows, count, from + c, y + c);
    for (; c < channels; ++c) max_bytes<1>(rows, count, from + c, y + c);
  }
}

void average(const WindowRows& given, const AverageParameters& parameters) {
  const WindowRows w = given;  // copies that stores of bytes cannot alias
  const AverageParameters p = parameters;
  for (int64_t c = 0; c < w.channels; c += kLanes) {
    const int64_t left = w.channels - c;
    I32 sum = set_i32(p.offset);
    for (int64_t r = 0; r < w.count; ++r) sum = add(sum, load_some_bytes(w.rows[r] + c, left));
    const F32 total = to_f32(sum), multiplier = set_f32(p.multiplier);
    const auto zero = static_cast<float>(p.zero), low = static_cast<float>(-p.shift),
               high = low + 255.0f;
    const I32 v =
        p.fused ? round_clamped(fma(total, multiplier, set_f32(zero)), low, high, p.shift)
                : round_clamped(mul(total, multiplier), low - zero, high - zero, p.zero + p.shift);
    store_bytes(w.y + c, v, left >= kLanes ? kLanes : static_cast<int>(left));
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
