// Sums of rows of integer tables, 16 columns to a vector.
#pragma once

#include <cstdint>

#include "qcore/micro/epilogue.inl.h"

namespace qcore::QCORE_ISA {
namespace {

constexpr int kAhead = 24;  // rows fetched into the cache before they are needed

struct Bytes {
  static QCORE_INLINE I32 load(const uint8_t* row, int64_t column, int count) {
    return count >= kLanes ? load_bytes(row + column) : load_bytes(some(row + column, count).v);
  }
  static constexpr int kPerByte = 1;
};

struct Nibbles {
  static QCORE_INLINE I32 load(const uint8_t* row, int64_t column, int /*count*/) {
    return load_nibbles(row + column / 2);
  }
  static constexpr int kPerByte = 2;
};

QCORE_INLINE void fetch(const Table& t, int64_t row) {
  constexpr int64_t kCacheLine = 64;
  const uint8_t* from = t.rows + row * t.stride;
  for (int64_t byte = 0; byte < t.stride; byte += kCacheLine) __builtin_prefetch(from + byte);
  if (t.stride % kCacheLine != 0) __builtin_prefetch(from + t.stride - 1);
  __builtin_prefetch(t.parameters + 2 * row);
}

// Bags [begin, end), of which the first begins with this entry.
struct BagGroup {
  int64_t begin, end, entry;
};

// U vectors of columns of the sums of a group, from `column` on; the last vector, at `last`, may
// overlap the one before it. The first columns fetch whole rows, for the columns that follow and
// for the groups to come.
template <class Values, int U, bool kWeighted>
void sum_columns(const Table& t, const Bags& bags, const BagGroup& group, int64_t column,
                 int64_t last) {
  const auto at = [&](int u)
                      QCORE_INLINE_LAMBDA { return u == U - 1 ? last : column + u * kLanes; };
  const int count = static_cast<int>(t.dim - last < kLanes ? t.dim - last : kLanes);
  const int64_t fetched = column == 0 ? bags.entries - kAhead : 0;
  int64_t entry = group.entry;
  float* y = bags.y + group.begin * t.dim;
  for (int64_t bag = group.begin; bag < group.end; ++bag, y += t.dim) {
    F32 acc[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[u.value] = set_f32(0.0f); });
    for (const int64_t end = entry + bags.counts[bag]; entry < end; ++entry) {
      if (entry < fetched) fetch(t, bags.rows[entry + kAhead]);
      const uint8_t* row = t.rows + bags.rows[entry] * t.stride;
      float scale = t.parameters[2 * bags.rows[entry]],
            offset = t.parameters[2 * bags.rows[entry] + 1];
      if constexpr (kWeighted) {
        scale *= bags.weights[entry];
        offset *= bags.weights[entry];
      }
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        const F32 q = to_f32(Values::load(
            row, at(u.value), U == 1 ? count : kLanes));  // of several vectors, each is whole
        acc[u.value] = fma(set_f32(scale), q, add(acc[u.value], set_f32(offset)));
      });
    }
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      if (bags.divisors) acc[u.value] = div(acc[u.value], set_f32(bags.divisors[bag]));
      store_f32(y + at(u.value), acc[u.value], u.value == U - 1 ? count : kLanes);
    });
  }
}

template <class Values, int U>
void sum_vectors(int vectors, const Table& t, const Bags& bags, const BagGroup& group,
                 int64_t column, int64_t last) {
  if (vectors == U) {
    return bags.weights ? sum_columns<Values, U, true>(t, bags, group, column, last)
                        : sum_columns<Values, U, false>(t, bags, group, column, last);
  }
  if constexpr (U > 1) sum_vectors<Values, U - 1>(vectors, t, bags, group, column, last);
}

template <class Values>
void sum_bags_of(const Table& t, const Bags& bags) {
  constexpr int64_t kVectors = kTileUnits > 1 ? 8 : 4;
  // Whole vectors only, where the row has one: the last one then ends with the row. Packed nibbles
  // are padded instead.
  const int64_t rightmost =
      Values::kPerByte == 1 && t.dim >= kLanes ? t.dim - kLanes : (t.dim - 1) / kLanes * kLanes;
  const bool narrow = t.dim <= kVectors * kLanes;
  for (int64_t i = 0; i < bags.entries && i < kAhead; ++i) fetch(t, bags.rows[i]);
  for (BagGroup group{0, 0, 0}; group.begin < bags.bags; group.begin = group.end) {
    // Rows of a group stay in the cache from the first columns to the last; where the first are
    // all, a group may be of any size.
    int64_t end = group.entry;
    do end += bags.counts[group.end++];
    while (group.end < bags.bags &&
           (narrow || end + bags.counts[group.end] <= group.entry + kAhead));
    for (int64_t column = 0; column < t.dim; column += kVectors * kLanes) {
      const int64_t left = (t.dim - column + kLanes - 1) / kLanes;
      const int64_t vectors = left < kVectors ? left : kVectors;
      const int64_t last = column + (vectors - 1) * kLanes;
      sum_vectors<Values, kVectors>(static_cast<int>(vectors), t, bags, group, column,
                                    last < rightmost ? last : rightmost);
    }
    group.entry = end;
  }
}

// False, and nothing done, where the table lacks a row.
bool sum_bags(const Table& t, const Bags& bags) {
  const auto last = static_cast<uint64_t>(t.count - 1);
  uint64_t signs = 0;  // the highest bit is set where a row is negative, or higher than the last;
                       // compilers vectorize this
  for (int64_t i = 0; i < bags.entries; ++i) {
    const auto row = static_cast<uint64_t>(bags.rows[i]);
    signs |= row | (last - row);
  }
  if (signs >> 63) return false;
  t.nibbles ? sum_bags_of<Nibbles>(t, bags) : sum_bags_of<Bytes>(t, bags);
  return true;
}

}  // namespace
}  // namespace qcore::QCORE_ISA
