// Arguments of the kernels' functions, checked.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "qcore/base/error.h"
#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/ops/gemm/packed_weights.h"
#include "qcore/ops/integers.h"
#include "qcore/python/classes.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

inline QParams checked_qparams(double scale, int64_t zero, const IntegerBounds& bounds,
                               const char* name) {
  const float single = static_cast<float>(scale);
  if (!(single > 0.0f) || !std::isfinite(single)) {
    throw ArgumentError(std::string("the scale of ") + name +
                        " must be a positive, finite float32 number, not " + std::to_string(scale));
  }
  if (zero < bounds.low || zero > bounds.high) {
    const std::string range =
        "[" + std::to_string(bounds.low) + ", " + std::to_string(bounds.high) + "]";
    throw ArgumentError(std::string("the zero point of ") + name + " must be in " + range +
                        ", not " + std::to_string(zero));
  }
  return {scale, static_cast<int32_t>(zero)};
}

inline QParams checked_u8(double scale, int64_t zero, const char* name) {
  return checked_qparams(scale, zero, {0, 255}, name);
}

// More than there may be are as many as there may be.
inline void checked_threads(int& threads) {
  if (threads < 1) {
    throw ArgumentError("threads must be at least 1, not " + std::to_string(threads));
  }
  threads = std::min(threads, kMostThreads);
}

inline WeightQuantization weight_quantization(const py::object& scales, const py::object& zeros,
                                              bool per_channel, int64_t n) {
  const TensorView s(scales, "weight scales", DType::f32),
      z(zeros, "weight zero points", DType::i32);
  s.contiguous().with_elements(n);
  z.contiguous().with_elements(n);
  WeightQuantization q{{s.data<float>(), s.data<float>() + n},
                       {z.data<int32_t>(), z.data<int32_t>() + n},
                       per_channel};
  for (int64_t c = 0; c < n; ++c) {
    const auto i = static_cast<size_t>(c);
    checked_qparams(static_cast<double>(q.scales[i]), q.zeros[i], {-128, 127}, "weight");
  }
  return q;
}

inline const float* checked_bias(const py::object& bias, int64_t n) {
  if (bias.is_none()) return nullptr;
  return TensorView(bias, "bias", DType::f32).contiguous().with_elements(n).data<float>();
}

// The number of rows of x (..., k), where y is (..., n) with the same rows.
inline int64_t checked_rows(const TensorView& x, int64_t k, const TensorView& y, int64_t n) {
  x.contiguous();
  y.contiguous();
  if (x.rank() < 1) x.fail("must have at least one dimension");
  x.with_size(x.rank() - 1, k);
  y.of_rank(x.rank()).with_size(x.rank() - 1, n);
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) {
    y.with_size(i, x.shape(i));
    rows *= x.shape(i);
  }
  return rows;
}

// Same shape, same strides, no gaps: one run of memory.
inline void check_alike(const TensorView& x, const TensorView& y) {
  y.of_rank(x.rank());
  for (int i = 0; i < x.rank(); ++i) {
    y.with_size(i, x.shape(i));
    if (x.numel() != 0 && x.shape(i) > 1 && x.stride(i) != y.stride(i)) {
      y.fail("must have the strides of the input");
    }
  }
  if (!x.is_dense()) x.fail("must be dense in memory");
}

// A dtype of integers, and its bounds.
struct IntegerType : IntegerBounds {
  DType dtype;
};

inline IntegerType integer_type(bool is_signed) {
  return is_signed ? IntegerType{{-128, 127}, DType::s8} : IntegerType{{0, 255}, DType::u8};
}

// How the parameters of weights come from Python.
struct WeightArguments {
  WeightQuantization quantization;
  const float* bias;

  WeightArguments(const py::object& scales, const py::object& zeros, bool per_channel,
                  const py::object& bias_, int64_t n)
      : quantization(weight_quantization(scales, zeros, per_channel, n)),
        bias(checked_bias(bias_, n)) {}
};

}  // namespace qcore::python
