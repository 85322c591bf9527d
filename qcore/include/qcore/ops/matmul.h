// Matrix products of two activations: b is packed for each batch as weights are, with its integers
// moved by 128 to fit into int8.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "qcore/base/qparams.h"
#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/gemm/requantization.h"

namespace qcore {

// A matrix of a batch; strides in elements.
struct Matrix {
  const uint8_t* data;
  int64_t row, column;
};

constexpr int32_t kSignedShift = 128;

// A product of matrices: sizes, and what the integers of all three mean.
struct Matmul {
  int64_t m, k, n;
  QParams a, b, y;
};

// b (k, n) as weights with one scale and zero point.
inline void pack_activations(PackedWeights& w, const Layout& layout, const Matrix& b,
                             const Matmul& of) {
  const auto count = static_cast<size_t>(of.n);
  const WeightQuantization quantization{std::vector<float>(count, static_cast<float>(of.b.scale)),
                                        std::vector<int32_t>(count, of.b.zero - kSignedShift),
                                        false};
  const auto at = [&](int64_t, int64_t c, int64_t i) {
    return static_cast<int8_t>(b.data[i * b.row + c * b.column] ^ 0x80);
  };
  w.pack(layout, {1, of.n, of.k, quantization}, at);
}

struct MatmulJob {
  const Kernels& kernels;
  const PackedWeights& w;
  Matrix a;  // column stride 1
  RequantizedOutput out;

  bool at_hand() const { return w.row_bytes() == w.k && reads_rows(kernels, w); }

  GemmInput rows(int64_t first, int64_t count, int64_t, Scratch& scratch) const {
    const uint8_t* from = a.data + first * a.row;
    const int64_t stride = w.row_bytes();
    if (stride == w.k) return gemm_input(kernels, w, from, a.row, count, scratch);
    uint8_t* packed = packed_rows(w, count, scratch);
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(packed + r * stride, from + r * a.row, static_cast<size_t>(w.k));
      pad_row(w, packed + r * stride);
    }
    return gemm_input(kernels, w, packed, stride, count, scratch);
  }

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first, Scratch&) const {
    multiply_rows(kernels, input, panel, out.from_row(first));
  }
};

// a (m, k), b (k, n) and y (m, n), which is contiguous; of a batch: the first ones.
struct MatmulOperands {
  Matrix a, b;
  uint8_t* y;
};

// y = a times b.
inline void run_matmul(const Kernels& kernels, const Matmul& of, const MatmulOperands& operands,
                       int threads) {
  PackedWeights w;
  pack_activations(w, kernels.layout, operands.b, of);
  const Requantization parameters(w, of.a, of.y);
  run_gemm(w, of.m, threads,
           MatmulJob{kernels, w, operands.a, parameters.output(w, operands.y, of.n, false)});
}

// Where the matrices of a batch lie, which may have several dimensions.
struct MatmulBatch {
  static constexpr int kMost = 8;
  int rank = 0;
  std::array<int64_t, kMost> size{}, a{}, b{};  // strides of both operands

  int64_t count() const {
    int64_t found = 1;
    for (int d = 0; d < rank; ++d) found *= size[static_cast<size_t>(d)];
    return found;
  }
};

inline void run_batched_matmul(const Kernels& kernels, const Matmul& of, const MatmulBatch& batch,
                               const MatmulOperands& first, int threads) {
  // Many small products go to a thread each; a few large ones are split among all.
  const int64_t batches = batch.count(), elements = saturated_product({batches, of.m, of.n});
  const bool whole = batches >= 2 * threads || saturated_product({of.m, of.n, of.k}) < kSerialMacs;
  const int inside = whole ? 1 : threads;
  parallel(whole && saturated_product({elements, of.k}) >= kSerialMacs ? threads : 1, batches,
           [&](int64_t index) {
    MatmulOperands each = first;
    int64_t rest = index;
    for (size_t d = static_cast<size_t>(batch.rank); d-- > 0;) {
      const int64_t at = rest % batch.size[d];
      each.a.data += at * batch.a[d];
      each.b.data += at * batch.b[d];
      rest /= batch.size[d];
    }
    each.y += index * of.m * of.n;
    run_matmul(kernels, of, each, inside);
  });
}

}  // namespace qcore
