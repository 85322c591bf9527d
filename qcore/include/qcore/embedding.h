// Bags of rows of an integer table, on threads that take some bags at a time.
#pragma once

#include <algorithm>
#include <string>

#include "qcore/buffer.h"
#include "qcore/error.h"
#include "qcore/kernels.h"
#include "qcore/parallel.h"

namespace qcore {

// Which entries make up each bag: from offsets[b] to the next one (the last bag: to the last entry), or `length` for each.
struct Bags {
  int64_t count, entries;
  const int64_t* offsets;  // null: all of one length
  int64_t length;

  int64_t begin(int64_t bag) const { return !offsets ? bag * length : bag < count ? offsets[bag] : entries; }
  int64_t size(int64_t bag) const { return begin(bag + 1) - begin(bag); }
};

// The rows that indices stand for: themselves, or what a mapping says, which is -1 for a row that was pruned.
struct RowNames {
  int64_t count;  // indices are below
  const int64_t* mapping;
  int64_t rows;

  int64_t find(int64_t index) const {
    if (index < 0 || index >= count) {
      throw ArgumentError("index " + std::to_string(index) + " is outside of the table: it has " + std::to_string(count) + " entries");
    }
    if (!mapping) return index;
    const int64_t row = mapping[index];
    if (row < -1 || row >= rows) throw ArgumentError("mapping[" + std::to_string(index) + "] is " + std::to_string(row) + ": the table has no such row");
    return row;
  }
};

struct BagScratch {
  Buffer<int64_t> rows;
  Buffer<int64_t> counts;
  Buffer<float> weights;
};

// y (bags, dim); `weights`: of each entry, or null; `mean`: sums are divided by the sizes of the bags.
template <class Index>
void sum_bags(const Kernels& kernels, const Table& table, const RowNames& names, const Bags& bags, const Index* indices, const float* weights, bool mean, float* y,
              int threads) {
  constexpr int64_t kGroupEntries = 2048;  // found before they are summed, at least one bag
  constexpr int64_t kGrainValues = 1 << 15;
  const int64_t values = (bags.entries / std::max<int64_t>(bags.count, 1) + 1) * table.dim;
  parallel_ranges(threads, bags.count, std::max<int64_t>(kGrainValues / std::max<int64_t>(values, 1), 1), [&](int64_t begin, int64_t end) {
    static thread_local BagScratch scratch;
    for (int64_t first = begin, last; first < end; first = last) {
      for (last = first + 1; last < end && bags.begin(last + 1) - bags.begin(first) <= kGroupEntries;) ++last;
      const int64_t entries = bags.begin(last) - bags.begin(first);
      int64_t* rows = scratch.rows.reserve(entries);
      int64_t* counts = scratch.counts.reserve(last - first);
      float* kept = weights ? scratch.weights.reserve(entries) : nullptr;
      int64_t found = 0;
      for (int64_t bag = first; bag < last; ++bag) {
        const int64_t before = found;
        for (int64_t i = bags.begin(bag); i < bags.begin(bag + 1); ++i) {
          const int64_t row = names.find(indices[i]);
          if (row < 0) continue;
          if (kept) kept[found] = weights[i];
          rows[found++] = row;
        }
        counts[bag - first] = found - before;
      }
      for (int64_t bag = first, done = 0; bag < last; ++bag) {
        const int64_t count = counts[bag - first];
        const float divisor = mean ? static_cast<float>(std::max<int64_t>(bags.size(bag), 1)) : 1.0f;
        kernels.bag(table, {rows + done, kept ? kept + done : nullptr, count, found - done, divisor, y + bag * table.dim});
        done += count;
      }
    }
  });
}

}  // namespace qcore
