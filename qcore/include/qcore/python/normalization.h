// Python functions of the layer, group, instance and batch norms, and of means: arguments are
// checked here, then the GIL is released for the work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "qcore/base/qparams.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/integers.h"
#include "qcore/ops/normalization.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// x (rows, groups, channels, inner) contiguous; the other arguments are those of GroupNorm.
inline void normalize(const Kernels& kernels, const py::object& x, double scale_x, int64_t zero_x,
                      const py::object& weight, const py::object& bias, double eps, bool each,
                      const py::object& y, double scale_y, int64_t zero_y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  const TensorView w(weight, "weight", DType::f32), b(bias, "bias", DType::f32);
  in.of_rank(4).contiguous();
  out.of_rank(4).contiguous();
  check_alike(in, out);
  const int64_t groups = in.shape(1), channels = in.shape(2), inner = in.shape(3);
  const int64_t parameters = each ? channels * inner : groups * channels;
  w.contiguous().with_elements(parameters);
  b.contiguous().with_elements(parameters);
  const QParams qx = in.qparams(scale_x, zero_x, "x"), qy = out.qparams(scale_y, zero_y, "y");
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  const IntegerResult result = integer_result(qy, inverse(qy.scale), false);
  const GroupNorm of{
      in.input(room), out.data<uint8_t>(), in.shape(0),     groups, channels, inner, qx,
      in.shift(),     w.data<float>(),     b.data<float>(), eps,    each,     result};
  run_group_norm(kernels, of, threads,
                 [&](int64_t begin, int64_t end) { out.finish_output(begin, end); });
}

// x (rows, channels, inner) contiguous: fma(factor, x - zero, shift) of each channel, in units of
// y.
inline void batch_norm(const Kernels& kernels, const py::object& x, int64_t zero_x,
                       const py::object& factor, const py::object& shift, bool relu,
                       const py::object& y, int64_t zero_y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  const TensorView factors(factor, "factor", DType::f32), shifts(shift, "shift", DType::f32);
  in.of_rank(3).contiguous();
  out.of_rank(3).contiguous();
  check_alike(in, out);
  const int64_t channels = in.shape(1);
  factors.contiguous().with_elements(channels);
  shifts.contiguous().with_elements(channels);
  const int32_t zero = in.qparams(1.0, zero_x, "x").zero;
  const IntegerResult result = integer_result(out.qparams(1.0, zero_y, "y"), 1.0f, relu);
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  const BatchNorm of{
      in.input(room), out.data<uint8_t>(),   in.shape(0),          channels, in.shape(2),
      zero,           factors.data<float>(), shifts.data<float>(), result};
  run_batch_norm(kernels, of, threads,
                 [&](int64_t begin, int64_t end) { out.finish_output(begin, end); });
}

// y (rows): the mean of each row of x (rows, n).
inline void mean_of_rows(const Kernels& kernels, const py::object& x, int64_t zero,
                         const py::object& y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  in.of_rank(2).contiguous();
  out.contiguous().with_elements(in.shape(0));
  const int32_t z = in.qparams(1.0, zero, "x").zero;
  if (in.shape(1) == 0) in.fail("has no elements to average");
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_mean_of_rows(kernels,
                   {in.input(room), out.data<uint8_t>(), in.shape(0), in.shape(1), z, in.shift()},
                   threads);
  out.finish_output();
}

inline void bind_normalization(py::class_<Kernels>& kernels) {
  kernels.def("normalize", &normalize)
      .def("batch_norm", &batch_norm)
      .def("mean_of_rows", &mean_of_rows);
}

}  // namespace qcore::python
