// Operations of a plan that compute. Each is made once from constants, and adds its steps to a program for the sizes at hand.
#pragma once

#include "qcore/python/elementwise.h"
#include "qcore/plan/plan.h"

namespace qcore {

// What follows a result before it is stored: bounds of its integers, then a table.
struct Finish {
  int32_t low = 0, high = 255;
  std::shared_ptr<const std::vector<uint8_t>> table;

  const uint8_t* table_data() const { return table ? table->data() : nullptr; }

  void bound(float& from, float& to, int32_t zero) const {
    from = std::max(from, static_cast<float>(low - zero));
    to = std::min(to, static_cast<float>(high - zero));
  }
};

// An addition fused after a weighted operation: what its own result means, the other operand, and the sum.
struct Sum {
  Operand own{}, other{};
  IntegerResult result{};
};

inline Place table_step(Program& program, const Place& given, const Kernels& kernels, const std::shared_ptr<const std::vector<uint8_t>>& table) {
  const Place x = program.dense(given);
  const int64_t n = x.extent.numel();
  return program.step({x}, x.extent, 1, [&kernels, table, n](const uint8_t* const* in, uint8_t* out, int threads) {
    parallel_ranges(threads, n, kElementwiseGrain, [&](int64_t begin, int64_t end) { kernels.lookup(in[0] + begin, out + begin, end - begin, table->data()); });
  }, true);
}

inline Place finished(Program& program, const Place& x, const Kernels& kernels, const Finish& finish) {
  return finish.table ? table_step(program, x, kernels, finish.table) : x;
}

// a (pixels, channels) and b (samples, channels), with `inner` pixels to a sample: what gates of channels are.
template <BinaryKernel kernel>
Place gate_step(Program& program, const Place& a, const Place& b, const Kernels& kernels, Operand qa, Operand qb, IntegerResult result) {
  const int64_t channels = a.extent.size[1], pixels = a.extent.numel() / channels, inner = pixels / std::max<int64_t>(a.extent.size[0], 1);
  return program.step({a, b}, a.extent, 1, [=, &kernels](const uint8_t* const* in, uint8_t* out, int threads) {
    parallel_ranges(threads, pixels, kElementwiseGrain / channels + 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        (kernels.*kernel)(in[0] + p * channels, in[1] + p / inner * channels, out + p * channels, channels, qa, qb, result);
      }
    });
  }, true);
}

template <BinaryKernel kernel>
Place binary_step(Program& program, Place a, Place b, const Kernels& kernels, Operand qa, Operand qb, IntegerResult result) {
  const Extent sizes = broadcast(a.extent, b.extent);
  const bool whole = same_sizes(a.extent, sizes);
  if (whole && a.extent.rank == 4 && a.extent.numel() && b.extent.rank == 4 && is_channels_last(a.extent) && b.extent.size[0] == sizes.size[0] &&
      b.extent.size[1] == sizes.size[1] && b.extent.size[2] == 1 && b.extent.size[3] == 1 && sizes.size[2] * sizes.size[3] > 1) {
    return gate_step<kernel>(program, a, program.contiguous(b), kernels, qa, qb, result);
  }
  if (!whole) a.extent = expanded(a.extent, sizes);
  if (!same_sizes(b.extent, sizes)) b.extent = expanded(b.extent, sizes);
  a = program.dense(a);
  b = program.in_layout_of(b, a.extent);
  const int64_t n = sizes.numel();
  return program.step({a, b}, a.extent, 1, [=, &kernels](const uint8_t* const* in, uint8_t* out, int threads) {
    parallel_ranges(threads, n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
      (kernels.*kernel)(in[0] + begin, in[1] + begin, out + begin, end - begin, qa, qb, result);
    });
  }, true);
}

template <BinaryKernel kernel>
Plan::Operation binary_operation(const Kernels& kernels, Operand qa, Operand qb, IntegerResult result, Finish finish, int32_t zero) {
  finish.bound(result.low, result.high, zero);
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    return finished(program, binary_step<kernel>(program, in[0], in[1], kernels, qa, qb, result), kernels, finish);
  };
}

// A convolution or linear: bind(sizes of x) says what a call needs; its output is finished, and may have another tensor added.
struct WeightedConstants {
  std::shared_ptr<const Requantization> parameters;
  const PackedWeights& weights;
  bool relu;
  int32_t zero;
  Finish finish;
  bool has_sum = false;
  Sum sum{};

  // `residual`: the other operand of a sum, or null; `with_table`: whether the kernel applies the table.
  RequantizedOutput output(uint8_t* y, int64_t stride, const uint8_t* residual, bool with_table) const {
    RequantizedOutput out = parameters->output(weights, y, stride, relu);
    if (residual) out.residual = {residual, stride, sum.own, sum.other, sum.result};
    if (!has_sum) finish.bound(out.low, out.high, zero);
    if (with_table) out.table = finish.table_data();
    return out;
  }
};

// `run(x, out, threads)`: the kernel; `epilogue`: whether it takes sums and tables. x must be in its layout already, `out` is that of the
// result.
template <class Run>
Place weighted_step(Program& program, const Place& x, const std::vector<Place>& in, const Extent& out, int64_t stride, const Kernels& kernels,
                    const WeightedConstants& constants, bool epilogue, const Run& run) {
  const bool fused = epilogue && constants.has_sum && same_sizes(in[1].extent, out), with_table = epilogue && (fused || !constants.has_sum);
  std::vector<Place> reads{x};
  if (fused) reads.push_back(program.in_layout_of(in[1], out));
  const auto shared = std::make_shared<const WeightedConstants>(constants);
  const Place y = program.step(reads, out, 1, [=](const uint8_t* const* from, uint8_t* to, int threads) {
    run(from[0], shared->output(to, stride, fused ? from[1] : nullptr, with_table), threads);
  });
  if (with_table) return y;
  const Sum& s = constants.sum;
  const Place sum = constants.has_sum ? binary_step<&Kernels::add>(program, y, in[1], kernels, s.own, s.other, s.result) : y;
  return finished(program, sum, kernels, constants.finish);
}

