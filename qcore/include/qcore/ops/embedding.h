// Bags of rows of an integer table, on threads that take some bags at a time.
#pragma once

#include <algorithm>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "qcore/base/buffer.h"
#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/base/thread_pool.h"

namespace qcore {

// Which entries make up each bag: from offsets[b] to the next one (the last bag: to the last entry), or `length` for each.
struct BagRanges {
  int64_t count, entries;
  const int64_t* offsets;  // null: all of one length
  int64_t length;

  int64_t begin(int64_t bag) const { return !offsets ? bag * length : bag < count ? offsets[bag] : entries; }
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

// Large pages for memory not written to yet, where the system has them: rows drawn at random miss few of their translations.
inline void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kLargePage = 1 << 21;
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + kLargePage - 1) / kLargePage * kLargePage, end = (address + bytes) / kLargePage * kLargePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

struct BagScratch {
  Buffer<int64_t> rows, counts;
  Buffer<float> weights, divisors;
};

// The rows of `n` indices; those that were pruned are left out, with their weights. Returns how many are left.
template <class Index>
int64_t find_rows(const RowNames& names, const Index* indices, const float* weights, int64_t n, int64_t* rows, float* kept) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = names.find(indices[i]);
    if (row < 0) continue;
    if (weights) kept[found] = weights[i];
    rows[found++] = row;
  }
  return found;
}

// y (bags, dim); `weights`: of each entry, or null; `mean`: sums are divided by the sizes of the bags.
template <class Index>
void sum_bags(const Kernels& kernels, const Table& table, const RowNames& names, const BagRanges& ranges, const Index* indices, const float* weights, bool mean,
              float* y, int threads) {
  constexpr int64_t kGroupEntries = 2048;  // summed by one call of the kernel, at least one bag
  constexpr int64_t kGrainValues = 1 << 15;
  constexpr bool kWide = std::is_same_v<Index, int64_t>;
  const int64_t values = (ranges.entries / std::max<int64_t>(ranges.count, 1) + 1) * table.dim;
  parallel_ranges(threads, ranges.count, std::max<int64_t>(kGrainValues / std::max<int64_t>(values, 1), 1), [&](int64_t begin, int64_t end) {
    static thread_local BagScratch scratch;
    for (int64_t first = begin, last; first < end; first = last) {
      const int64_t start = ranges.begin(first), most = std::min(end, first + kGroupEntries);
      int64_t* counts = scratch.counts.reserve(most - first);
      int64_t entries = 0;
      for (last = first; last < most; ++last) {
        const int64_t next = ranges.begin(last + 1) - start;
        if (next > kGroupEntries && last > first) break;
        counts[last - first] = next - entries;
        entries = next;
      }
      float* divisors = mean ? scratch.divisors.reserve(last - first) : nullptr;
      for (int64_t i = 0; mean && i < last - first; ++i) divisors[i] = static_cast<float>(std::max<int64_t>(counts[i], 1));
      Bags bags{nullptr, entries, weights ? weights + start : nullptr, counts, divisors, last - first, y + first * table.dim};
      if constexpr (kWide) {
        if (!names.mapping) bags.rows = indices + start;
      }
      if (!bags.rows) {
        int64_t* rows = scratch.rows.reserve(entries);
        float* kept = weights ? scratch.weights.reserve(entries) : nullptr;
        bags.rows = rows, bags.weights = kept, bags.entries = 0;
        for (int64_t bag = first; bag < last; ++bag) {
          const int64_t from = ranges.begin(bag), done = bags.entries;
          counts[bag - first] = find_rows(names, indices + from, weights ? weights + from : nullptr, counts[bag - first], rows + done, kept ? kept + done : nullptr);
          bags.entries += counts[bag - first];
        }
      }
      if (!kernels.sum_bags(table, bags)) {
        for (int64_t i = 0; i < bags.entries; ++i) names.find(bags.rows[i]);
      }
    }
  });
}

}  // namespace qcore
