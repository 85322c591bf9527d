// Python functions of the layer, group and instance norms, and of means: arguments are checked here, then the GIL is released.
#pragma once

#include <cmath>

#include "qcore/python/elementwise.h"

namespace qcore {

struct RowStatistics {
  float mean, rate;  // rate: the scale over the deviation of the real values
};

// Of integers that are less than x by `shift`.
inline RowStatistics row_statistics(const Kernels& kernels, const uint8_t* x, int64_t n, int64_t shift, float scale, double eps) {
  int64_t sum, squares;
  kernels.sums(x, n, &sum, &squares);
  squares += shift * (shift * n - 2 * sum);
  sum -= shift * n;
  const auto count = static_cast<float>(n);
  const float mean = static_cast<float>(sum) / count;
  const float var = std::max(std::fma(-mean, mean, static_cast<float>(squares) / count), 0.0f);
  const double real = static_cast<double>(var * scale * scale);
  return {mean, static_cast<float>(static_cast<double>(scale) / std::sqrt(real + eps))};
}

// x (rows, groups, channels, inner) contiguous: each group of each row by its own mean and deviation. `each`: a weight and a bias for each
// of the channels * inner elements (layer norm); else for each of the groups * channels.
inline void normalize(const Kernels& kernels, const py::object& x, double scale_x, int64_t zero_x, const py::object& weight, const py::object& bias, double eps,
                      bool each, const py::object& y, double scale_y, int64_t zero_y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  const TensorView w(weight, "weight", DType::f32), b(bias, "bias", DType::f32);
  in.of_rank(4).contiguous(), out.of_rank(4).contiguous();
  check_alike(in, out);
  const int64_t groups = in.shape(1), channels = in.shape(2), inner = in.shape(3);
  const int64_t parameters = each ? channels * inner : groups * channels;
  w.contiguous().with_elements(parameters), b.contiguous().with_elements(parameters);
  const QParams qx = in.qparams(scale_x, zero_x, "x"), qy = out.qparams(scale_y, zero_y, "y");
  const IntegerResult result = integer_result(qy, inverse(scale_y), false);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const int64_t length = channels * inner;
  if (length == 0) return;
  const auto scale = static_cast<float>(qx.scale);
  std::vector<uint8_t> room;
  const uint8_t* data = in.input(room);
  parallel_ranges(threads, in.shape(0) * groups, kElementwiseGrain / length + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* from = data + row * length;
      uint8_t* to = out.data<uint8_t>() + row * length;
      const RowStatistics found = row_statistics(kernels, from, length, in.shift(), scale, eps);
      const float center = found.mean - static_cast<float>(qx.zero - in.shift());
      if (each) {
        kernels.normalize(from, to, length, {qx.zero, center, found.rate, result}, w.data<float>(), b.data<float>());
        continue;
      }
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t channel = row % groups * channels + c;
        const float factor = w.data<float>()[channel] * found.rate;
        kernels.normalize_slice(from + c * inner, to + c * inner, inner, {qx.zero, center, 1.0f, result}, factor, b.data<float>()[channel]);
      }
    }
    out.finish_output(begin * length, end * length);
  });
}

// x (rows, channels, inner) contiguous: fma(factor, x - zero, shift) of each channel, in units of y.
inline void batch_norm(const Kernels& kernels, const py::object& x, int64_t zero_x, const py::object& factor, const py::object& shift, bool relu,
                       const py::object& y, int64_t zero_y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  const TensorView factors(factor, "factor", DType::f32), shifts(shift, "shift", DType::f32);
  in.of_rank(3).contiguous(), out.of_rank(3).contiguous();
  check_alike(in, out);
  const int64_t channels = in.shape(1), inner = in.shape(2);
  const float* k = factors.contiguous().with_elements(channels).data<float>();
  const float* b = shifts.contiguous().with_elements(channels).data<float>();
  const Normalization p{in.qparams(1.0, zero_x, "x").zero, 0.0f, 1.0f, integer_result(out.qparams(1.0, zero_y, "y"), 1.0f, relu)};
  checked_threads(threads);
  const py::gil_scoped_release release;
  const int64_t length = channels * inner;
  if (length == 0) return;
  std::vector<uint8_t> room;
  const uint8_t* data = in.input(room);
  parallel_ranges(threads, in.shape(0), kElementwiseGrain / length + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* from = data + row * length;
      uint8_t* to = out.data<uint8_t>() + row * length;
      if (inner == 1) {
        kernels.normalize(from, to, channels, p, k, b);
      } else {
        for (int64_t c = 0; c < channels; ++c) kernels.normalize_slice(from + c * inner, to + c * inner, inner, p, k[c], b[c]);
      }
    }
    out.finish_output(begin * length, end * length);
  });
}

inline void run_mean_of_rows(const Kernels& kernels, const uint8_t* x, int64_t rows, int64_t n, int32_t zero, uint8_t* y, int threads,
                             int32_t shift = 0) {
  const float share = 1.0f / static_cast<float>(n);
  parallel_ranges(threads, rows, kElementwiseGrain / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t sum, squares;
      kernels.sums(x + row * n, n, &sum, &squares);
      const float mean = std::fma(static_cast<float>(sum - n * zero), share, static_cast<float>(zero - shift));
      const auto low = static_cast<float>(-shift);
      y[row] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(std::clamp(mean, low, low + 255.0f))) + shift);
    }
  });
}

// y (rows): the mean of each row of x (rows, n).
inline void mean_of_rows(const Kernels& kernels, const py::object& x, int64_t zero, const py::object& y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  check_same_dtype(in, out);
  in.of_rank(2).contiguous(), out.contiguous().with_elements(in.shape(0));
  const int32_t z = in.qparams(1.0, zero, "x").zero;
  if (in.shape(1) == 0) in.fail("has no elements to average");
  checked_threads(threads);
  const py::gil_scoped_release release;
  std::vector<uint8_t> room;
  run_mean_of_rows(kernels, in.input(room), in.shape(0), in.shape(1), z, out.data<uint8_t>(), threads, in.shift());
  out.finish_output();
}

inline void bind_normalization(py::class_<Kernels>& kernels) {
  kernels.def("normalize", &normalize).def("batch_norm", &batch_norm).def("mean_of_rows", &mean_of_rows);
}

}  // namespace qcore
