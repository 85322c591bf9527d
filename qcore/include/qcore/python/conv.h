// The Python class of convolutions: arguments are checked here, then the GIL is released for the
// work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/conv/conv.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"

namespace qcore::python {

class ConvObject {
 public:
  ConvObject(const Kernels& kernels, const ConvWeights& from) : conv_(kernels, from) {}

  const Conv& weighted() const { return conv_; }

  void run(const py::object& x, double scale_x, int64_t zero_x, double scale_y, int64_t zero_y,
           const py::object& y, int threads) {
    const Activations in(x, "x"), out(y, "y");
    in.channels_last();
    out.of_rank(in.rank()).channels_last();
    if (in.rank() > 5) in.fail("must have at most 3 spatial dimensions");
    in.with_size(1, conv_.in_channels());
    out.with_size(0, in.shape(0)).with_size(1, conv_.channels());
    const Windows windows = conv_.windows(in.rank(), in.sizes());
    const Sizes3 given = spatial_sizes(out.rank(), out.sizes());
    for (size_t d = 0; d < 3; ++d) {
      if (given[d] == windows.out[d]) continue;
      throw ArgumentError("y has size " + std::to_string(given[d]) +
                          " where the convolution gives " + std::to_string(windows.out[d]));
    }
    const PackedWeights& w = conv_.packed();
    const auto parameters =
        cache_.get(w, in.qparams(scale_x, zero_x, "x"), out.qparams(scale_y, zero_y, "y"));
    checked_threads(threads);
    const py::gil_scoped_release release;
    std::vector<uint8_t> room;
    const auto zero = static_cast<uint8_t>(parameters->x.zero);
    const RequantizedOutput to =
        parameters->output(w, out.data<uint8_t>(), out.shape(1), conv_.relu());
    conv_.run({windows, in.input(room), zero, to}, threads);
    out.finish_output();
  }

 private:
  Conv conv_;
  RequantizationCache cache_;
};

// weight (out, in / groups, three kernel sizes).
inline std::unique_ptr<ConvObject> make_conv(const Kernels& kernels, const py::object& weight,
                                             const py::object& scales, const py::object& zeros,
                                             bool per_channel, const py::object& bias, bool relu,
                                             const Sizes3& stride, const Sizes3& padding,
                                             const Sizes3& dilation, int64_t groups) {
  const TensorView w(weight, "weight", DType::s8);
  w.of_rank(5).contiguous();
  const WindowGeometry geometry{{w.shape(2), w.shape(3), w.shape(4)}, stride, padding, dilation};
  const WeightArguments given(scales, zeros, per_channel, bias, w.shape(0));
  const ConvWeights from{w.data<int8_t>(), w.shape(0),         w.shape(1), groups,
                         geometry,         given.quantization, given.bias, relu};
  return std::make_unique<ConvObject>(kernels, from);
}

inline void bind_conv(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<ConvObject>(m, "Conv").def("run", &ConvObject::run);
  kernels.def("conv", &make_conv);
}

}  // namespace qcore::python
