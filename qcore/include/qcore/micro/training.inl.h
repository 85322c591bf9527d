// Kernels of the training side: fake quantization and the extremes of columns.
#pragma once

#include <cstdint>
#include <cstring>

#include "qcore/micro/elementwise.inl.h"

namespace qcore::QCORE_ISA {
namespace {

struct FakeQuantizeLanes {
  F32 inverse, scale, low, high;
};

QCORE_INLINE FakeQuantizeLanes same_channel(const FakeQuantizeChannels& p, int64_t channel) {
  return {set_f32(p.inverse[channel]), set_f32(p.scale[channel]), set_f32(p.low[channel]),
          set_f32(p.high[channel])};
}

QCORE_INLINE FakeQuantizeLanes next_channels(const FakeQuantizeChannels& p, int64_t channel) {
  return {load_f32(p.inverse + channel), load_f32(p.scale + channel), load_f32(p.low + channel),
          load_f32(p.high + channel)};
}

// NaN stays NaN, and is outside.
QCORE_INLINE F32 fake_quantize_lanes(const F32& x, const FakeQuantizeLanes& p, uint16_t* inside) {
  const F32 whole = round_f32(mul(x, p.inverse));
  const F32 clamped = max(p.low, min(p.high, whole));
  *inside = equal_bits(whole, clamped);
  return fma(clamped, p.scale, set_f32(0.0f));  // the sum makes -0 a 0
}

// All but the last block are whole.
QCORE_INLINE void fake_quantize_block(const float* x, float* y, uint16_t* inside, int64_t count,
                                      const FakeQuantizeLanes& p) {
  if (count >= kLanes) return store_f32(y, fake_quantize_lanes(load_f32(x), p, inside));
  const F32 result = fake_quantize_lanes(load_f32(some(x, count).v), p, inside);
  store_f32(y, result, static_cast<int>(count));
}

// Parameters of the 16 elements from i on, where these belong to more than one channel.
QCORE_INLINE FakeQuantizeLanes mixed_channels(const FakeQuantizeChannels& p, int64_t i) {
  Lanes<float> inverse, scale, low, high;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t channel = (i + lane) / p.inner % p.channels;
    inverse.v[lane] = p.inverse[channel];
    scale.v[lane] = p.scale[channel];
    low.v[lane] = p.low[channel];
    high.v[lane] = p.high[channel];
  }
  return {load_f32(inverse.v), load_f32(scale.v), load_f32(low.v), load_f32(high.v)};
}

// inside: one bit for each element.
void fake_quantize(const MaskedElements& elements, uint16_t* inside,
                   const FakeQuantizeChannels& p) {
  const float* x = elements.x;
  float* y = elements.y;
  const int64_t begin = elements.begin, end = elements.end;
  if (p.inner == 1) {
    int64_t channel = begin % p.channels;
    for (int64_t i = begin; i < end; i += kLanes) {
      fake_quantize_block(x + i, y + i, inside + i / kLanes, end - i, next_channels(p, channel));
      for (channel += kLanes; channel >= p.channels;) channel -= p.channels;
    }
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t slice = i / p.inner;
    const int64_t stop = (slice + 1) * p.inner < end ? (slice + 1) * p.inner : end;
    if (stop < end && stop - i < kLanes) {
      fake_quantize_block(x + i, y + i, inside + i / kLanes, end - i, mixed_channels(p, i));
      i += kLanes;
      continue;
    }
    const FakeQuantizeLanes lanes = same_channel(p, slice % p.channels);
    for (; i + kLanes <= stop; i += kLanes) {
      store_f32(y + i, fake_quantize_lanes(load_f32(x + i), lanes, inside + i / kLanes));
    }
    if (stop == end && i < end) {
      fake_quantize_block(x + i, y + i, inside + i / kLanes, end - i, lanes);
      i = end;
    }
  }
}

// y = x where its bit is 1, else 0.
void keep_inside(const MaskedElements& elements, const uint16_t* inside) {
  const float* x = elements.x;
  float* y = elements.y;
  const int64_t begin = elements.begin, end = elements.end;
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    store_f32(y + i, keep(inside[i / kLanes], load_f32(x + i)));
  }
  if (i < end) {
    store_f32(y + i, keep(inside[i / kLanes], load_f32(some(x + i, end - i).v)),
              static_cast<int>(end - i));
  }
}

