// Python functions of the elementwise and pooling kernels: arguments are checked here, then the GIL is released for the work.
#pragma once

#include "qcore/python/linear.h"
#include "qcore/ops/pooling/max.h"

namespace qcore {

constexpr int64_t kElementwiseGrain = 1 << 15;

// Same shape, same strides, no gaps: one run of memory.
inline void check_alike(const TensorView& x, const TensorView& y) {
  y.of_rank(x.rank());
  for (int i = 0; i < x.rank(); ++i) {
    y.with_size(i, x.shape(i));
    if (x.numel() != 0 && x.shape(i) > 1 && x.stride(i) != y.stride(i)) y.fail("must have the strides of the input");
  }
  if (!x.is_dense()) x.fail("must be dense in memory");
}

struct Integers {
  DType dtype;
  int32_t low, high;
};

inline Integers integers(bool is_signed) { return is_signed ? Integers{DType::s8, -128, 127} : Integers{DType::u8, 0, 255}; }

inline void quantize(const Kernels& kernels, const py::object& x, const py::object& y, bool is_signed, double scale, int64_t zero, int threads) {
  const Integers type = integers(is_signed);
  const TensorView in(x, "x", DType::f32), out(y, "y", type.dtype);
  check_alike(in, out);
  const QuantizeParameters q = quantize_parameters(checked_qparams(scale, zero, type.low, type.high, "y"), type.low, type.high);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const auto* from = in.data<float>();
  auto* to = out.data<uint8_t>();
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) { kernels.quantize(from + begin, to + begin, end - begin, q); });
}

inline void dequantize(const Kernels& kernels, const py::object& x, const py::object& y, bool is_signed, double scale, int64_t zero, int threads) {
  const Integers type = integers(is_signed);
  const TensorView in(x, "x", type.dtype), out(y, "y", DType::f32);
  check_alike(in, out);
  const QParams q = checked_qparams(scale, zero, type.low, type.high, "x");
  checked_threads(threads);
  const py::gil_scoped_release release;
  auto* to = out.data<float>();
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    const auto s = static_cast<float>(q.scale);
    if (is_signed) return kernels.dequantize_s8(in.data<int8_t>() + begin, to + begin, end - begin, s, q.zero);
    kernels.dequantize_u8(in.data<uint8_t>() + begin, to + begin, end - begin, s, q.zero);
  });
}

// Slices along `axis` of contiguous tensors, each with parameters of its own: work(channel, offset, length).
template <class Work>
void each_slice(const TensorView& x, int axis, int threads, const Work& work) {
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= x.shape(i);
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.shape(i);
  const int64_t channels = x.shape(axis);
  if (inner == 0) return;
  parallel_ranges(threads, outer * channels, kElementwiseGrain / inner + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work(i % channels, i * inner, inner);
  });
}

struct ChannelParameters {
  const double* scales;
  const int64_t* zeros;

  ChannelParameters(const py::object& scales_, const py::object& zeros_, const TensorView& x, int axis, const Integers& type) {
    if (axis < 0 || axis >= x.rank()) x.fail("has no dimension " + std::to_string(axis));
    const TensorView s(scales_, "scales", DType::f64), z(zeros_, "zero points", DType::i64);
    const int64_t n = x.shape(axis);
    scales = s.contiguous().with_elements(n).data<double>();
    zeros = z.contiguous().with_elements(n).data<int64_t>();
    for (int64_t c = 0; c < n; ++c) checked_qparams(scales[c], zeros[c], type.low, type.high, "a channel");
  }
};

inline void quantize_channels(const Kernels& kernels, const py::object& x, const py::object& y, bool is_signed, const py::object& scales,
                              const py::object& zeros, int axis, int threads) {
  const Integers type = integers(is_signed);
  const TensorView in(x, "x", DType::f32), out(y, "y", type.dtype);
  in.contiguous(), out.contiguous();
  check_alike(in, out);
  const ChannelParameters q(scales, zeros, in, axis, type);
  checked_threads(threads);
  const py::gil_scoped_release release;
  each_slice(in, axis, threads, [&](int64_t channel, int64_t offset, int64_t length) {
    const QParams one{q.scales[channel], static_cast<int32_t>(q.zeros[channel])};
    kernels.quantize(in.data<float>() + offset, out.data<uint8_t>() + offset, length, quantize_parameters(one, type.low, type.high, false));
  });
}

