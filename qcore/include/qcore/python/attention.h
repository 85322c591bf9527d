// The Python function of attention: arguments are checked here, then the GIL is released for the
// work.
#pragma once

#include <pybind11/pybind11.h>

#include "qcore/isa/kernels.h"
#include "qcore/ops/attention.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

inline HeadMatrices head_matrices(const TensorView& x) {
  return {x.data<float>(), x.stride(0), x.stride(1), x.stride(2), x.stride(3)};
}

// q (batch, heads, queries, width), k (batch, heads, keys, width), v (batch, heads, keys, values),
// mask (batch, heads, queries, keys) or None, y (batch, heads, queries, values), all in any
// strides.
inline void attention(const Kernels& kernels, const py::object& q, const py::object& k,
                      const py::object& v, const py::object& mask, const py::object& y,
                      double scale, bool causal, int threads) {
  const TensorView left(q, "q", DType::f32), right(k, "k", DType::f32), values(v, "v", DType::f32),
      out(y, "y", DType::f32);
  for (const TensorView* view : {&left, &right, &values, &out}) view->of_rank(4);
  right.with_size(3, left.shape(3));
  values.with_size(2, right.shape(2));
  out.with_size(2, left.shape(2)).with_size(3, values.shape(3));
  for (int d = 0; d < 2; ++d) {
    for (const TensorView* view : {&right, &values, &out}) view->with_size(d, left.shape(d));
  }
  Attention a{};
  a.batches = left.shape(0);
  a.heads = left.shape(1);
  a.queries = left.shape(2);
  a.keys = right.shape(2);
  a.width = left.shape(3);
  a.values = values.shape(3);
  a.q = head_matrices(left);
  a.k = head_matrices(right);
  a.v = head_matrices(values);
  if (!mask.is_none()) {
    const TensorView given(mask, "mask", DType::f32);
    given.of_rank(4)
        .with_size(0, a.batches)
        .with_size(1, a.heads)
        .with_size(2, a.queries)
        .with_size(3, a.keys);
    a.mask = head_matrices(given);
  }
  a.y = out.data<float>();
  a.y_batch = out.stride(0);
  a.y_head = out.stride(1);
  a.y_row = out.stride(2);
  a.y_column = out.stride(3);
  a.scale = static_cast<float>(scale);
  a.causal = causal;
  checked_threads(threads);
  const py::gil_scoped_release release;
  run_attention(kernels, a, threads);
}

inline void bind_attention(py::class_<Kernels>& kernels) { kernels.def("attention", &attention); }

}  // namespace qcore::python
