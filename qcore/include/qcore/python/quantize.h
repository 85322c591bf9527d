// Python functions that quantize and dequantize: arguments are checked here, then the GIL is
// released for the work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "qcore/base/qparams.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/integers.h"
#include "qcore/ops/quantize.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

inline void quantize(const Kernels& kernels, const py::object& x, const py::object& y,
                     bool is_signed, double scale, int64_t zero, int threads) {
  const IntegerType type = integer_type(is_signed);
  const TensorView in(x, "x", DType::f32), out(y, "y", type.dtype);
  check_alike(in, out);
  const QuantizeParameters q =
      quantize_parameters(checked_qparams(scale, zero, type, "y"), type.low, type.high);
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_quantize(kernels, {in.data<float>(), out.data<uint8_t>(), in.numel()}, q, threads);
}

inline void dequantize(const Kernels& kernels, const py::object& x, const py::object& y,
                       bool is_signed, double scale, int64_t zero, int threads) {
  const IntegerType type = integer_type(is_signed);
  const TensorView in(x, "x", type.dtype), out(y, "y", DType::f32);
  check_alike(in, out);
  const QParams q = checked_qparams(scale, zero, type, "x");
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (is_signed) {
    return run_dequantize<int8_t>(kernels, {in.data<int8_t>(), out.data<float>(), in.numel()}, q,
                                  threads);
  }
  run_dequantize<uint8_t>(kernels, {in.data<uint8_t>(), out.data<float>(), in.numel()}, q, threads);
}

// Slices along `axis` of x, each with a scale and zero point of its own.
inline ChannelQParams channel_qparams(const py::object& scales, const py::object& zeros,
                                      const TensorView& x, int axis, const IntegerType& type) {
  if (axis < 0 || axis >= x.rank()) x.fail("has no dimension " + std::to_string(axis));
  const TensorView s(scales, "scales", DType::f64), z(zeros, "zero points", DType::i64);
  ChannelQParams q{1, x.shape(axis), 1, nullptr, nullptr};
  for (int i = 0; i < axis; ++i) q.outer *= x.shape(i);
  for (int i = axis + 1; i < x.rank(); ++i) q.inner *= x.shape(i);
  q.scales = s.contiguous().with_elements(q.channels).data<double>();
  q.zeros = z.contiguous().with_elements(q.channels).data<int64_t>();
  for (int64_t c = 0; c < q.channels; ++c) {
    checked_qparams(q.scales[c], q.zeros[c], type, "a channel");
  }
  return q;
}

inline void quantize_channels(const Kernels& kernels, const py::object& x, const py::object& y,
                              bool is_signed, const py::object& scales, const py::object& zeros,
                              int axis, int threads) {
  const IntegerType type = integer_type(is_signed);
  const TensorView in(x, "x", DType::f32), out(y, "y", type.dtype);
  in.contiguous();
  out.contiguous();
  check_alike(in, out);
  const ChannelQParams q = channel_qparams(scales, zeros, in, axis, type);
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_quantize_channels(kernels, in.data<float>(), out.data<uint8_t>(), q, type, threads);
}

inline void dequantize_channels(const Kernels& /*kernels*/, const py::object& x,
                                const py::object& y, bool is_signed, const py::object& scales,
                                const py::object& zeros, int axis, int threads) {
  const IntegerType type = integer_type(is_signed);
  const TensorView in(x, "x", type.dtype), out(y, "y", DType::f32);
  in.contiguous();
  out.contiguous();
  check_alike(in, out);
  const ChannelQParams q = channel_qparams(scales, zeros, in, axis, type);
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (is_signed) return run_dequantize_channels(in.data<int8_t>(), out.data<float>(), q, threads);
  run_dequantize_channels(in.data<uint8_t>(), out.data<float>(), q, threads);
}

inline void bind_quantize(py::class_<Kernels>& kernels) {
  kernels.def("quantize", &quantize)
      .def("dequantize", &dequantize)
      .def("quantize_channels", &quantize_channels)
      .def("dequantize_channels", &dequantize_channels);
}

}  // namespace qcore::python