template <class T>
void dequantize_slice(const T* x, float* y, int64_t n, double scale, int64_t zero) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(static_cast<double>(x[i] - zero) * scale);
}

inline void dequantize_channels(const Kernels&, const py::object& x, const py::object& y, bool is_signed, const py::object& scales,
                                const py::object& zeros, int axis, int threads) {
  const Integers type = integers(is_signed);
  const TensorView in(x, "x", type.dtype), out(y, "y", DType::f32);
  in.contiguous(), out.contiguous();
  check_alike(in, out);
  const ChannelParameters q(scales, zeros, in, axis, type);
  checked_threads(threads);
  const py::gil_scoped_release release;
  each_slice(in, axis, threads, [&](int64_t channel, int64_t offset, int64_t length) {
    float* to = out.data<float>() + offset;
    if (is_signed) return dequantize_slice(in.data<int8_t>() + offset, to, length, q.scales[channel], q.zeros[channel]);
    dequantize_slice(in.data<uint8_t>() + offset, to, length, q.scales[channel], q.zeros[channel]);
  });
}

using BinaryKernel = void (*Kernels::*)(const uint8_t*, const uint8_t*, uint8_t*, int64_t, Operand, Operand, const IntegerResult&);

template <BinaryKernel kernel>
void binary(const Kernels& kernels, const py::object& a, double scale_a, int64_t zero_a, const py::object& b, double scale_b, int64_t zero_b,
            const py::object& y, double scale_y, int64_t zero_y, bool relu, int threads) {
  const Activations va(a, "a"), vb(b, "b"), out(y, "y");
  check_alike(va, vb), check_alike(va, out);
  const Operand qa = va.operand(scale_a, zero_a, "a"), qb = vb.operand(scale_b, zero_b, "b");
  const QParams qy = out.qparams(scale_y, zero_y, "y");
  const float multiplier = kernel == &Kernels::mul ? qa.scale * qb.scale * inverse(scale_y) : inverse(scale_y);
  const IntegerResult result = integer_result(qy, multiplier, relu);
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, va.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    (kernels.*kernel)(va.data<uint8_t>() + begin, vb.data<uint8_t>() + begin, out.data<uint8_t>() + begin, end - begin, qa, qb, result);
    out.finish_output(begin, end);
  });
}

inline void requantize(const Kernels& kernels, const py::object& x, double scale_x, int64_t zero_x, const py::object& y, double scale_y, int64_t zero_y,
                       bool relu, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_alike(in, out);
  const Operand qx = in.operand(scale_x, zero_x, "x");
  const IntegerResult result = integer_result(out.qparams(scale_y, zero_y, "y"), inverse(scale_y), relu);
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.requantize(in.data<uint8_t>() + begin, out.data<uint8_t>() + begin, end - begin, qx, result);
    out.finish_output(begin, end);
  });
}

inline void clamp(const Kernels& kernels, const py::object& x, const py::object& y, int low, int high, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_alike(in, out), check_same_dtype(in, out);
  low += in.shift(), high += in.shift();
  if (low < 0 || low > 255 || high < 0 || high > 255) throw ArgumentError("bounds must be within the dtype of x");
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    auto* to = out.data<uint8_t>();
    if (in.is_signed()) in.turn(to, begin, end);
    const uint8_t* from = in.is_signed() ? to : in.data<uint8_t>();
    kernels.clamp(from + begin, to + begin, end - begin, static_cast<uint8_t>(low), static_cast<uint8_t>(high));
    out.finish_output(begin, end);
  });
}

inline void lookup(const Kernels& kernels, const py::object& x, const py::object& y, const py::object& table, int threads) {
  const TensorView in(x, "x", DType::u8), out(y, "y", DType::u8), values(table, "table", DType::u8);
  check_alike(in, out);
  values.contiguous().with_elements(256);
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.lookup(in.data<uint8_t>() + begin, out.data<uint8_t>() + begin, end - begin, values.data<uint8_t>());
  });
}

