// Python functions of softmax and of tables for each channel: arguments are checked here, then the GIL is released for the work.
#pragma once

#include <limits>

#include "qcore/python/elementwise.h"

namespace qcore {

// x (rows, n) contiguous; terms: int64, one for each distance below the greatest integer of a row.
inline void softmax(const Kernels& kernels, const py::object& x, const py::object& terms, const py::object& y, double scale_y, int64_t zero_y, int threads) {
  const Activations in(x, "x"), out(y, "y");
  const TensorView table(terms, "terms", DType::i64);
  in.of_rank(2).contiguous(), out.of_rank(2).contiguous();
  check_alike(in, out);
  const auto* each = table.contiguous().with_elements(256).data<int64_t>();
  const int64_t most = std::numeric_limits<int64_t>::max() / std::max<int64_t>(in.shape(1), 1);
  if (each[0] < 1 || *std::min_element(each, each + 256) < 0 || *std::max_element(each, each + 256) > most) {
    table.fail("must begin with a positive number, and hold none that is negative, or so large that a row of x has no sum");
  }
  const IntegerResult result = integer_result(out.qparams(scale_y, zero_y, "y"), inverse(scale_y), false);
  checked_threads(threads);
  const py::gil_scoped_release release;
  const int64_t n = in.shape(1);
  if (n == 0) return;
  std::vector<uint8_t> room;
  const uint8_t* from = in.input(room);
  parallel_ranges(threads, in.shape(0), kElementwiseGrain / 8 / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) kernels.softmax(from + row * n, out.data<uint8_t>() + row * n, n, each, result);
    out.finish_output(begin * n, end * n);
  });
}

// x (rows, channels, inner) contiguous; tables (channels, 256).
inline void lookup_channels(const Kernels& kernels, const py::object& x, const py::object& y, const py::object& tables, int threads) {
  const TensorView in(x, "x", DType::u8), out(y, "y", DType::u8), values(tables, "tables", DType::u8);
  in.of_rank(3).contiguous(), out.of_rank(3).contiguous();
  check_alike(in, out);
  const int64_t channels = in.shape(1), inner = in.shape(2);
  const auto* table = values.of_rank(2).contiguous().with_size(0, channels).with_size(1, 256).data<uint8_t>();
  checked_threads(threads);
  const py::gil_scoped_release release;
  if (in.numel() == 0) return;
  parallel_ranges(threads, in.shape(0), kElementwiseGrain / (channels * inner) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* from = in.data<uint8_t>() + row * channels * inner;
      uint8_t* to = out.data<uint8_t>() + row * channels * inner;
      for (int64_t c = 0; c < channels; ++c, from += inner, to += inner) {
        if (inner == 1) {
          *to = table[c * 256 + *from];
        } else {
          kernels.lookup(from, to, inner, table + c * 256);
        }
      }
    }
  });
}

inline void bind_activation(py::class_<Kernels>& kernels) { kernels.def("softmax", &softmax).def("lookup_channels", &lookup_channels); }

}  // namespace qcore
