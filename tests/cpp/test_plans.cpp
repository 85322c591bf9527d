// Plans from several threads, on kernels in plain loops: what is tested is what is around them.

#include "plans.inl.h"

namespace {

using namespace qcore;

void gemm(const GemmInput& in, const GemmPanel& panel, const RequantizedOutput& out) {
  for (int64_t row = 0; row < in.rows; ++row) {
    for (int64_t c = 0; c < panel.columns; ++c) {
      int64_t sum = out.offset[panel.column + c];
      for (int64_t k = 0; k < in.groups * kGroup; ++k) {
        sum += in.x[row * in.stride + k] * panel.w[((k / kGroup * panel.units + c / kLanes) * kLanes + c % kLanes) * kGroup + k % kGroup];
      }
      if (in.sums) sum -= int64_t{in.sums[row]} * out.weight_zero[panel.column + c];
      out.y[row * out.stride + panel.output + c] = static_cast<uint8_t>(sum >> 6);
    }
  }
}

void add(const uint8_t* a, const uint8_t* b, uint8_t* y, int64_t n, Operand, Operand, const IntegerResult&) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<uint8_t>((a[i] + 2 * b[i]) / 3);
}

void lookup(const uint8_t* x, uint8_t* y, int64_t n, const uint8_t* table) {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

void max(const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels, int64_t outputs, int64_t step) {
  for (int64_t i = 0; i < outputs * channels; ++i) {
    uint8_t most = 0;
    for (int64_t r = 0; r < count; ++r) most = std::max(most, rows[r][i / channels * step + i % channels]);
    y[i] = most;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Kernels kernels{};
  kernels.name = "plans on plain loops";
  kernels.gemm_u8 = gemm, kernels.add = add, kernels.lookup = lookup, kernels.max = max;
  return run_plans(kernels, argc > 1 ? std::atoi(argv[1]) : 6);
}