// Output sizes are those of y.
inline Windows pooling_windows(const TensorView& in, const TensorView& out, const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding,
                               const Tuple3& dilation) {
  in.channels_last(), out.of_rank(in.rank()).channels_last();
  if (in.rank() > 5) in.fail("must have at most 3 spatial dimensions");
  out.with_size(0, in.shape(0)).with_size(1, in.shape(1));
  check_window(kernel, stride, padding, dilation);
  Windows windows = make_windows(in, kernel, stride, padding, dilation);
  take_output_sizes(windows, out);
  if (std::min({windows.channels, windows.in[0], windows.in[1], windows.in[2]}) < 1) in.fail("is empty, and not only in its batch");
  return windows;
}

// The caller has settled ceil_mode. Raises ArgumentError where a window begins beyond the padded input.
inline Windows sliding_windows(const TensorView& in, const TensorView& out, const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding,
                               const Tuple3& dilation) {
  const Windows windows = pooling_windows(in, out, kernel, stride, padding, dilation);
  for (size_t d = 0; d < 3; ++d) {
    if (windows.out[d] - 1 > (windows.in[d] + 2 * padding[d] - 1) / stride[d]) out.fail("has more windows than begin inside of the padded input");
  }
  return windows;
}

inline void max_pool(const Kernels& kernels, const py::object& x, const py::object& y, const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding,
                     const Tuple3& dilation, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  const Windows windows = sliding_windows(in, out, kernel, stride, padding, dilation);
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_max_pool(kernels, windows, in.input(room), out.data<uint8_t>(), threads);
  out.finish_output();
}

// The elements of one window that count along one dimension: with padding, but not what ceil_mode adds beyond it, or without.
inline int64_t counted(const Windows& v, size_t d, int64_t start, bool include_pad) {
  const int64_t stop = std::min(start + v.kernel[d], v.in[d] + v.padding[d]);
  if (include_pad) return stop - start;
  return std::min(stop, v.in[d]) - std::max(start, int64_t{0});
}

// How the sum of a window becomes an average, but for the sum: as in AverageParameters.
struct Averaging {
  int32_t zero;
  bool fused;
  int32_t shift;
};

// As the kernel does it, for sums beyond int32.
inline void average_many(const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels, float multiplier, const Averaging& a) {
  const auto zero = static_cast<float>(a.zero - a.shift), low = static_cast<float>(-a.shift), high = low + 255.0f;
  for (int64_t c = 0; c < channels; ++c) {
    int64_t sum = -count * a.zero;
    for (int64_t r = 0; r < count; ++r) sum += rows[r][c];
    const auto total = static_cast<float>(sum);
    const float mean = a.fused ? std::nearbyint(std::clamp(std::fma(total, multiplier, zero), low, high)) : std::nearbyint(std::clamp(total * multiplier, low - zero, high - zero)) + zero;
    y[c] = static_cast<uint8_t>(static_cast<int32_t>(mean) + a.shift);
  }
}

// `divisor`: what the sum of the rows is divided by.
inline void average(const Kernels& kernels, const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels, float divisor, const Averaging& a) {
  constexpr int64_t kMostRows = (int64_t{1} << 31) / 256;
  const float multiplier = 1.0f / divisor;
  if (count > kMostRows) return average_many(rows, count, y, channels, multiplier, a);
  kernels.average(rows, count, y, channels, {static_cast<int32_t>(-count * a.zero), multiplier, a.zero - a.shift, a.fused, a.shift});
}

inline void run_avg_pool(const Kernels& kernels, const Windows& windows, const uint8_t* x, uint8_t* y, int32_t zero, bool include_pad, int64_t divisor,
                         int threads, int32_t shift = 0) {
  each_window(windows, x, y, threads, [&](const uint8_t* const* rows, int64_t count, uint8_t* to, const Windows::Place& place) {
    double n = 1.0;  // the product of three sizes may be beyond int64
    for (size_t d = 0; d < 3; ++d) n *= static_cast<double>(counted(windows, d, place.start[d], include_pad));
    average(kernels, rows, count, to, windows.channels, divisor == 0 ? static_cast<float>(n) : static_cast<float>(divisor), {zero, false, shift});
  });
}

