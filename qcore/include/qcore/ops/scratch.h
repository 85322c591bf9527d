// Room that each thread keeps from call to call.
#pragma once

#include <cstdint>

#include "qcore/base/buffer.h"
#include "qcore/isa/convolution.h"

namespace qcore {

struct Scratch {
  Buffer<uint8_t> rows, planes;
  Buffer<int16_t> prepared, wide_panel;
  Buffer<int32_t> sums, wide_sums;
  Buffer<float> scales, floats;
  Buffer<int32_t> zeros;
  Buffer<const uint8_t*> taps;
  Buffer<DepthwiseLine> lines;

  static Scratch& of_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
};

}  // namespace qcore
