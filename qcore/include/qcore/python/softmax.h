// The Python function of softmax: arguments are checked here, then the GIL is released for the
// work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "qcore/base/qparams.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/integers.h"
#include "qcore/ops/softmax.h"
#include "qcore/python/activations.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// x (rows, n) contiguous; terms: int64, one for each distance below the greatest integer of a row.
inline void softmax(const Kernels& kernels, const py::object& x, const py::object& terms,
                    const py::object& y, double scale_y, int64_t zero_y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  const TensorView table(terms, "terms", DType::i64);
  in.of_rank(2).contiguous();
  out.of_rank(2).contiguous();
  check_alike(in, out);
  table.contiguous().with_elements(Softmax::kTerms);
  Softmax of{nullptr, out.data<uint8_t>(), in.shape(0), in.shape(1), table.data<int64_t>(), {}};
  if (!of.has_sums()) {
    table.fail(
        "must begin with a positive number, and hold none that is negative, or so large that a row "
        "of x has no sum");
  }
  const QParams qy = out.qparams(scale_y, zero_y, "y");
  of.result = integer_result(qy, inverse(qy.scale), false);
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  of.x = in.input(room);
  run_softmax(kernels, of, threads,
              [&](int64_t begin, int64_t end) { out.finish_output(begin, end); });
}

inline void bind_softmax(py::class_<Kernels>& kernels) { kernels.def("softmax", &softmax); }

}  // namespace qcore::python
