// Sums, products, bounds, tables and quantization as operations of a plan.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "qcore/base/extent.h"
#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/ops/integers.h"
#include "qcore/ops/quantize.h"
#include "qcore/plan/finish.h"
#include "qcore/plan/plan.h"

namespace qcore {

// What the integers of two operands and of their sum or product mean.
struct BinaryConstants {
  Operand a, b;
  IntegerResult result;
};

template <BinaryKernel kernel>
BinaryConstants binary_constants(QParams a, QParams b, QParams y, bool relu) {
  const Operand left = operand(a), right = operand(b);
  return {left, right, integer_result(y, binary_multiplier<kernel>(left, right, y), relu)};
}

// a (pixels, channels) and b (samples, channels), with `inner` pixels to a sample: what gates of
// channels are.
template <BinaryKernel kernel>
Place gate_step(Program& program, const Place& a, const Place& b, const Kernels& kernels,
                const BinaryConstants& q) {
  const int64_t channels = a.extent.size[1], pixels = a.extent.numel() / channels,
                inner = pixels / std::max<int64_t>(a.extent.size[0], 1);
  const auto work = [=, &kernels](const uint8_t* const* in, uint8_t* out, int threads) {
    parallel_ranges(threads, pixels, kElementwiseGrain / channels + 1,
                    [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const uint8_t* gate = in[1] + p / inner * channels;
        (kernels.*
         kernel)({in[0] + p * channels, gate, out + p * channels, channels, q.a, q.b, q.result});
      }
    });
  };
  return program.step({a, b}, a.extent, 1, work, true);
}

// Whether b is one pixel for each sample of a, which is (samples, channels, height, width) with its
// channels last.
inline bool is_gate(const Extent& a, const Extent& b, const Extent& sizes) {
  if (!same_sizes(a, sizes) || a.rank != 4 || b.rank != 4 || !a.numel() || !is_channels_last(a)) {
    return false;
  }
  const bool channels = b.size[0] == sizes.size[0] && b.size[1] == sizes.size[1];
  return channels && b.size[2] == 1 && b.size[3] == 1 && sizes.size[2] * sizes.size[3] > 1;
}

template <BinaryKernel kernel>
Place binary_step(Program& program, Place a, Place b, const Kernels& kernels,
                  const BinaryConstants& q) {
  const Extent sizes = broadcast(a.extent, b.extent);
  if (is_gate(a.extent, b.extent, sizes)) {
    return gate_step<kernel>(program, a, program.contiguous(b), kernels, q);
  }
  if (!same_sizes(a.extent, sizes)) a.extent = expanded(a.extent, sizes);
  if (!same_sizes(b.extent, sizes)) b.extent = expanded(b.extent, sizes);
  a = program.dense(a);
  b = program.in_layout_of(b, a.extent);
  const int64_t n = sizes.numel();
  const auto work = [=, &kernels](const uint8_t* const* in, uint8_t* out, int threads) {
    run_binary<kernel>(kernels, {in[0], in[1], out, n, q.a, q.b, q.result}, threads);
  };
  return program.step({a, b}, a.extent, 1, work, true);
}

template <BinaryKernel kernel>
Plan::Operation binary_operation(const Kernels& kernels, BinaryConstants q, const Finish& finish) {
  finish.bound(q.result.low, q.result.high, q.result.zero);
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    return finished(program, binary_step<kernel>(program, in[0], in[1], kernels, q), kernels,
                    finish);
  };
}

inline Plan::Operation quantize_operation(const Kernels& kernels, QParams y) {
  const QuantizeParameters q = quantize_parameters(y, 0, 255);
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    return program.step({x}, x.extent, 1,
                        [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      run_quantize(kernels, {reinterpret_cast<const float*>(from[0]), to, n}, q, threads);
    });
  };
}

inline Plan::Operation dequantize_operation(const Kernels& kernels, QParams q) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    return program.step({x}, x.extent, 4,
                        [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      run_dequantize<uint8_t>(kernels, {from[0], reinterpret_cast<float*>(to), n}, q, threads);
    });
  };
}

inline Plan::Operation table_operation(const Kernels& kernels,
                                       std::shared_ptr<const std::vector<uint8_t>> table) {
  return [&kernels, table = std::move(table)](Program& program, const std::vector<Place>& in) {
    return table_step(program, in[0], kernels, table);
  };
}

inline Plan::Operation clamp_operation(const Kernels& kernels, uint8_t low, uint8_t high) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    const auto work = [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      run_clamp(kernels, {from[0], to, n}, low, high, threads);
    };
    return program.step({x}, x.extent, 1, work, true);
  };
}

}  // namespace qcore
