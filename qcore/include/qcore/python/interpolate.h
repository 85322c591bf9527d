// Python functions of interpolation: arguments are checked here, then the GIL is released for the
// work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/interpolate.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// x and y contiguous, of the same rank, with sizes of at least 1 in the `factors.size()` dimensions
// from 1 on.
inline std::vector<Resampling> resamplings(const TensorView& x, const TensorView& y,
                                           const std::vector<double>& factors) {
  const auto rank = static_cast<int>(factors.size()) + 2;
  x.of_rank(rank).contiguous();
  y.of_rank(rank).contiguous().with_size(0, x.shape(0)).with_size(rank - 1, x.shape(rank - 1));
  std::vector<Resampling> found;
  for (int i = 1; i + 1 < rank; ++i) {
    const double factor = factors[static_cast<size_t>(i - 1)];
    if (x.shape(i) < 1 || y.shape(i) < 1) {
      x.fail("and y must have at least 1 element in dimension " + std::to_string(i));
    }
    if (!(factor >= 0.0 &&
          std::isfinite(1.0f / static_cast<float>(factor == 0.0 ? 1.0 : factor)))) {
      throw ArgumentError("factor " + std::to_string(factor) + " must be positive, or 0 for none");
    }
    found.push_back({x.shape(i), y.shape(i), factor});
  }
  return found;
}

// x (planes, depth, height, width, unit).
inline void nearest(const Kernels& /*kernels*/, const py::object& x, const py::object& y,
                    const std::vector<double>& factors, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  if (factors.size() != 3) throw ArgumentError("factors must be 3");
  const std::vector<Resampling> r = resamplings(in, out, factors);
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (in.numel() == 0) return;
  run_nearest({in.data<uint8_t>(), out.data<uint8_t>(), in.shape(0), in.shape(4), r[0], r[1], r[2]},
              threads);
}

// x (planes, height, width, unit).
inline void bilinear(const Kernels& kernels, const py::object& x, const py::object& y,
                     const std::vector<double>& factors, bool corners, int64_t zero, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  if (factors.size() != 2) throw ArgumentError("factors must be 2");
  const std::vector<Resampling> r = resamplings(in, out, factors);
  const auto z = static_cast<float>(in.operand(1.0, zero, "x").zero);
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (in.numel() == 0) return;
  const Bilinear of{
      in.data<uint8_t>(), out.data<uint8_t>(), in.shape(0), in.shape(3), r[0], r[1], corners, z,
      in.is_signed()};
  run_bilinear(kernels, of, threads);
  out.finish_output();
}

inline void bind_interpolate(py::class_<Kernels>& kernels) {
  kernels.def("nearest", &nearest).def("bilinear", &bilinear);
}

}  // namespace qcore::python
