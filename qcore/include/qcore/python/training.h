// Python functions of the training side: arguments are checked here, then the GIL is released for
// the work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/training/channels.h"
#include "qcore/ops/training/choose.h"
#include "qcore/ops/training/fake_quantize.h"
#include "qcore/ops/training/histogram.h"
#include "qcore/ops/training/ranges.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// `axis` -1: one channel, the whole tensor. x: dense, in any order of dimensions.
inline ChannelLayout channel_layout(const TensorView& x, int axis) {
  check_alike(x, x);
  if (x.numel() == 0) x.fail("has no elements");
  if (axis < -1 || axis >= x.rank()) x.fail("has no dimension " + std::to_string(axis));
  if (axis == -1 || x.shape(axis) == 1) return {x.numel(), 1, x.numel()};
  return {x.numel(), x.shape(axis), x.stride(axis)};
}

constexpr int64_t kMostInteger = 1 << 16;

inline IntegerRange checked_range(int64_t low, int64_t high) {
  if (low < -kMostInteger || high > kMostInteger || low >= high) {
    throw ArgumentError("quant_min and quant_max must rise, within 65536");
  }
  return {static_cast<int32_t>(low), static_cast<int32_t>(high)};
}

// One bit for each element, in blocks of 16.
inline uint16_t* checked_bits(const TensorView& inside, int64_t numel) {
  inside.contiguous().with_elements((numel + kLanes - 1) / kLanes * 2);
  return inside.data<uint16_t>();
}

inline void fake_quantize(const Kernels& kernels, const py::object& x, const py::object& scale,
                          const py::object& zero, int axis, int64_t low, int64_t high,
                          const py::object& y, const py::object& inside, int threads) {
  const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32), bits(inside, "mask", DType::u8);
  const TensorView scales(scale, "scale", DType::f32), zeros(zero, "zero_point", DType::i32);
  const ChannelLayout layout = channel_layout(in, axis);
  check_alike(in, out);
  uint16_t* mask = checked_bits(bits, in.numel());
  scales.contiguous().with_elements(layout.channels);
  zeros.contiguous().with_elements(layout.channels);
  const IntegerRange range = checked_range(low, high);
  for (int64_t c = 0; c < layout.channels; ++c) {
    if (std::abs(int64_t{zeros.data<int32_t>()[c]}) > kMostInteger) {
      zeros.fail("must lie within 65536");
    }
  }
  const FakeQuantizeParameters parameters(scales.data<float>(), zeros.data<int32_t>(), layout,
                                          range);
  checked_threads(threads);
  const py::gil_scoped_release release;
  parameters.run(kernels, in.data<float>(), out.data<float>(), mask, threads);
}

inline void keep_inside(const Kernels& kernels, const py::object& x, const py::object& inside,
                        const py::object& y, int threads) {
  const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32), bits(inside, "mask", DType::u8);
  check_alike(in, out);
  const uint16_t* mask = checked_bits(bits, in.numel());
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_keep_inside(kernels, in.data<float>(), out.data<float>(), in.numel(), mask, threads);
}

inline void ranges(const Kernels& kernels, const py::object& x, int axis, const py::object& low,
                   const py::object& high, int threads) {
  const TensorView in(x, "x", DType::f32), lows(low, "low", DType::f32),
      highs(high, "high", DType::f32);
  const ChannelLayout layout = channel_layout(in, axis);
  lows.contiguous().with_elements(layout.channels);
  highs.contiguous().with_elements(layout.channels);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const Ranges found(kernels, in.data<float>(), layout, threads);
  std::copy(found.low.begin(), found.low.end(), lows.data<float>());
  std::copy(found.high.begin(), found.high.end(), highs.data<float>());
}