inline Plan::Operation conv_operation(const Kernels& kernels, const Conv& conv, uint8_t zero_x, WeightedConstants constants) {
  return [=, &kernels, &conv](Program& program, const std::vector<Place>& in) {
    const Extent& sizes = in[0].extent;
    const Windows windows = conv.windows(sizes.rank, sizes.size.data());
    const Place x = program.channels_last(in[0]);
    Extent out = sizes;
    out.size[1] = conv.channels();
    for (int i = 2; i < out.rank; ++i) out.size[static_cast<size_t>(i)] = windows.out[static_cast<size_t>(i + 3 - out.rank)];
    return weighted_step(program, x, in, channels_last_like(out), conv.channels(), kernels, constants, !conv.depthwise(),
                         [=, &conv](const uint8_t* from, const RequantizedOutput& to, int threads) { conv.run_windows(windows, from, zero_x, to, threads); });
  };
}

inline Plan::Operation linear_operation(const Kernels& kernels, const Linear& linear, WeightedConstants constants) {
  return [=, &kernels, &linear](Program& program, const std::vector<Place>& in) {
    Extent out = in[0].extent;
    const int64_t k = linear.packed().k, n = linear.packed().n;
    if (out.rank < 1 || out.size[static_cast<size_t>(out.rank) - 1] != k) throw ArgumentError("x must have size " + std::to_string(k) + " in its last dimension");
    const int64_t rows = out.numel() / k;
    out.size[static_cast<size_t>(out.rank) - 1] = n;
    return weighted_step(program, program.contiguous(in[0]), in, contiguous_like(out), n, kernels, constants, true,
                         [=, &linear](const uint8_t* from, const RequantizedOutput& to, int threads) { linear.run_rows(from, rows, to, threads); });
  };
}

inline Plan::Operation quantize_operation(const Kernels& kernels, QuantizeParameters parameters) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    return program.step({x}, x.extent, 1, [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      const auto* numbers = reinterpret_cast<const float*>(from[0]);
      parallel_ranges(threads, n, kElementwiseGrain, [&](int64_t begin, int64_t end) { kernels.quantize(numbers + begin, to + begin, end - begin, parameters); });
    });
  };
}

inline Plan::Operation dequantize_operation(const Kernels& kernels, float scale, int32_t zero) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    return program.step({x}, x.extent, 4, [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      auto* numbers = reinterpret_cast<float*>(to);
      parallel_ranges(threads, n, kElementwiseGrain, [&](int64_t begin, int64_t end) { kernels.dequantize_u8(from[0] + begin, numbers + begin, end - begin, scale, zero); });
    });
  };
}

inline Plan::Operation table_operation(const Kernels& kernels, std::shared_ptr<const std::vector<uint8_t>> table) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) { return table_step(program, in[0], kernels, table); };
}

inline Plan::Operation clamp_operation(const Kernels& kernels, uint8_t low, uint8_t high) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    const Place x = program.dense(in[0]);
    const int64_t n = x.extent.numel();
    return program.step({x}, x.extent, 1, [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      parallel_ranges(threads, n, kElementwiseGrain, [&](int64_t begin, int64_t end) { kernels.clamp(from[0] + begin, to + begin, end - begin, low, high); });
    }, true);
  };
}

// Each input requantized into its part of the result, in the layout of the first.
inline Plan::Operation cat_operation(const Kernels& kernels, int64_t dim, std::vector<Operand> operands, IntegerResult result) {
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    Extent out = in[0].extent;
    const size_t d = out.dimension(dim);
    for (size_t i = 1; i < in.size(); ++i) {
      Extent other = in[i].extent;
      if (other.rank != out.rank) throw ArgumentError("its inputs differ in their number of dimensions");
      const int64_t length = other.size[d];
      other.size[d] = out.size[d];
      if (!same_sizes(other, out)) throw ArgumentError("its inputs differ in more than dimension " + std::to_string(dim));
      out.size[d] += length;
    }
    const Place first = program.dense(in[0]);
    const bool last = is_channels_last(first.extent) && !is_contiguous(first.extent);
    out = laid_out(out, last);
    std::vector<Place> parts;
    std::vector<int64_t> lengths;  // of what lies together, by input
    const auto order = order_of(out.rank, last);
    int64_t rows = 1, row = 0;
    bool before = true;
    int64_t inside = 1;
    for (size_t i = 0; i < static_cast<size_t>(out.rank); ++i) {
      if (order[i] == d) before = false;
      else (before ? rows : inside) *= out.size[order[i]];
    }
    for (const Place& place : in) {
      parts.push_back(last ? program.channels_last(place) : program.contiguous(place));
      lengths.push_back(place.extent.size[d] * inside);
      row += lengths.back();
    }
    return program.step(parts, out, 1, [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      if (row == 0) return;
      parallel_ranges(threads, rows, kElementwiseGrain / row + 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          uint8_t* y = to + r * row;
          for (size_t i = 0; i < lengths.size(); ++i) {
            kernels.requantize(from[i] + r * lengths[i], y, lengths[i], operands[i], result);
            y += lengths[i];
          }
        }
      });
    });
  };
}

}  // namespace qcore
