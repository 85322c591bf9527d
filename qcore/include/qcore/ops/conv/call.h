// What each algorithm of a convolution is called with.
#pragma once

#include <cstdint>

#include "qcore/isa/gemm.h"
#include "qcore/ops/windows.h"

namespace qcore {

struct ConvCall {
  const Windows& windows;
  const uint8_t* x;  // channels last
  uint8_t zero;      // what padding holds
  RequantizedOutput out;

  const uint8_t* end() const { return x + windows.input_bytes(); }
};

}  // namespace qcore
