// Python functions of the elementwise operators on integers: arguments are checked here, then the
// GIL is released for the work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "qcore/base/error.h"
#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/ops/integers.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

template <BinaryKernel kernel>
void binary(const Kernels& kernels, const py::object& a, double scale_a, int64_t zero_a,
            const py::object& b, double scale_b, int64_t zero_b, const py::object& y,
            double scale_y, int64_t zero_y, bool relu, int threads) {
  const Activations va(a, "a"), vb(b, "b"), out(y, "y");
  check_alike(va, vb);
  check_alike(va, out);
  const Operand qa = va.operand(scale_a, zero_a, "a"), qb = vb.operand(scale_b, zero_b, "b");
  const QParams qy = out.qparams(scale_y, zero_y, "y");
  const IntegerResult result = integer_result(qy, binary_multiplier<kernel>(qa, qb, qy), relu);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const BinaryElements elements{
      va.data<uint8_t>(), vb.data<uint8_t>(), out.data<uint8_t>(), va.numel(), qa, qb, result};
  run_binary<kernel>(kernels, elements, threads,
                     [&](int64_t begin, int64_t end) { out.finish_output(begin, end); });
}

inline void requantize(const Kernels& kernels, const py::object& x, double scale_x, int64_t zero_x,
                       const py::object& y, double scale_y, int64_t zero_y, bool relu,
                       int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_alike(in, out);
  const Operand qx = in.operand(scale_x, zero_x, "x");
  const QParams qy = out.qparams(scale_y, zero_y, "y");
  const IntegerResult result = integer_result(qy, inverse(qy.scale), relu);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const Bytes elements{in.data<uint8_t>(), out.data<uint8_t>(), in.numel()};
  run_requantize(kernels, elements, qx, result, threads,
                 [&](int64_t begin, int64_t end) { out.finish_output(begin, end); });
}

inline void clamp(const Kernels& kernels, const py::object& x, const py::object& y, int low,
                  int high, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_alike(in, out);
  check_same_dtype(in, out);
  low += in.shift();
  high += in.shift();
  if (low < 0 || low > 255 || high < 0 || high > 255) {
    throw ArgumentError("bounds must be within the dtype of x");
  }
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    auto* to = out.data<uint8_t>();
    if (in.is_signed()) in.turn(to, begin, end);
    const uint8_t* from = in.is_signed() ? to : in.data<uint8_t>();
    kernels.clamp(from + begin, to + begin, end - begin, static_cast<uint8_t>(low),
                  static_cast<uint8_t>(high));
    out.finish_output(begin, end);
  });
}

inline void lookup(const Kernels& kernels, const py::object& x, const py::object& y,
                   const py::object& table, int threads) {
  const TensorView in(x, "x", DType::u8), out(y, "y", DType::u8), values(table, "table", DType::u8);
  check_alike(in, out);
  values.contiguous().with_elements(256);
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_lookup(kernels, {in.data<uint8_t>(), out.data<uint8_t>(), in.numel()}, values.data<uint8_t>(),
             threads);
}

// x (rows, channels, inner) contiguous; tables (channels, 256).
inline void lookup_channels(const Kernels& kernels, const py::object& x, const py::object& y,
                            const py::object& tables, int threads) {
  const TensorView in(x, "x", DType::u8), out(y, "y", DType::u8),
      values(tables, "tables", DType::u8);
  in.of_rank(3).contiguous();
  out.of_rank(3).contiguous();
  check_alike(in, out);
  values.of_rank(2).contiguous().with_size(0, in.shape(1)).with_size(1, 256);
  const ChannelLookup of{in.data<uint8_t>(), out.data<uint8_t>(), in.shape(0),
                         in.shape(1),        in.shape(2),         values.data<uint8_t>()};
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_lookup_channels(kernels, of, threads);
}

// For benchmarks.
inline int64_t peak(const Kernels& kernels, int64_t rounds) {
  constexpr int64_t kMost = 1 << 24;
  if (rounds < 0 || rounds > kMost) {
    throw ArgumentError("rounds must be in [0, 2^24], not " + std::to_string(rounds));
  }
  return kernels.peak(rounds);
}

inline void bind_elementwise(py::class_<Kernels>& kernels) {
  kernels.def("add", &binary<&Kernels::add>)
      .def("mul", &binary<&Kernels::mul>)
      .def("requantize", &requantize)
      .def("clamp", &clamp)
      .def("lookup", &lookup)
      .def("lookup_channels", &lookup_channels)
      .def("peak", &peak);
}

}  // namespace qcore::python
