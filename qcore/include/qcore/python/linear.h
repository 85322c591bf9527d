// The Python class of linear layers: arguments are checked here, then the GIL is released for the
// work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/ops/linear/linear.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"

namespace qcore::python {

class LinearObject {
 public:
  // weight (n, k).
  LinearObject(const Kernels& kernels, const TensorView& weight, const WeightArguments& given,
               bool relu)
      : linear_(kernels, {weight.data<int8_t>(), weight.shape(0), weight.shape(1),
                          given.quantization, given.bias, relu}) {}

  const Linear& weighted() const { return linear_; }

  void run(const py::object& x, double scale_x, int64_t zero_x, double scale_y, int64_t zero_y,
           const py::object& y, int threads) {
    const Activations in(x, "x"), out(y, "y");
    const PackedWeights& w = linear_.packed();
    const int64_t rows = checked_rows(in, w.k, out, w.n);
    const auto parameters =
        cache_.get(w, in.qparams(scale_x, zero_x, "x"), out.qparams(scale_y, zero_y, "y"));
    checked_threads(threads);
    const py::gil_scoped_release release;
    std::vector<uint8_t> room;
    linear_.run(in.input(room), rows,
                parameters->output(w, out.data<uint8_t>(), w.n, linear_.relu()), threads);
    out.finish_output();
  }

  void run_dynamic(const py::object& x, const py::object& y, bool reduce_range, bool per_row,
                   int threads) {
    const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32);
    const int64_t rows = checked_rows(in, linear_.packed().k, out, linear_.packed().n);
    checked_threads(threads);
    const py::gil_scoped_release release;
    linear_.run_dynamic(in.data<float>(), rows, out.data<float>(),
                        {reduce_range ? 127 : 255, per_row}, threads);
  }

 private:
  Linear linear_;
  RequantizationCache cache_;
};

inline std::unique_ptr<LinearObject> make_linear(const Kernels& kernels, const py::object& weight,
                                                 const py::object& scales, const py::object& zeros,
                                                 bool per_channel, const py::object& bias,
                                                 bool relu) {
  const TensorView w(weight, "weight", DType::s8);
  w.of_rank(2).contiguous();
  check_accumulated(w.numel() ? w.shape(1) : 0);
  return std::make_unique<LinearObject>(
      kernels, w, WeightArguments(scales, zeros, per_channel, bias, w.shape(0)), relu);
}

inline void bind_linear(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<LinearObject>(m, "Linear")
      .def("run", &LinearObject::run)
      .def("run_dynamic", &LinearObject::run_dynamic);
  kernels.def("linear", &make_linear);
}

}  // namespace qcore::python
