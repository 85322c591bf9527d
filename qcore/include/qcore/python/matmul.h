// The Python function of matrix products of activations: arguments are checked here, then the GIL
// is released for the work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "qcore/isa/kernels.h"
#include "qcore/ops/matmul.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// a (*batch, m, k), the last dimension dense, and b (*batch, k, n), both already broadcast; y
// (*batch, m, n) contiguous.
inline void matmul(const Kernels& kernels, const py::object& a, double scale_a, int64_t zero_a,
                   const py::object& b, double scale_b, int64_t zero_b, const py::object& y,
                   double scale_y, int64_t zero_y, int threads) {
  const TensorView left(a, "a", DType::u8), right(b, "b", DType::u8), out(y, "y", DType::u8);
  const int rank = left.rank();
  if (rank < 2) left.fail("must have at least 2 dimensions");
  right.of_rank(rank);
  out.of_rank(rank).contiguous();
  const int64_t m = left.shape(rank - 2), k = left.shape(rank - 1), n = right.shape(rank - 1);
  check_accumulated(k);
  right.with_size(rank - 2, k);
  out.with_size(rank - 2, m).with_size(rank - 1, n);
  if (left.numel() != 0 && k > 1 && left.stride(rank - 1) != 1) {
    left.fail("must be dense in its last dimension");
  }
  MatmulBatch batch;
  batch.rank = rank - 2;
  for (int d = 0; d < batch.rank; ++d) {
    right.with_size(d, left.shape(d));
    out.with_size(d, left.shape(d));
    const auto i = static_cast<size_t>(d);
    batch.size[i] = left.shape(d);
    batch.a[i] = left.stride(d);
    batch.b[i] = right.stride(d);
  }
  const Matmul of{m,
                  k,
                  n,
                  checked_u8(scale_a, zero_a, "a"),
                  checked_u8(scale_b, zero_b, "b"),
                  checked_u8(scale_y, zero_y, "y")};
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (out.numel() == 0) return;
  const Matrix first{left.data<uint8_t>(), left.stride(rank - 2), 1};
  const Matrix second{right.data<uint8_t>(), right.stride(rank - 2), right.stride(rank - 1)};
  run_batched_matmul(kernels, of, batch, {first, second, out.data<uint8_t>()}, threads);
}

inline void bind_matmul(py::class_<Kernels>& kernels) { kernels.def("matmul", &matmul); }

}  // namespace qcore::python
