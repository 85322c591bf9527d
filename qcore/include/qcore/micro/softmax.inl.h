// Softmax of a row of integers, from the whole terms of each distance below its greatest.
#pragma once

#include <cstdint>

#include "qcore/micro/elementwise.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// terms: 256 of them. Rows of more integers than there are values get a table of results.
void softmax(const uint8_t* x, uint8_t* y, int64_t n, const int64_t* terms,
             const IntegerResult& r) {
  uint8_t greatest = 0;
  for (int64_t i = 0; i < n; ++i) greatest = x[i] > greatest ? x[i] : greatest;
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += terms[greatest - x[i]];
  const auto total = static_cast<double>(sum);
  const auto shares = [&](const uint8_t* from, uint8_t* to, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes) {
      const int lanes = static_cast<int>(count - i < kLanes ? count - i : kLanes);
      Lanes<float> share;
      for (int lane = 0; lane < lanes; ++lane) {
        share.v[lane] =
            static_cast<float>(static_cast<double>(terms[greatest - from[i + lane]]) / total);
      }
      store_bytes(to + i, result_lanes(load_f32(share.v), r), lanes);
    }
  };
  if (n <= 256) return shares(x, y, n);
  uint8_t values[256], results[256];
  for (int v = 0; v < 256; ++v) values[v] = static_cast<uint8_t>(v < greatest ? v : greatest);
  shares(values, results, 256);
  lookup(x, y, n, results);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
