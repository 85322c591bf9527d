// Python functions of the operators on floats: arguments are checked here, then the GIL is released
// for the work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "qcore/isa/kernels.h"
#include "qcore/ops/floats.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

inline void float_function(const Kernels& kernels, const py::object& x, const py::object& y,
                           const std::string& name, int threads) {
  const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32);
  check_alike(in, out);
  const FloatFunction function = float_function_of(name);
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_float_function(kernels, {in.data<float>(), out.data<float>(), in.numel()}, function, threads);
}

inline void float_add(const Kernels& kernels, const py::object& a, const py::object& b,
                      const py::object& y, int threads) {
  const TensorView left(a, "a", DType::f32), right(b, "b", DType::f32), out(y, "y", DType::f32);
  check_alike(left, right);
  check_alike(left, out);
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_float_add(kernels, {left.data<float>(), out.data<float>(), left.numel()}, right.data<float>(),
                threads);
}

// x (rows, n) contiguous, normalized row by row.
inline void float_layer_norm(const Kernels& kernels, const py::object& x, const py::object& weight,
                             const py::object& bias, double eps, const py::object& y, int threads) {
  const TensorView in(x, "x", DType::f32), w(weight, "weight", DType::f32),
      b(bias, "bias", DType::f32), out(y, "y", DType::f32);
  in.of_rank(2).contiguous();
  out.of_rank(2).contiguous();
  check_alike(in, out);
  const int64_t n = in.shape(1);
  w.contiguous().with_elements(n);
  b.contiguous().with_elements(n);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const FloatNormRow first{in.data<float>(), nullptr,         out.data<float>(),      n,
                           w.data<float>(),  b.data<float>(), static_cast<float>(eps)};
  run_float_layer_norm(kernels, first, in.shape(0), threads);
}

// weight (rows, dim).
inline FloatRows float_rows(const py::object& weight) {
  const TensorView table(weight, "weight", DType::f32);
  table.of_rank(2).contiguous();
  return {table.data<float>(), table.shape(0), table.shape(1)};
}

inline void float_embedding(const Kernels& /*kernels*/, const py::object& x, bool wide,
                            const py::object& weight, const py::object& y, int threads) {
  const FloatRows rows = float_rows(weight);
  const TensorView indices(x, "indices", wide ? DType::i64 : DType::i32), out(y, "y", DType::f32);
  indices.contiguous();
  out.contiguous().with_elements(indices.numel() * rows.dim);
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (wide) return rows.run(indices.data<int64_t>(), indices.numel(), out.data<float>(), threads);
  rows.run(indices.data<int32_t>(), indices.numel(), out.data<float>(), threads);
}

inline void bind_floats(py::class_<Kernels>& kernels) {
  kernels.def("float_function", &float_function)
      .def("float_add", &float_add)
      .def("float_layer_norm", &float_layer_norm)
      .def("float_embedding", &float_embedding);
}

}  // namespace qcore::python
