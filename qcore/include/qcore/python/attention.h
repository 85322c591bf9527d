// The Python function of attention: arguments are checked here, then the GIL is released for the work.
#pragma once

#include "qcore/ops/attention.h"
#include "qcore/python/elementwise.h"

namespace qcore {

inline HeadMatrices head_matrices(const TensorView& x) { return {x.data<float>(), x.stride(0), x.stride(1), x.stride(2), x.stride(3)}; }

// q (batch, heads, queries, width), k (batch, heads, keys, width), v (batch, heads, keys, values), mask (batch, heads, queries, keys) or
// None, y (batch, heads, queries, values), all in any strides.
inline void attention(const Kernels& kernels, const py::object& q, const py::object& k, const py::object& v, const py::object& mask, const py::object& y,
                      double scale, bool causal, int threads) {
  const TensorView left(q, "q", DType::f32), right(k, "k", DType::f32), values(v, "v", DType::f32), out(y, "y", DType::f32);
  left.of_rank(4), right.of_rank(4), values.of_rank(4), out.of_rank(4);
  right.with_size(3, left.shape(3)), values.with_size(2, right.shape(2)), out.with_size(2, left.shape(2)).with_size(3, values.shape(3));
  for (int d = 0; d < 2; ++d) right.with_size(d, left.shape(d)), values.with_size(d, left.shape(d)), out.with_size(d, left.shape(d));
  HeadMatrices added{};
  if (!mask.is_none()) {
    const TensorView given(mask, "mask", DType::f32);
    given.of_rank(4).with_size(0, left.shape(0)).with_size(1, left.shape(1)).with_size(2, left.shape(2)).with_size(3, right.shape(2));
    added = head_matrices(given);
  }
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_attention(kernels,
                {left.shape(0), left.shape(1), left.shape(2), right.shape(2), left.shape(3), values.shape(3), head_matrices(left), head_matrices(right),
                 head_matrices(values), added, out.data<float>(), out.stride(0), out.stride(1), out.stride(2), out.stride(3), static_cast<float>(scale), causal},
                threads);
}

inline void bind_attention(py::class_<Kernels>& kernels) { kernels.def("attention", &attention); }

}  // namespace qcore
