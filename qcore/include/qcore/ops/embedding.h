// Bags of rows of an integer table, on threads that take some bags at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "qcore/base/buffer.h"
#include "qcore/base/error.h"
#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"

namespace qcore {

// Which entries make up each bag: from offsets[b] to the next one (the last bag: to the last
// entry), or `length` for each.
struct BagRanges {
  int64_t count, entries;
  const int64_t* offsets;  // null: all of one length
  int64_t length;

  // Raises ArgumentError for `given` offsets that do not rise from 0 to the entries; with `last`,
  // the last one is their number.
  void check_offsets(int64_t given, bool last) const {
    int64_t before = 0;
    bool rises = given > 0 ? offsets[0] == 0 : entries == 0;
    for (int64_t i = 0; i < given; ++i) {
      rises = rises && offsets[i] >= before;
      before = offsets[i];
    }
    if (!rises || before > entries || (last && before != entries)) {
      throw ArgumentError("offsets must rise from 0 to " + std::to_string(entries) +
                          ", the number of indices");
    }
  }

  int64_t begin(int64_t bag) const {
    return !offsets ? bag * length : bag < count ? offsets[bag] : entries;
  }
};

// The rows that indices stand for: themselves, or what a mapping says, which is -1 for a row that
// was pruned.
struct RowNames {
  int64_t count;  // indices are below
  const int64_t* mapping;
  int64_t rows;

  int64_t find(int64_t index) const {
    if (index < 0 || index >= count) {
      throw ArgumentError("index " + std::to_string(index) + " is outside of the table: it has " +
                          std::to_string(count) + " entries");
    }
    if (!mapping) return index;
    const int64_t row = mapping[index];
    if (row < -1 || row >= rows) {
      throw ArgumentError("mapping[" + std::to_string(index) + "] is " + std::to_string(row) +
                          ": the table has no such row");
    }
    return row;
  }
};

// Large pages for memory not written to yet, where the system has them: rows drawn at random miss
// few of their translations.
inline void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kLargePage = 1 << 21;
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t begin = (address + kLargePage - 1) / kLargePage * kLargePage,
                  end = (address + bytes) / kLargePage * kLargePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

// A table, and the rows that indices stand for.
struct EmbeddingRows {
  Table table{};
  RowNames names{};
};

struct BagScratch {
  Buffer<int64_t> rows, counts;
  Buffer<float> weights, divisors;
};

// The rows of `n` indices; those that were pruned are left out, with their weights. Returns how
// many are left.
template <class Index>
int64_t find_rows(const RowNames& names, const Index* indices, const float* weights, int64_t n,
                  int64_t* rows, float* kept) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = names.find(indices[i]);
    if (row < 0) continue;
    if (weights) kept[found] = weights[i];
    rows[found++] = row;
  }
  return found;
}

// What is summed: entries of all bags, and how. y (bags, dim).
template <class Index>
struct BagSums {
  const Index* indices;
  const float* weights;  // of each entry; null: none
  bool mean;             // sums are divided by the sizes of the bags
  float* y;
};

template <class Index>
void run_bags(const Kernels& kernels, const EmbeddingRows& from, const BagRanges& ranges,
              const BagSums<Index>& sums, int threads) {
  const Table& table = from.table;
  const RowNames& names = from.names;
  const float* const weights = sums.weights;
  constexpr int64_t kGroupEntries = 2048;  // summed by one call of the kernel, at least one bag
  constexpr int64_t kGrainValues = 1 << 15;
  constexpr bool kWide = std::is_same_v<Index, int64_t>;
  const int64_t values = (ranges.entries / std::max<int64_t>(ranges.count, 1) + 1) * table.dim;
  parallel_ranges(threads, ranges.count,
                  std::max<int64_t>(kGrainValues / std::max<int64_t>(values, 1), 1),
                  [&](int64_t begin, int64_t end) {
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
      float* divisors = sums.mean ? scratch.divisors.reserve(last - first) : nullptr;
      for (int64_t i = 0; sums.mean && i < last - first; ++i) {
        divisors[i] = static_cast<float>(std::max<int64_t>(counts[i], 1));
      }
      Bags bags{nullptr,  entries,      weights ? weights + start : nullptr, counts,
                divisors, last - first, sums.y + first * table.dim};
      if constexpr (kWide) {
        if (!names.mapping) bags.rows = sums.indices + start;
      }
      if (!bags.rows) {
        int64_t* rows = scratch.rows.reserve(entries);
        float* kept = weights ? scratch.weights.reserve(entries) : nullptr;
        bags.rows = rows;
        bags.weights = kept;
        bags.entries = 0;
        for (int64_t bag = first; bag < last; ++bag) {
          const int64_t from = ranges.begin(bag), done = bags.entries;
          counts[bag - first] =
              find_rows(names, sums.indices + from, weights ? weights + from : nullptr,
                        counts[bag - first], rows + done, kept ? kept + done : nullptr);
          bags.entries += counts[bag - first];
        }
      }
      if (!kernels.sum_bags(table, bags)) {
        for (int64_t i = 0; i < bags.entries; ++i) names.find(bags.rows[i]);
      }
    }
  });
}

// Bytes are read where they lie; values of 4 bits are packed in pairs, 16 values to 8 bytes.
class Embedding {
 public:
  // weight (rows, dim), of values of 4 bits where `nibbles`; parameters (rows, 2): scale and
  // offset. Raises ArgumentError for greater values.
  Embedding(const Kernels& kernels, const Table& weight, const RowNames& names)
      : kernels_(kernels), rows_{weight, names} {
    float* kept = parameters_.reserve(2 * weight.count);
    prefer_large_pages(kept, static_cast<size_t>(2 * weight.count) * sizeof(float));
    std::copy_n(weight.parameters, 2 * weight.count, kept);
    rows_.table.parameters = kept;
    if (weight.nibbles) pack();
  }

  int64_t dim() const { return rows_.table.dim; }

  template <class Index>
  void run(const BagRanges& ranges, const BagSums<Index>& sums, int threads) const {
    run_bags(kernels_, rows_, ranges, sums, threads);
  }

 private:
  void pack() {
    Table& table = rows_.table;
    const uint8_t* from = table.rows;
    table.stride = round_up(table.dim, kLanes) / 2;
    uint8_t* to = packed_.reserve(table.count * table.stride);
    std::memset(to, 0, static_cast<size_t>(table.count * table.stride));
    table.rows = to;
    for (int64_t row = 0; row < table.count; ++row, from += table.dim, to += table.stride) {
      for (int64_t i = 0; i < table.dim; ++i) {
        if (from[i] > 15) {
          throw ArgumentError("weight holds " + std::to_string(from[i]) +
                              ", which is not a value of 4 bits");
        }
        const int64_t lane = i % kLanes;
        to[i / kLanes * 8 + lane % 8] |= static_cast<uint8_t>(lane < 8 ? from[i] : from[i] << 4);
      }
    }
  }

  const Kernels& kernels_;
  EmbeddingRows rows_;
  Buffer<float> parameters_;
  Buffer<uint8_t> packed_;
};

}  // namespace qcore
