// Operators on floats: functions of one variable, sums, layer norm, embedding.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "qcore/base/error.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"

namespace qcore {

// Raises ArgumentError for a name that no function has.
inline FloatFunction float_function_of(const std::string& name) {
  static const std::map<std::string, FloatFunction> known = {
      {"gelu", FloatFunction::gelu}, {"gelu_tanh", FloatFunction::gelu_tanh},
      {"relu", FloatFunction::relu}, {"sigmoid", FloatFunction::sigmoid},
      {"silu", FloatFunction::silu}, {"tanh", FloatFunction::tanh},
  };
  const auto found = known.find(name);
  if (found == known.end()) throw ArgumentError("unknown function " + name);
  return found->second;
}

inline void run_float_function(const Kernels& kernels, const Elements<float, float>& e,
                               FloatFunction function, int threads) {
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.float_function(e.x + begin, e.y + begin, end - begin, function);
  });
}

inline void run_float_add(const Kernels& kernels, const Elements<float, float>& e,
                          const float* other, int threads) {
  parallel_ranges(threads, e.n, kElementwiseGrain, [&](int64_t begin, int64_t end) {
    kernels.float_add(e.x + begin, other + begin, e.y + begin, end - begin);
  });
}

// `rows` rows one behind the other, of which `first` is the first one.
inline void run_float_layer_norm(const Kernels& kernels, const FloatNormRow& first, int64_t rows,
                                 int threads) {
  const int64_t n = first.n;
  if (n == 0) return;
  parallel_ranges(threads, rows, kElementwiseGrain / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      FloatNormRow each = first;
      each.x += row * n;
      each.y += row * n;
      kernels.float_layer_norm(each);
    }
  });
}

// Rows of a table of floats (rows, dim) by their indices, which are int64 or int32.
struct FloatRows {
  const float* data;
  int64_t rows, dim;

  // Raises ArgumentError for an index that the table has no row for.
  template <class Index>
  void run(const Index* indices, int64_t n, float* y, int threads) const {
    const int64_t grain = kElementwiseGrain / 4 / std::max<int64_t>(dim, 1) + 1;
    parallel_ranges(threads, n, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = indices[i];
        if (row < 0 || row >= rows) {
          throw ArgumentError("index " + std::to_string(row) + " is outside of the table: it has " +
                              std::to_string(rows) + " entries");
        }
        std::memcpy(y + i * dim, data + row * dim, static_cast<size_t>(dim) * sizeof(float));
      }
    });
  }
};

}  // namespace qcore
