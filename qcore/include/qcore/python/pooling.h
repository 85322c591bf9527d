// Python functions of pooling: arguments are checked here, then the GIL is released for the work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "qcore/isa/kernels.h"
#include "qcore/ops/pooling/average.h"
#include "qcore/ops/pooling/max.h"
#include "qcore/ops/windows.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// Output sizes are those of y.
inline Windows pooling_windows(const TensorView& in, const TensorView& out,
                               const WindowGeometry& geometry) {
  in.channels_last();
  out.of_rank(in.rank()).channels_last();
  if (in.rank() > 5) in.fail("must have at most 3 spatial dimensions");
  out.with_size(0, in.shape(0)).with_size(1, in.shape(1));
  check_geometry(geometry);
  Windows windows(geometry, in.rank(), in.sizes());
  windows.out = spatial_sizes(out.rank(), out.sizes());
  if (std::min({windows.channels, windows.in[0], windows.in[1], windows.in[2]}) < 1) {
    in.fail("is empty, and not only in its batch");
  }
  return windows;
}

// The caller has settled ceil_mode. Raises ArgumentError where a window begins beyond the padded
// input.
inline Windows sliding_windows(const TensorView& in, const TensorView& out,
                               const WindowGeometry& geometry) {
  const Windows windows = pooling_windows(in, out, geometry);
  for (size_t d = 0; d < 3; ++d) {
    if (windows.out[d] - 1 > (windows.in[d] + 2 * geometry.padding[d] - 1) / geometry.stride[d]) {
      out.fail("has more windows than begin inside of the padded input");
    }
  }
  return windows;
}

inline void max_pool(const Kernels& kernels, const py::object& x, const py::object& y,
                     const Sizes3& kernel, const Sizes3& stride, const Sizes3& padding,
                     const Sizes3& dilation, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  const Windows windows = sliding_windows(in, out, {kernel, stride, padding, dilation});
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_max_pool(kernels, windows, in.input(room), out.data<uint8_t>(), threads);
  out.finish_output();
}

inline void avg_pool(const Kernels& kernels, const py::object& x, const py::object& y, int64_t zero,
                     const Sizes3& kernel, const Sizes3& stride, const Sizes3& padding,
                     bool include_pad, int64_t divisor, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  const Windows windows = sliding_windows(in, out, {kernel, stride, padding, {1, 1, 1}});
  const int32_t z = in.qparams(1.0, zero, "x").zero;
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_avg_pool(kernels, {windows, in.input(room), out.data<uint8_t>(), z, in.shift()}, include_pad,
               divisor, threads);
  out.finish_output();
}

inline void adaptive_avg_pool(const Kernels& kernels, const py::object& x, const py::object& y,
                              int64_t zero, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  const Windows windows = pooling_windows(in, out, {});
  const int32_t z = in.qparams(1.0, zero, "x").zero;
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_adaptive_avg_pool(kernels, {windows, in.input(room), out.data<uint8_t>(), z, in.shift()},
                        threads);
  out.finish_output();
}

inline void bind_pooling(py::class_<Kernels>& kernels) {
  kernels.def("max_pool", &max_pool)
      .def("avg_pool", &avg_pool)
      .def("adaptive_avg_pool", &adaptive_avg_pool);
}

}  // namespace qcore::python