inline void avg_pool(const Kernels& kernels, const py::object& x, const py::object& y, int64_t zero, const Tuple3& kernel, const Tuple3& stride,
                     const Tuple3& padding, bool include_pad, int64_t divisor, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  const Windows windows = sliding_windows(in, out, kernel, stride, padding, {1, 1, 1});
  const int32_t z = in.qparams(1.0, zero, "x").zero;
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_avg_pool(kernels, windows, in.input(room), out.data<uint8_t>(), z, include_pad, divisor, threads, in.shift());
  out.finish_output();
}

inline void run_adaptive_avg_pool(const Kernels& kernels, const Windows& windows, const uint8_t* x, uint8_t* y, int32_t zero, int threads,
                                  int32_t shift = 0) {
  each_adaptive_window(windows, x, y, threads, [&](const uint8_t* const* rows, int64_t count, uint8_t* to) {
    average(kernels, rows, count, to, windows.channels, static_cast<float>(count), {zero, true, shift});
  });
}

inline void adaptive_avg_pool(const Kernels& kernels, const py::object& x, const py::object& y, int64_t zero, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  const Windows windows = pooling_windows(in, out, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 1, 1});
  const int32_t z = in.qparams(1.0, zero, "x").zero;
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_adaptive_avg_pool(kernels, windows, in.input(room), out.data<uint8_t>(), z, threads, in.shift());
  out.finish_output();
}

inline void set_error(const char* type, const std::exception& error) {
  const py::object raised = py::module_::import("qcore.errors").attr(type);
  PyErr_SetString(raised.ptr(), error.what());
}

inline void translate_errors() {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const ArgumentError& error) {
      set_error("ArgumentError", error);
    } catch (const ArgumentTypeError& error) {
      set_error("ArgumentTypeError", error);
    }
  });
}

// Adds all of it to a module; `find` gives the kernels of an ISA's name. Returns their class, for more to be added.
inline py::class_<Kernels> bind(py::module_& m, const Kernels* (*find)(const std::string&)) {
  translate_errors();
  m.attr("MAX_ACCUMULATED") = kMaxAccumulated;
  native_class<Linear>(m, "Linear").def("run", &Linear::run).def("run_dynamic", &Linear::run_dynamic);
  native_class<Conv>(m, "Conv").def("run", &Conv::run);
  const auto reference = py::return_value_policy::reference;
  py::class_<Kernels> kernels = native_class<Kernels>(m, "Kernels");
  kernels.def_readonly("name", &Kernels::name)
      .def("linear",
           [](const Kernels& k, const py::object& weight, const py::object& scales, const py::object& zeros, bool per_channel, const py::object& bias, bool relu) {
             return std::make_unique<Linear>(k, weight, scales, zeros, per_channel, bias, relu);
           })
      .def("conv",
           [](const Kernels& k, const py::object& weight, const py::object& scales, const py::object& zeros, bool per_channel, const py::object& bias, bool relu,
              const Tuple3& stride, const Tuple3& padding, const Tuple3& dilation, int64_t groups) {
             return std::make_unique<Conv>(k, weight, scales, zeros, per_channel, bias, relu, stride, padding, dilation, groups);
           })
      .def("quantize", &quantize)
      .def("dequantize", &dequantize)
      .def("quantize_channels", &quantize_channels)
      .def("dequantize_channels", &dequantize_channels)
      .def("add", &binary<&Kernels::add>)
      .def("mul", &binary<&Kernels::mul>)
      .def("requantize", &requantize)
      .def("clamp", &clamp)
      .def("lookup", &lookup)
      .def("peak",
           [](const Kernels& k, int64_t rounds) {
             constexpr int64_t kMost = 1 << 24;
             if (rounds < 0 || rounds > kMost) throw ArgumentError("rounds must be in [0, 2^24], not " + std::to_string(rounds));
             return k.peak(rounds);
           })
      .def("max_pool", &max_pool)
      .def("avg_pool", &avg_pool)
      .def("adaptive_avg_pool", &adaptive_avg_pool);
  m.def("kernels", find, reference);
  return kernels;
}

}  // namespace qcore