// Lowest and highest of each of `columns` columns; NaN for both where not all of a column are
// finite.
void column_ranges(const float* x, int64_t rows, int64_t columns, float* low, float* high) {
  constexpr int kUnits = 4;
  const auto take = [&](const float* from, int64_t count, float* lows, float* highs) {
    F32 smallest[kUnits], largest[kUnits], finite[kUnits];
    unroll<kUnits>([&](auto u) QCORE_INLINE_LAMBDA {
      smallest[u.value] = set_f32(__builtin_inff());
      largest[u.value] = set_f32(-__builtin_inff());
      finite[u.value] =
          set_f32(0.0f);  // 0 * x is NaN where x is infinite or NaN, and so stays their sum
    });
    for (int64_t row = 0; row < rows; ++row, from += columns) {
      unroll<kUnits>([&](auto u) QCORE_INLINE_LAMBDA {
        const int64_t lane = u.value * kLanes;
        if (lane >= count) return;
        const F32 v = count - lane >= kLanes ? load_f32(from + lane)
                                             : load_f32(some(from + lane, count - lane).v);
        smallest[u.value] = min(v, smallest[u.value]);
        largest[u.value] = max(v, largest[u.value]);
        finite[u.value] = fma(v, set_f32(0.0f), finite[u.value]);
      });
    }
    unroll<kUnits>([&](auto u) QCORE_INLINE_LAMBDA {
      const int64_t lane = u.value * kLanes;
      if (lane >= count) return;
      const int stored = count - lane >= kLanes ? kLanes : static_cast<int>(count - lane);
      store_f32(lows + lane, add(smallest[u.value], finite[u.value]), stored);
      store_f32(highs + lane, add(largest[u.value], finite[u.value]), stored);
    });
  };
  constexpr int64_t kBlock = kUnits * kLanes;
  int64_t c = 0;
  for (; c + kBlock <= columns; c += kBlock) take(x + c, kBlock, low + c, high + c);
  if (c < columns) take(x + c, columns - c, low + c, high + c);
}

// Adds the counts of n values to the tables; false where not all are finite.
// Values beyond the bins are counted in the first or the last.
template <bool divides>
bool histogram_of(const float* x, int64_t n, const HistogramBins& bins, const HistogramResult& to) {
  uint32_t* const counts = to.counts;
  const int64_t table = to.table;
  const F32 multiplier = set_f32(bins.multiplier), offset = set_f32(bins.offset),
            divisor = set_f32(bins.divisor);
  const F32 minus_first = set_f32(-bins.first), highest = set_f32(static_cast<float>(table - 1));
  const auto last = static_cast<uint16_t>(table - 1);
  uint32_t* const others = counts + table;
  Extremes extremes;
  constexpr int kStep = 8 * kLanes, kWords = 4;  // enough that counting and finding overlap
  constexpr int64_t kAhead = 4096;  // counting leaves no room for loads to run ahead by themselves
  alignas(64) uint16_t index[kStep];
  const auto find = [&](const float* from, uint16_t* to) QCORE_INLINE_LAMBDA {
    const F32 v = load_f32(from);
    extremes.take(v);
    // the product with the number of bins may be infinite, which is the last bin
    const F32 place =
        divides ? min(div(mul(add(v, offset), multiplier), divisor), highest) : mul(v, multiplier);
    store_indices(to, add(floor_f32(place), minus_first), last);
  };
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (int at = 0; at < kStep; at += kLanes) {
      __builtin_prefetch(x + i + at + kAhead);
      find(x + i + at, index + at);
    }
    for (int word = 0; word < kStep / kWords; ++word) {  // four indices to a load
      asm volatile("" : : "r"(index) : "memory");  // else GCC carries counters from step to step
      uint64_t four;
      std::memcpy(&four, index + word * kWords, sizeof four);
      ++counts[four & 0xFFFF];
      ++others[four >> 16 & 0xFFFF];
      ++counts[four >> 32 & 0xFFFF];
      ++others[four >> 48];
    }
  }
  for (; i < n; i += kLanes) {
    const int64_t count = n - i < kLanes ? n - i : kLanes;
    Lanes<float> rest = some(x + i, count);
    for (int64_t lane = count; lane < kLanes; ++lane) rest.v[lane] = x[i];
    find(rest.v, index);
    for (int64_t lane = 0; lane < count; ++lane) ++counts[index[lane]];
  }
  return extremes.result(to.low, to.high);
}

bool histogram(const float* x, int64_t n, const HistogramBins& bins, const HistogramResult& to) {
  return bins.divides ? histogram_of<true>(x, n, bins, to) : histogram_of<false>(x, n, bins, to);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
