// Plans from several threads, on kernels in plain loops: what is tested is what is around them.

#include "plans.inl.h"

namespace {

using namespace qcore;

void gemm(const GemmInput& in, const GemmPanel& panel, const RequantizedOutput& out) {
  for (int64_t row = 0; row < in.rows; ++row) {
    for (int64_t c = 0; c < panel.columns; ++c) {
      int64_t sum = out.offset[panel.column + c];
      for (int64_t k = 0; k < in.groups * kGroup; ++k) {
        sum += in.x[row * in.stride + k] *
               panel.w[((k / kGroup * panel.units + c / kLanes) * kLanes + c % kLanes) * kGroup +
                       k % kGroup];
      }
      if (in.sums) sum -= int64_t{in.sums[row]} * out.weight_zero[panel.column + c];
      out.y[row * out.stride + panel.output + c] = static_cast<uint8_t>(sum >> 6);
    }
  }
}

void add(const BinaryElements& e) {
  for (int64_t i = 0; i < e.n; ++i) e.y[i] = static_cast<uint8_t>((e.a[i] + 2 * e.b[i]) / 3);
}

void lookup(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

void max(const WindowRows& window, int64_t outputs, int64_t step) {
  for (int64_t i = 0; i < outputs * window.channels; ++i) {
    const int64_t at = i / window.channels * step + i % window.channels;
    uint8_t most = 0;
    for (int64_t r = 0; r < window.count; ++r) most = std::max(most, window.rows[r][at]);
    window.y[i] = most;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Kernels kernels{};
  kernels.name = "plans on plain loops";
  kernels.gemm_u8 = gemm;
  kernels.add = add;
  kernels.lookup = lookup;
  kernels.max = max;
  return run_plans(kernels, argc > 1 ? std::atoi(argv[1]) : 6);
}
