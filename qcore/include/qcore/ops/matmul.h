// Matrix products of two activations: b is packed for each batch as weights are, with its integers moved by 128 to fit into int8.
#pragma once

#include "qcore/ops/linear/linear.h"

namespace qcore {

// A matrix of a batch; strides in elements.
struct Matrix {
  const uint8_t* data;
  int64_t row, column;
};

constexpr int32_t kSignedShift = 128;

// b (k, n) as weights with one scale and zero point.
inline void pack_activations(PackedWeights& w, const Layout& layout, const Matrix& b, int64_t k, int64_t n, QParams q) {
  const auto count = static_cast<size_t>(n);
  const WeightQuantization quantization{std::vector<float>(count, static_cast<float>(q.scale)), std::vector<int32_t>(count, q.zero - kSignedShift), false};
  w.pack(layout, 1, n, k, [&](int64_t, int64_t c, int64_t i) { return static_cast<int8_t>(b.data[i * b.row + c * b.column] ^ 0x80); }, quantization, nullptr);
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

  void multiply(const GemmInput& input, const GemmPanel& panel, int64_t first, Scratch&) const { multiply_rows(kernels, input, panel, out.from_row(first)); }
};

// y (m, n) = a (m, k) times b (k, n).
inline void run_matmul(const Kernels& kernels, const Matrix& a, QParams qa, const Matrix& b, QParams qb, uint8_t* y, QParams qy, int64_t m, int64_t k, int64_t n,
                       int threads) {
  PackedWeights w;
  pack_activations(w, kernels.layout, b, k, n, qb);
  const Requantization parameters(w, qa, qy);
  run_gemm(w, m, threads, MatmulJob{kernels, w, a, parameters.output(w, y, n, false)});
}

}  // namespace qcore
