// How memory falls into channels, and pieces of it for threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "qcore/base/thread_pool.h"
#include "qcore/isa/layout.h"

namespace qcore {

constexpr int64_t kTrainingGrain = 1 << 15;  // elements; a multiple of 16

// How memory of a dense tensor falls into channels: element i belongs to channel i / inner %
// channels. One channel: the whole tensor.
struct ChannelLayout {
  int64_t numel = 0, channels = 1, inner = 1;
};

// [0, n) in pieces that begin at multiples of 16.
template <class Work>
void parallel_blocks(int threads, int64_t n, const Work& work) {
  parallel_ranges(
      threads, (n + kLanes - 1) / kLanes, kTrainingGrain / kLanes,
      [&](int64_t begin, int64_t end) { work(begin * kLanes, std::min(end * kLanes, n)); });
}

}  // namespace qcore
