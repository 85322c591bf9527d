// Drivers of the elementwise kernels: runs of memory, on threads.
#pragma once

#include <cstdint>

#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/integers.h"

namespace qcore {

constexpr int64_t kElementwiseGrain = 1 << 15;

using BinaryKernel = void (*Kernels::*)(const BinaryElements&);

// What a sum or a product of two tensors of integers is multiplied by.
template <BinaryKernel kernel>
float binary_multiplier(Operand a, Operand b, QParams y) {
  return kernel == &Kernels::mul ? a.scale * b.scale * inverse(y.scale) : inverse(y.scale);
}

// `finish(begin, end)` is called for each part that is done.
template <BinaryKernel kernel, class Finish>
void run_binary(const Kernels& kernels, const BinaryElements& elements, int threads,
                const Finish& finish) {
  parallel_ranges(threads, elements.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    (kernels.*kernel)(elements.part(begin, end));
    finish(begin, end);
  });
}

template <BinaryKernel kernel>
void run_binary(const Kernels& kernels, const BinaryElements& elements, int threads) {
  run_binary<kernel>(kernels, elements, threads, [](int64_t, int64_t) {});
}

// The elements of a tensor, or of a part of it, and where their results go.
template <class From, class To>
struct Elements {
  const From* x;
  To* y;
  int64_t n;
};
using Bytes = Elements<uint8_t, uint8_t>;

template <class Finish>
void run_requantize(const Kernels& kernels, const Bytes& e, Operand x, const IntegerResult& result,
                    int threads, const Finish& finish) {
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.requantize(e.x + begin, e.y + begin, end - begin, x, result);
    finish(begin, end);
  });
}

inline void run_clamp(const Kernels& kernels, const Bytes& e, uint8_t low, uint8_t high,
                      int threads) {
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.clamp(e.x + begin, e.y + begin, end - begin, low, high);
  });
}

// `table`: 256 bytes.
inline void run_lookup(const Kernels& kernels, const Bytes& e, const uint8_t* table, int threads) {
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.lookup(e.x + begin, e.y + begin, end - begin, table);
  });
}

// x and y (rows, channels, inner); `tables` (channels, 256).
struct ChannelLookup {
  const uint8_t* x;
  uint8_t* y;
  int64_t rows, channels, inner;
  const uint8_t* tables;
};

inline void run_lookup_channels(const Kernels& kernels, const ChannelLookup& of, int threads) {
  const int64_t length = of.channels * of.inner;
  if (of.rows * length == 0) return;
  parallel_ranges(threads, of.rows, kElementwiseGrain / length + 1,
                  [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* from = of.x + row * length;
      uint8_t* to = of.y + row * length;
      for (int64_t c = 0; c < of.channels; ++c, from += of.inner, to += of.inner) {
        const uint8_t* table = of.tables + c * 256;
        if (of.inner == 1) {
          *to = table[*from];
        } else {
          kernels.lookup(from, to, of.inner, table);
        }
      }
    }
  });
}

}  // namespace qcore
