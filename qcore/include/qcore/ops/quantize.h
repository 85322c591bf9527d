// From floats to integers and back: by one scale and zero point, or by those of each channel.
#pragma once

#include <cstdint>

#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/ops/integers.h"

namespace qcore {

inline void run_quantize(const Kernels& kernels, const Elements<float, uint8_t>& e,
                         const QuantizeParameters& q, int threads) {
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.quantize(e.x + begin, e.y + begin, end - begin, q);
  });
}

// T: int8_t or uint8_t.
template <class T>
void run_dequantize(const Kernels& kernels, const Elements<T, float>& e, QParams q, int threads) {
  const auto scale = static_cast<float>(q.scale);
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    if constexpr (sizeof(T) == 1 && T(-1) < T(0)) {
      kernels.dequantize_s8(e.x + begin, e.y + begin, end - begin, scale, q.zero);
    } else {
      kernels.dequantize_u8(e.x + begin, e.y + begin, end - begin, scale, q.zero);
    }
  });
}

// (outer, channels, inner) elements, and a scale and zero point for each channel.
struct ChannelQParams {
  int64_t outer, channels, inner;
  const double* scales;
  const int64_t* zeros;

  // Calls work(channel, offset) for each slice of `inner` elements.
  template <class Work>
  void each_slice(int threads, const Work& work) const {
    if (inner == 0) return;
    parallel_ranges(threads, outer * channels, kElementwiseGrain / inner + 1,
                    [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) work(i % channels, i * inner);
    });
  }
};

// y: in [low, high]. The product and the sum of each are rounded one by one.
inline void run_quantize_channels(const Kernels& kernels, const float* x, uint8_t* y,
                                  const ChannelQParams& q, IntegerBounds bounds, int threads) {
  q.each_slice(threads, [&](int64_t channel, int64_t offset) {
    const QParams one{q.scales[channel], static_cast<int32_t>(q.zeros[channel])};
    kernels.quantize(x + offset, y + offset, q.inner,
                     quantize_parameters(one, bounds.low, bounds.high, false));
  });
}

template <class T>
void run_dequantize_channels(const T* x, float* y, const ChannelQParams& q, int threads) {
  q.each_slice(threads, [&](int64_t channel, int64_t offset) {
    const double scale = q.scales[channel];
    const int64_t zero = q.zeros[channel];
    for (int64_t i = offset; i < offset + q.inner; ++i) {
      y[i] = static_cast<float>(static_cast<double>(x[i] - zero) * scale);
    }
  });
}

}  // namespace qcore
