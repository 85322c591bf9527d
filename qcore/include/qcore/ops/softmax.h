// Softmax of rows of integers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"

namespace qcore {

// x and y (rows, n); terms: one for each distance below the greatest integer of a row.
struct Softmax {
  static constexpr int64_t kTerms = 256;

  const uint8_t* x;
  uint8_t* y;
  int64_t rows, n;
  const int64_t* terms;
  IntegerResult result;

  // Whether every row has a sum, which is positive.
  bool has_sums() const {
    const int64_t most = std::numeric_limits<int64_t>::max() / std::max<int64_t>(n, 1);
    return terms[0] >= 1 && *std::min_element(terms, terms + kTerms) >= 0 &&
           *std::max_element(terms, terms + kTerms) <= most;
  }
};

// `finish(begin, end)` is called for the elements of each part that is done.
template <class Finish>
void run_softmax(const Kernels& kernels, const Softmax& of, int threads, const Finish& finish) {
  const int64_t n = of.n;
  if (n == 0) return;
  parallel_ranges(threads, of.rows, kElementwiseGrain / 8 / n + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernels.softmax(of.x + row * n, of.y + row * n, n, of.terms, of.result);
    }
    finish(begin * n, end * n);
  });
}

}  // namespace qcore
