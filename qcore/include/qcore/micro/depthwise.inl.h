// Depthwise convolution of a strip: channels in lanes, 16 at a time. Columns of four lines are
// interleaved once and kept; each output is a few dot products of these.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "qcore/micro/elementwise.inl.h"

namespace qcore::QCORE_ISA {
namespace {

static_assert(sizeof(Each4) <= DepthwiseInput::kEntryBytes);

// Entries of 16 channels.
struct OfOneUnit {
  static QCORE_INLINE void load(const uint8_t* a, const uint8_t* b, const uint8_t* c,
                                const uint8_t* d, Each4* to) {
    *to = load_each4(a, b, c, d);
  }
};

// What lies behind the last channels is not ours to read.
template <class Load, int kUnits>
__attribute__((noinline)) void load_some_taps(const uint8_t* const* taps, int count, Each4* to) {
  uint8_t rows[4][kUnits * kLanes] = {};
  for (int j = 0; j < 4; ++j) std::memcpy(rows[j], taps[j], static_cast<size_t>(count));
  Load::load(rows[0], rows[1], rows[2], rows[3], to);
}
template <class Load, int kUnits>
QCORE_INLINE void load_taps(const uint8_t* const* taps, int count, Each4* to) {
  if (count == kUnits * kLanes) return Load::load(taps[0], taps[1], taps[2], taps[3], to);
  load_some_taps<Load, kUnits>(taps, count, to);
}

// The entries of four lines for `count` channels, which take kUnits vectors each.
template <class Load, int kUnits>
void interleave(const DepthwiseInput& in, const DepthwiseLine* lines, int64_t channel, int count,
                Each4* to) {
  const uint8_t* const padding = in.padding + channel;
  const auto tap = [&](int i, int64_t entry) {
    return lines[i].row && entry >= lines[i].begin && entry < lines[i].end
               ? lines[i].row + (entry - lines[i].begin) * in.channels + channel
               : padding;
  };
  int64_t begin = 0, end = in.entries;  // of the entries that no line has beyond an edge
  for (int i = 0; i < kGroup; ++i) {
    if (!lines[i].row) continue;
    begin = lines[i].begin > begin ? lines[i].begin : begin;
    end = lines[i].end < end ? lines[i].end : end;
  }
  if (begin >= end) begin = end = in.entries;
  const auto one_by_one = [&](int64_t first, int64_t last) {
    for (int64_t entry = first; entry < last; ++entry) {
      const uint8_t* taps[kGroup];
      for (int i = 0; i < kGroup; ++i) taps[i] = tap(i, entry);
      load_taps<Load, kUnits>(taps, count, to + entry * kUnits);
    }
  };
  one_by_one(0, begin);
  one_by_one(end, in.entries);
  // Whole vectors where these can be read: of the last channels, too, but at the very end of the
  // input.
  const uint8_t* at[kGroup];
  int64_t step[kGroup];
  int64_t whole = end;
  for (int i = 0; i < kGroup; ++i) {
    at[i] = tap(i, begin);
    step[i] = lines[i].row ? in.channels : 0;
    if (count == kUnits * kLanes || !step[i]) continue;
    while (whole > begin && in.limit - at[i] < (whole - begin - 1) * step[i] + kUnits * kLanes) {
      --whole;
    }
  }
  if (whole < end) one_by_one(whole, end);
  const auto vectors = [&](int64_t of_a, int64_t of_b, int64_t of_c, int64_t of_d)
                           QCORE_INLINE_LAMBDA {
    const uint8_t *a = at[0], *b = at[1], *c = at[2], *d = at[3];
    for (int64_t entry = begin; entry < whole;
         ++entry, a += of_a, b += of_b, c += of_c, d += of_d) {
      Load::load(a, b, c, d, to + entry * kUnits);
    }
  };
  if (step[0] && step[1] && step[2] && step[3]) {
    return vectors(in.channels, in.channels, in.channels, in.channels);  // by one register
  }
  vectors(step[0], step[1], step[2], step[3]);
}

template <bool kModerate, class Sum, class Values, class Taps>
QCORE_INLINE Sum add_dot(const Sum& sum, const Values& values, const Taps& weights) {
  if constexpr (kModerate) {
    return dot_moderate(sum, values, weights);
  } else {
    return dot(sum, values, weights);
  }
}

// Dot products of some taps with the entries of each output, which are `stride` apart.
struct TapProducts {
  const Each4* const* entries;  // of each tap
  int64_t stride;
  const int8_t* w;
  const int32_t* offset;  // of the channels
  int64_t outputs;
  I32* sums;  // of each output
};

// Adds N dot products to each sum; the first ones begin it, with the offset of its channel.
template <int N, bool kFirst, bool kModerate>
__attribute__((noinline)) void add_taps(const TapProducts& taps) {
  const int64_t stride = taps.stride;
  Weights weights[N];
  const Each4* from[N];
  unroll<N>([&](auto i) QCORE_INLINE_LAMBDA {
    weights[i.value] = load_weights(taps.w + i.value * kUnit);
    from[i.value] = taps.entries[i.value];
  });
  unroll<kParts>([&](auto p) QCORE_INLINE_LAMBDA {
    constexpr int kPart = decltype(p)::value;
    const I32 begin = load_i32(taps.offset);
    int64_t x = 0;
    for (I32 *of_x = taps.sums, *end = taps.sums + taps.outputs; of_x < end; ++of_x, x += stride) {
      auto sum = kFirst ? part<kPart>(begin) : part<kPart>(*of_x);
      unroll<N>([&](auto i) QCORE_INLINE_LAMBDA {
        sum = add_dot<kModerate>(sum, part<kPart>(from[i.value][x]), part<kPart>(weights[i.value]));
      });
      part<kPart>(*of_x) = sum;
    }
  });
}

template <int N, bool kModerate>
void add_some_taps(int64_t count, bool first, const TapProducts& taps) {
  if (count == N && first) return add_taps<N, true, kModerate>(taps);
  if (count == N) return add_taps<N, false, kModerate>(taps);
  if constexpr (N > 1) add_some_taps<N - 1, kModerate>(count, first, taps);
}

// Sums of one output row: as many taps at a time as have their weights in registers.
template <bool kModerate>
void sum_taps(const DepthwiseInput& in, const Each4* entries, const int8_t* w,
              const int32_t* offset, I32* sums) {
  constexpr int kMost = sizeof(Weights) > 64 ? 3 : 5;
  const int64_t dots = in.quads * in.columns, runs = (dots + kMost - 1) / kMost;
  for (int64_t run = 0; run < runs; ++run) {
    const int64_t begin = dots * run / runs, count = dots * (run + 1) / runs - begin;
    const Each4* from[kMost];
    for (int64_t i = 0; i < count; ++i) {
      from[i] = entries + (begin + i) / in.columns * in.entries +
                (begin + i) % in.columns * in.column_step;
    }
    add_some_taps<kMost, kModerate>(count, run == 0,
                                    {from, in.stride, w + begin * kUnit, offset, in.outputs, sums});
  }
}

// Whole vectors but for the last pixels: what these have too much is written over, by pixels and
// channels that come later.
template <class Output>
void finish_channels(const Output& out, const I32* sums, int64_t first, int64_t outputs,
                     int64_t channel, int count) {
  auto columns = load_columns(out, channel);
  columns.offset = set_i32(0);  // sums began with it
  const auto rounding = rounding_of(out);
  const auto value = [&](int64_t x) QCORE_INLINE_LAMBDA {
    return result(sums[x], out, columns, first + x, channel, count);
  };
  uint8_t* y = out.y + first * out.stride + channel;
  const int64_t whole =
      count == kLanes ? outputs : outputs - (kLanes - count + out.stride - 1) / out.stride;
  int64_t x = 0;
  for (; x + 4 <= whole; x += 4, y += 4 * out.stride) {
    store_rounded(y, out.stride, value(x), value(x + 1), value(x + 2), value(x + 3), rounding);
  }
  for (; x + 2 <= whole; x += 2, y += 2 * out.stride) {
    store_rounded(y, out.stride, value(x), value(x + 1), rounding);
  }
  for (; x < outputs; ++x, y += out.stride) store_some(y, value(x), count, rounding);
}

constexpr int kSpreadVectors = 4, kSpreadChannels = kSpreadVectors * kLanes, kMostSpreadDots = 3;

// An output row of 64 channels from `channel` on, or the first `count` of them.
struct SpreadRow {
  int64_t dots;
  const Each4* entries;
  const int8_t* w;
  int64_t step;   // from the weights of 16 channels to the next
  int64_t first;  // the pixel that it begins with
  int64_t channel;
  int count;
};

// The N dot products of a row have all their weights in registers.
template <class OfSpread, int N, bool kWhole, class Output>
__attribute__((noinline)) void spread_row(const DepthwiseInput& in, const SpreadRow& row,
                                          const Output& output) {
  if constexpr (N > 1) {
    if (row.dots < N) return spread_row<OfSpread, N - 1, kWhole>(in, row, output);
  }
  const int64_t first = row.first, channel = row.channel;
  const int count = row.count;
  constexpr int kVectors = kSpreadVectors, kFour = 4;
  const Output out = output;
  const auto rounding = rounding_of(out);
  Weights weights[N][kVectors];
  const Each4* from[N];
  RequantizedColumns columns[kVectors];
  unroll<N>([&](auto i) QCORE_INLINE_LAMBDA {
    from[i.value] =
        row.entries +
        (i.value / in.columns * in.entries + i.value % in.columns * in.column_step) * kVectors;
    unroll<kVectors>([&](auto v) QCORE_INLINE_LAMBDA {
      weights[i.value][v.value] =
          OfSpread::lanes(row.w + i.value * kUnit + v.value * kFour * kGroup, row.step);
    });
  });
  unroll<kVectors>([&](auto v) QCORE_INLINE_LAMBDA {
    const int64_t column = channel + v.value * kFour;
    columns[v.value] = {OfSpread::lanes(out.offset + column), OfSpread::lanes(out.bias + column),
                        OfSpread::lanes(out.multiplier + column)};
  });
  I32 begins[kVectors];
  unroll<kVectors>([&](auto v)
                       QCORE_INLINE_LAMBDA { begins[v.value] = take_offset(columns[v.value]); });
  uint8_t* y = out.y + first * out.stride + channel;
  for (int64_t x = 0; x < in.outputs; ++x, y += out.stride) {
    F32 results[kVectors];
    unroll<kVectors>([&](auto v) QCORE_INLINE_LAMBDA {
      I32 sum = begins[v.value];
      unroll<N>([&](auto i) QCORE_INLINE_LAMBDA {
        sum =
            dot(sum, from[i.value][x * in.stride * kVectors + v.value], weights[i.value][v.value]);
      });
      results[v.value] = result(sum, out, columns[v.value], first + x, channel, kLanes);
    });
    OfSpread::store(y, kWhole ? kSpreadChannels : count, results[0], results[1], results[2],
                    results[3], rounding);
  }
}

// How many channels, from the first one on, are done 64 at a time.
inline int64_t channels_to_spread(const DepthwiseInput& in) {
  if (in.quads * in.columns > kMostSpreadDots || in.channels <= kSpreadChannels - kLanes) return 0;
  const int64_t left = in.channels % kSpreadChannels;
  return left < kSpreadChannels / 2 ? in.channels - left : in.channels;
}

// These; the last ones may begin before the end of those before.
template <class OfSpread, class Output>
void spread_channels(const DepthwiseInput& in, int64_t channels, const Output& out,
                     Each4* entries) {
  const int64_t dots = in.quads * in.columns, row_bytes = dots * kUnit,
                unit_bytes = in.packed_rows * row_bytes;
  const int64_t last = (in.channels + kLanes - 1) / kLanes * kLanes - kSpreadChannels;
  for (int64_t next = 0; next < channels; next += kSpreadChannels) {
    const int64_t channel = next < last ? next : last, left = in.channels - channel;
    const int count = static_cast<int>(left < kSpreadChannels ? left : kSpreadChannels);
    for (int64_t quad = 0; quad < in.quads; ++quad) {
      interleave<OfSpread, kSpreadVectors>(in, in.lines + quad * kGroup, channel, count,
                                           entries + quad * in.entries * kSpreadVectors);
    }
    const int8_t* w = in.w + channel / kLanes * unit_bytes;
    for (int64_t row = 0; row < in.rows; ++row, w += row_bytes) {
      const SpreadRow spread{dots, entries, w, unit_bytes, row * in.row_pixels, channel, count};
      if (count == kSpreadChannels) {
        spread_row<OfSpread, kMostSpreadDots, true>(in, spread, out);
      } else {
        spread_row<OfSpread, kMostSpreadDots, false>(in, spread, out);
      }
    }
  }
}

template <class Output>
void depthwise_strip(const DepthwiseInput& in, const Output& output) {
  const Output out = output;  // a copy that stores of bytes cannot alias
  auto* const entries = reinterpret_cast<Each4*>(in.scratch);
  auto* const sums =
      reinterpret_cast<I32*>(in.scratch + in.quads * in.entries * DepthwiseInput::kEntryBytes);
  const int64_t row_bytes = in.quads * in.columns * kUnit;
  const auto unit = [&](int64_t channel, int count) {
    const int8_t* w = in.w + channel / kLanes * in.packed_rows * row_bytes;
    for (int64_t quad = 0; quad < in.quads; ++quad) {
      interleave<OfOneUnit, 1>(in, in.lines + quad * kGroup, channel, count,
                               entries + quad * in.entries);
    }
    for (int64_t row = 0; row < in.rows; ++row) {
      if (kModerateDot && !in.extreme) {
        sum_taps<kModerateDot>(in, entries, w + row * row_bytes, out.offset + channel, sums);
      } else {
        sum_taps<false>(in, entries, w + row * row_bytes, out.offset + channel, sums);
      }
      finish_channels(out, sums, row * in.row_pixels, in.outputs, channel, count);
    }
  };
  constexpr bool kSpreads = !std::is_void_v<Spread> && !std::is_same_v<Output, SummedOutput>;
  const int64_t spread = kSpreads ? channels_to_spread(in) : 0,
                whole = in.channels - in.channels % kLanes;
  if (spread < in.channels && whole < in.channels) {
    unit(whole, static_cast<int>(in.channels - whole));
  }
  if constexpr (kSpreads) spread_channels<Spread>(in, spread, out, entries);
  for (int64_t channel = spread; channel < whole; channel += kLanes) unit(channel, kLanes);
}

void depthwise(const DepthwiseInput& in, const RequantizedOutput& out) {
  with_sum(out, [&](const auto& output) { depthwise_strip(in, output); });
  for (int64_t row = 0; row < in.rows; ++row) {
    look_up(out, row * in.row_pixels, in.outputs, 0, in.channels);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
