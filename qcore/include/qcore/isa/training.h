// What the kernels of the training side are given.
#pragma once

#include <cstdint>

namespace qcore {

// Elements [begin, end) of x and y; begin is a multiple of 16.
struct MaskedElements {
  const float* x;
  float* y;
  int64_t begin, end;
};

// Fake quantization: element i has the parameters of channel i / inner % channels. Where inner is
// 1, 16 elements behind the last channel repeat the first ones. low, high: the range of integers
// less the zero point.
struct FakeQuantizeChannels {
  const float *inverse, *scale, *low, *high;
  int64_t channels, inner;
};

// The bin of x: floor(x * multiplier) - first; or, where `divides`, floor((x + offset) * multiplier
// / divisor). last: that of the last bin.
struct HistogramBins {
  float multiplier, offset, divisor;
  float first;
  bool divides;
};

// Where a histogram goes: two tables of `table` counters, which sum to it; lowest and highest of
// what was counted.
struct HistogramResult {
  uint32_t* counts;
  int64_t table;
  float* low;
  float* high;
};

}  // namespace qcore