// Moves the averages `low` and `high`, chooses scale and zero point from them, and fake-quantizes x
// with these. False, and nothing changed, where x holds NaN or infinity.
inline bool observe_fake_quantize(const Kernels& kernels, const py::object& x, int axis,
                                  double constant, int64_t quant_min, int64_t quant_max,
                                  bool symmetric, const std::optional<double>& eps, int64_t middle,
                                  const py::object& low, const py::object& high,
                                  const py::object& scale, const py::object& zero,
                                  const py::object& y, const py::object& inside, int threads) {
  const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32), bits(inside, "mask", DType::u8);
  const TensorView lows(low, "min_val", DType::f32), highs(high, "max_val", DType::f32),
      scales(scale, "scale", DType::f32), zeros(zero, "zero_point", DType::i32);
  const ChannelLayout layout = channel_layout(in, axis);
  check_alike(in, out);
  uint16_t* mask = checked_bits(bits, in.numel());
  for (const TensorView* view : {&lows, &highs, &scales, &zeros}) {
    view->contiguous().with_elements(layout.channels);
  }
  ParameterRule rule{checked_range(quant_min, quant_max), symmetric, std::nullopt, 0};
  if (eps) rule.least_scale = static_cast<float>(*eps);
  if (eps && !(*rule.least_scale > 0.0f && std::isfinite(*rule.least_scale))) {
    throw ArgumentError("eps must be a positive, finite float32 number");
  }
  if (std::abs(middle) > kMostInteger) throw ArgumentError("middle must lie within 65536");
  rule.middle = static_cast<int32_t>(middle);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const Ranges found(kernels, in.data<float>(), layout, threads);
  const Observed to{lows.data<float>(), highs.data<float>(), scales.data<float>(),
                    zeros.data<int32_t>()};
  if (!run_observe(found, static_cast<float>(constant), rule, to)) return false;
  const FakeQuantizeParameters parameters(to.scale, to.zero, layout, rule.range);
  parameters.run(kernels, in.data<float>(), out.data<float>(), mask, threads);
  return true;
}

constexpr int64_t kMostBin = 1 << 24;  // float32 has no finer steps

// Adds counts of x to `counts`, in bins of width 2^exponent of which the first begins at first *
// 2^exponent; lowest and highest of x.
inline void grid_histogram(const Kernels& kernels, const py::object& x, int exponent, int64_t first,
                           const py::object& counts, const py::object& ends, int threads) {
  const TensorView in(x, "x", DType::f32), total(counts, "counts", DType::i64),
      extremes(ends, "ends", DType::f32);
  channel_layout(in, -1);
  const int64_t count = total.contiguous().numel();
  auto* found = extremes.contiguous().with_elements(2).data<float>();
  if (exponent < -126 || exponent > 127) {
    throw ArgumentError("exponent must be in [-126, 127], not " + std::to_string(exponent));
  }
  if (std::abs(first) > kMostBin || count < 1 || count > 1 << 16) {
    throw ArgumentError("bins must be 1 to 65536, and start within 2^24");
  }
  checked_threads(threads);
  const py::gil_scoped_release release;
  const HistogramBins bins{std::ldexp(1.0f, -exponent), 0.0f, 1.0f, static_cast<float>(first),
                           false};
  BinCounts to{count, total.data<int64_t>()};
  const bool finite = count_bins(kernels, in.data<float>(), in.numel(), bins, to, threads);
  found[0] = finite ? to.low : std::numeric_limits<float>::quiet_NaN();
  found[1] = finite ? to.high : std::numeric_limits<float>::quiet_NaN();
}

// Adds counts of x to `counts`, in equal bins over [low, high].
inline void even_histogram(const Kernels& kernels, const py::object& x, float low, float high,
                           const py::object& counts, int threads) {
  const TensorView in(x, "x", DType::f32), total(counts, "counts", DType::i64);
  channel_layout(in, -1);
  const int64_t count = total.contiguous().numel();
  if (!(low < high) || !std::isfinite(high - low)) {
    throw ArgumentError("low must be below high, and both and their distance finite");
  }
  if (count < 1 || count > 1 << 16) throw ArgumentError("bins must be 1 to 65536");
  checked_threads(threads);
  const py::gil_scoped_release release;
  const HistogramBins bins{static_cast<float>(count), -low, high - low, 0.0f, true};
  BinCounts to{count, total.data<int64_t>()};
  count_bins(kernels, in.data<float>(), in.numel(), bins, to, threads);
}

inline void bind_training(py::class_<Kernels>& kernels) {
  kernels.def("fake_quantize", &fake_quantize)
      .def("keep_inside", &keep_inside)
      .def("ranges", &ranges)
      .def("observe_fake_quantize", &observe_fake_quantize)
      .def("grid_histogram", &grid_histogram)
      .def("even_histogram", &even_histogram);
}

}  // namespace qcore::python
