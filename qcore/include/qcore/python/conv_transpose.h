// The Python class of transposed convolutions: arguments are checked here, then the GIL is released
// for the work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/conv/transpose.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"

namespace qcore::python {

class ConvTransposeObject {
 public:
  ConvTransposeObject(const Kernels& kernels, const TransposedWeights& from)
      : conv_(kernels, from) {}

  void run(const py::object& x, double scale_x, int64_t zero_x, double scale_y, int64_t zero_y,
           const py::object& y, int threads) {
    const Activations in(x, "x"), out(y, "y");
    in.channels_last();
    out.of_rank(in.rank()).channels_last();
    if (in.rank() > 5) in.fail("must have at most 3 spatial dimensions");
    in.with_size(1, conv_.in_channels());
    const TransposedSizes sizes = conv_.sizes(in.shape(0), spatial_sizes(in.rank(), in.sizes()));
    out.with_size(0, sizes.batch).with_size(1, sizes.out_channels);
    const Sizes3 given = spatial_sizes(out.rank(), out.sizes());
    for (size_t d = 0; d < 3; ++d) {
      if (sizes.in[d] >= 1 && sizes.out[d] >= 1 && given[d] == sizes.out[d]) continue;
      throw ArgumentError("y has size " + std::to_string(given[d]) +
                          " where the transposed convolution gives " +
                          std::to_string(sizes.out[d]));
    }
    const QParams qx = in.qparams(scale_x, zero_x, "x"), qy = out.qparams(scale_y, zero_y, "y");
    checked_threads(threads);
    const py::gil_scoped_release release;
    std::vector<uint8_t> room;
    conv_.run({sizes, in.input(room), qx, out.data<uint8_t>(), qy}, threads);
    out.finish_output();
  }

 private:
  ConvTranspose conv_;
};

// weight (in, out / groups, three kernel sizes); parameters of each of the out channels.
inline std::unique_ptr<ConvTransposeObject> make_conv_transpose(
    const Kernels& kernels, const py::object& weight, const py::object& scales,
    const py::object& zeros, bool per_channel, const py::object& bias, bool relu,
    const Sizes3& stride, const Sizes3& padding, const Sizes3& output_padding,
    const Sizes3& dilation, int64_t groups) {
  const TensorView w(weight, "weight", DType::s8);
  w.of_rank(5).contiguous();
  TransposedGeometry geometry;
  geometry.kernel = {w.shape(2), w.shape(3), w.shape(4)};
  geometry.stride = stride;
  geometry.padding = padding;
  geometry.dilation = dilation;
  geometry.output_padding = output_padding;
  geometry.groups = groups;
  check_transposed(geometry, w.shape(0));
  const WeightArguments given(scales, zeros, per_channel, bias, w.shape(1) * groups);
  const TransposedWeights from{w.data<int8_t>(),   w.shape(0), w.shape(1), geometry,
                               given.quantization, given.bias, relu};
  return std::make_unique<ConvTransposeObject>(kernels, from);
}

inline void bind_conv_transpose(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<ConvTransposeObject>(m, "ConvTranspose").def("run", &ConvTransposeObject::run);
  kernels.def("conv_transpose", &make_conv_transpose);
}

}  // namespace qcore::python
