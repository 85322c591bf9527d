// Python functions of the operators on floats: arguments are checked here, then the GIL is released for the work.
#pragma once

#include <map>

#include "qcore/python/elementwise.h"

namespace qcore {

inline FloatFunction float_function_of(const std::string& name) {
  static const std::map<std::string, FloatFunction> known = {
      {"gelu", FloatFunction::gelu},       {"gelu_tanh", FloatFunction::gelu_tanh}, {"relu", FloatFunction::relu},
      {"sigmoid", FloatFunction::sigmoid}, {"silu", FloatFunction::silu},           {"tanh", FloatFunction::tanh},
  };
  const auto found = known.find(name);
  if (found == known.end()) throw ArgumentError("unknown function " + name);
  return found->second;
}

inline void run_float_function(const Kernels& kernels, const py::object& x, const py::object& y, const std::string& name, int threads) {
  const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32);
  check_alike(in, out);
  const FloatFunction function = float_function_of(name);
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, in.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.float_function(in.data<float>() + begin, out.data<float>() + begin, end - begin, function);
  });
}

inline void run_float_add(const Kernels& kernels, const py::object& a, const py::object& b, const py::object& y, int threads) {
  const TensorView left(a, "a", DType::f32), right(b, "b", DType::f32), out(y, "y", DType::f32);
  check_alike(left, right), check_alike(left, out);
  checked_threads(threads);
  const py::gil_scoped_release release;
  parallel_ranges(threads, left.numel(), kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.float_add(left.data<float>() + begin, right.data<float>() + begin, out.data<float>() + begin, end - begin);
  });
}

// x (rows, n) contiguous, normalized row by row.
inline void run_float_layer_norm(const Kernels& kernels, const py::object& x, const py::object& weight, const py::object& bias, double eps, const py::object& y,
                                 int threads) {
  const TensorView in(x, "x", DType::f32), w(weight, "weight", DType::f32), b(bias, "bias", DType::f32), out(y, "y", DType::f32);
  in.of_rank(2).contiguous(), out.of_rank(2).contiguous();
  check_alike(in, out);
  const int64_t n = in.shape(1);
  w.contiguous().with_elements(n), b.contiguous().with_elements(n);
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (n == 0) return;
  parallel_ranges(threads, in.shape(0), kElementwiseGrain / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernels.float_layer_norm(in.data<float>() + row * n, nullptr, out.data<float>() + row * n, n, w.data<float>(), b.data<float>(), static_cast<float>(eps));
    }
  });
}

// Rows of floats by their indices, which are int64 or int32.
class FloatRows {
 public:
  explicit FloatRows(const py::object& weight) {
    const TensorView table(weight, "weight", DType::f32);
    table.of_rank(2).contiguous();
    data_ = table.data<float>(), rows_ = table.shape(0), dim_ = table.shape(1);
  }

  int64_t dim() const { return dim_; }

  template <class Index>
  void run(const Index* indices, int64_t n, float* y, int threads) const {
    parallel_ranges(threads, n, kElementwiseGrain / 4 / std::max<int64_t>(dim_, 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = indices[i];
        if (row < 0 || row >= rows_) {
          throw ArgumentError("index " + std::to_string(row) + " is outside of the table: it has " + std::to_string(rows_) + " entries");
        }
        std::memcpy(y + i * dim_, data_ + row * dim_, static_cast<size_t>(dim_) * sizeof(float));
      }
    });
  }

 private:
  const float* data_;
  int64_t rows_, dim_;
};

inline void run_float_embedding(const Kernels& /*kernels*/, const py::object& x, bool wide, const py::object& weight, const py::object& y, int threads) {
  const FloatRows rows(weight);
  const TensorView indices(x, "indices", wide ? DType::i64 : DType::i32), out(y, "y", DType::f32);
  indices.contiguous(), out.contiguous().with_elements(indices.numel() * rows.dim());
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (wide) return rows.run(indices.data<int64_t>(), indices.numel(), out.data<float>(), threads);
  rows.run(indices.data<int32_t>(), indices.numel(), out.data<float>(), threads);
}

inline void bind_floats(py::class_<Kernels>& kernels) {
  kernels.def("float_function", &run_float_function).def("float_add", &run_float_add).def("float_layer_norm", &run_float_layer_norm).def("float_embedding", &run_float_embedding);
}

}  // namespace qcore
