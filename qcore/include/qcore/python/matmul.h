// The Python function of matrix products of activations.
#pragma once

#include "qcore/ops/matmul.h"
#include "qcore/python/linear.h"

namespace qcore {

// a (*batch, m, k), the last dimension dense, and b (*batch, k, n), both already broadcast; y (*batch, m, n) contiguous.
inline void matmul(const Kernels& kernels, const py::object& a, double scale_a, int64_t zero_a, const py::object& b, double scale_b, int64_t zero_b,
                   const py::object& y, double scale_y, int64_t zero_y, int threads) {
  const TensorView left(a, "a", DType::u8), right(b, "b", DType::u8), out(y, "y", DType::u8);
  const int rank = left.rank();
  if (rank < 2) left.fail("must have at least 2 dimensions");
  right.of_rank(rank), out.of_rank(rank).contiguous();
  const int64_t m = left.shape(rank - 2), k = left.shape(rank - 1), n = right.shape(rank - 1);
  check_accumulated(k);
  right.with_size(rank - 2, k), out.with_size(rank - 2, m).with_size(rank - 1, n);
  if (left.numel() != 0 && k > 1 && left.stride(rank - 1) != 1) left.fail("must be dense in its last dimension");
  int64_t batches = 1;
  for (int d = 0; d < rank - 2; ++d) {
    right.with_size(d, left.shape(d)), out.with_size(d, left.shape(d));
    batches *= left.shape(d);
  }
  const QParams qa = checked_u8(scale_a, zero_a, "a"), qb = checked_u8(scale_b, zero_b, "b"), qy = checked_u8(scale_y, zero_y, "y");
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (out.numel() == 0) return;
  // Many small products go to a thread each; a few large ones are split among all.
  const bool whole = batches >= 2 * threads || saturated_product({m, n, k}) < kSerialMacs;
  const int inside = whole ? 1 : threads;
  parallel(whole && saturated_product({out.numel(), k}) >= kSerialMacs ? threads : 1, batches, [&](int64_t batch) {
    int64_t at_a = 0, at_b = 0;
    for (int64_t d = rank - 3, rest = batch; d >= 0; --d) {
      const int i = static_cast<int>(d);
      at_a += rest % left.shape(i) * left.stride(i), at_b += rest % left.shape(i) * right.stride(i);
      rest /= left.shape(i);
    }
    run_matmul(kernels, {left.data<uint8_t>() + at_a, left.stride(rank - 2), 1}, qa,
               {right.data<uint8_t>() + at_b, right.stride(rank - 2), right.stride(rank - 1)}, qb, out.data<uint8_t>() + batch * m * n, qy, m, k, n, inside);
  });
}

inline void bind_matmul(py::class_<Kernels>& kernels) { kernels.def("matmul", &matmul); }

}  // namespace qcore
