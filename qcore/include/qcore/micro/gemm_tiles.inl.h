// Tiles of a matrix multiplication: rows against units of weights, summed in registers.
#pragma once

#include <cstdint>

#include "qcore/micro/gemm_rows.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// Sums of one tile, [row][unit], on their way from the registers to the epilogue. Kept apart from
// it, so that the registers of the inner loop are not spilled for its sake.
struct Tile {
  I32 sums[kMaxTileSums];
};

// Weights of units of 16 columns: [step along K][unit][16][values of a step], as they were packed
// or widened.
template <class Value>
struct Units {
  const Value* w;
  int64_t step;  // distance of steps
  bool extreme = false;
  bool adds = false;            // to sums that there are
  const Value* next = nullptr;  // weights that will be needed, a cache line to each step,
                                // `next_step` apart; null: none
  int64_t next_step = 0;

  static constexpr int kValues =
      kGroup / sizeof(Value);  // a dot product takes 4 bytes along K, or 2 widened values
};

// R rows x U units, all of K in registers. `begins`: what the sums of each column begin with;
// kInPieces: rows are not one behind the other.
template <int R, int U, bool kInPieces, class Value>
__attribute__((noinline)) void accumulate(const GemmInput& in, const Units<Value>& units,
                                          const int32_t* begins, int64_t row, I32* sums) {
  constexpr int kValues = Units<Value>::kValues, kCacheLine = 64 / sizeof(Value),
                kAhead = 3072 / sizeof(Value);
  I32 acc[R][U];
  const RowValue* x[R];
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    x[r.value] = row_of<RowValue>(in, row + r.value);
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      acc[r.value][u.value] = load_i32(begins + u.value * kLanes);
    });
  });
  if (units.adds) {
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      unroll<U>([&](auto u)
                    QCORE_INLINE_LAMBDA { acc[r.value][u.value] = sums[r.value * U + u.value]; });
    });
  }
  const Value *w = units.w, *next = units.next ? units.next : w;
  const auto step = [&](int64_t k) QCORE_INLINE_LAMBDA {
    using Weight = decltype(load_weights(w));
    const auto unit = [&](auto u) QCORE_INLINE_LAMBDA {
      return load_weights(w + u.value * kLanes * kValues);
    };
    const auto same = [&](auto r) QCORE_INLINE_LAMBDA {
      return load_same(x[r.value] + k, Constant<kValues>{});
    };
    if constexpr (sizeof(Weight) > sizeof(I32)) {
      // Unpacked weights take several registers: one unit at a time leaves the sums theirs.
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        const Weight weights = unit(u);
        unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
          acc[r.value][u.value] = dot(acc[r.value][u.value], same(r), weights);
        });
      });
    } else {
      Weight weights[U];
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { weights[u.value] = unit(u); });
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const auto values = same(r);
        unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
          acc[r.value][u.value] = dot(acc[r.value][u.value], values, weights[u.value]);
        });
      });
    }
    if constexpr (R == 1) {  // one row reads weights as fast as they come
      unroll<U * kLanes * kValues / kCacheLine>([&](auto line) QCORE_INLINE_LAMBDA {
        __builtin_prefetch(w + kAhead + line.value * kCacheLine);
      });
    } else {
      __builtin_prefetch(next, 0, 2);
      next += units.next_step;
    }
    w += units.step;
  };
  const int64_t k_end = in.groups * kGroup;
  if constexpr (kInPieces) {
    const int64_t bytes = in.piece_groups * kGroup;
    const int64_t* piece = in.pieces;
    for (int64_t done = 0; done < k_end; done += bytes, ++piece) {
      for (int64_t k = *piece, end = k + bytes; k < end; k += kValues) step(k);
    }
  } else {
    for (int64_t k = 0; k < k_end; k += kValues) step(k);
  }
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    unroll<U>([&](auto u)
                  QCORE_INLINE_LAMBDA { sums[r.value * U + u.value] = acc[r.value][u.value]; });
  });
}

// The same by what the ISA has for it.
template <class Own, int R>
__attribute__((noinline)) void accumulate(const GemmInput& in, const Units<int8_t>& units,
                                          const int32_t* begins, int64_t row, I32* sums) {
  Own::template accumulate<R>(in, units.w, units.extreme, row, begins, sums);
}

template <int R, int U, class Value>
void accumulate_rows(int rows, const GemmInput& in, const Units<Value>& units,
                     const int32_t* begins, int64_t row, I32* sums) {
  if (rows == R) {
    if constexpr (kOwnTiles) {
      return accumulate<Tiles, R>(in, units, begins, row, sums);
    } else {
      if constexpr (kInPlace) {
        if (in.pieces) return accumulate<R, U, true>(in, units, begins, row, sums);
      }
      return accumulate<R, U, false>(in, units, begins, row, sums);
    }
  }
  if constexpr (R > 1) accumulate_rows<R - 1, U>(rows, in, units, begins, row, sums);
}

inline void subtract_weight_zeros(I32* sums, const GemmInput& in, const int32_t* weight_zero,
                                  int64_t row, int rows, int units) {
  for (int i = 0; i < rows * units; ++i) {
    sums[i] = add(sums[i], mul(load_i32(weight_zero + i % units * kLanes),
                               set_i32(-in.sums[row + i / units])));
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
