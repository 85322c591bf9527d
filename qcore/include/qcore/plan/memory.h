// Which memory the values of a program have: where they lie in one arena, and when a step may put
// its result over what it reads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "qcore/base/extent.h"
#include "qcore/base/sizes.h"

namespace qcore {

// A value in a program: which buffer holds it, from which byte on, and how.
struct Place {
  int buffer = -1;
  int64_t offset = 0;
  int item = 1;  // bytes of an element; 0: only the sizes are there
  Extent extent;
  int64_t row_values =
      0;  // of each quantized row, which lie there for dynamic linears; 0: elements as they are

  // Behind the last byte that is read.
  int64_t end() const {
    if (extent.numel() == 0) return offset;
    int64_t last = 0;
    for (size_t i = 0; i < static_cast<size_t>(extent.rank); ++i) {
      last += checked_product(extent.size[i] - 1, extent.stride[i]);
    }
    return offset + checked_product(last + 1, item);
  }
};

inline bool same_elements(const Place& a, const Place& b) {
  return a.offset == b.offset && a.item == b.item && same_sizes(a.extent, b.extent) &&
         same_strides(a.extent, b.extent);
}

// Whether a step may write `out` over the memory, of `bytes`, of its first input. The step computes
// each element from those of its inputs that have the index of the result, or that lie in other
// memory. `root(buffer)`: the same for two buffers that share memory.
template <class Root>
bool may_overwrite(const std::vector<Place>& in, const Place& out, int64_t bytes,
                   const Root& root) {
  const Place& first = in[0];
  Place whole = out;
  whole.offset = 0;
  if (!same_elements(first, whole) || first.end() != bytes) return false;
  return std::all_of(in.begin() + 1, in.end(), [&](const Place& other) {
    return root(other.buffer) != root(first.buffer) || same_elements(other, first);
  });
}

// A piece of an arena that is in use from one step to another, both included.
struct Lifetime {
  int64_t bytes;
  int first, last;
};

struct Placement {
  std::vector<int64_t> offsets;
  int64_t bytes = 0;  // of the arena
};

// Largest first, each at the lowest place that is free for as long as it lives; offsets are
// multiples of 64.
inline Placement placed(const std::vector<Lifetime>& lives) {
  std::vector<size_t> order(lives.size()), done;
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lives[a].bytes > lives[b].bytes; });
  Placement found;
  found.offsets.assign(lives.size(), 0);
  for (const size_t index : order) {
    const Lifetime& life = lives[index];
    int64_t offset = 0;
    for (const size_t other : done) {  // by offset
      const Lifetime& placed = lives[other];
      const bool overlaps = placed.first <= life.last && life.first <= placed.last;
      if (!overlaps) continue;
      if (offset + life.bytes <= found.offsets[other]) break;
      offset = std::max(offset, divided_up(found.offsets[other] + placed.bytes, 64) * 64);
    }
    found.offsets[index] = offset;
    found.bytes = std::max(found.bytes, offset + life.bytes);
    done.insert(
        std::upper_bound(done.begin(), done.end(), index,
                         [&](size_t a, size_t b) { return found.offsets[a] < found.offsets[b]; }),
        index);
  }
  return found;
}

}  // namespace qcore
