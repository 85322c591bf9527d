// What follows a result before it is stored.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/plan/program.h"

namespace qcore {

// Bounds of its integers, then a table.
struct Finish {
  int32_t low = 0, high = 255;
  std::shared_ptr<const std::vector<uint8_t>> table;  // of 256 bytes; null: none

  const uint8_t* table_data() const { return table ? table->data() : nullptr; }

  void bound(float& from, float& to, int32_t zero) const {
    from = std::max(from, static_cast<float>(low - zero));
    to = std::min(to, static_cast<float>(high - zero));
  }
};

inline Place table_step(Program& program, const Place& given, const Kernels& kernels,
                        const std::shared_ptr<const std::vector<uint8_t>>& table) {
  const Place x = program.dense(given);
  const int64_t n = x.extent.numel();
  const auto work = [&kernels, table, n](const uint8_t* const* in, uint8_t* out, int threads) {
    run_lookup(kernels, {in[0], out, n}, table->data(), threads);
  };
  return program.step({x}, x.extent, 1, work, true);
}

inline Place finished(Program& program, const Place& x, const Kernels& kernels,
                      const Finish& finish) {
  return finish.table ? table_step(program, x, kernels, finish.table) : x;
}

}  // namespace qcore
