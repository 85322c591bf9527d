// The vocabulary in AVX-512 with AMX: matrices of 16 rows and 16 columns are multiplied at once.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"
#include "qcore/isa/kernels.h"
#include "tiles_amx.h"

#define QCORE_ISA avx512_amx
#define QCORE_ISA_NAME "avx512_amx"

#include "lanes_avx512.inl.h"

namespace qcore::avx512_amx {
namespace {

using Tiles = void;

// Blocks of sums in four tile registers: 16 rows of 64 or 48 columns, 32 of 32, 64 of 16. Rows in
// the memory of the input and units of weights as they are packed are operands already: both are
// read by lines, so many bytes apart.
struct Blocks {
  static constexpr int kGroups = 16;  // along K that a tile holds at most
  static constexpr int kTileRows = 16;
  static constexpr int kFewestRows = 4, kFewestGroups = 8;  // fewer are done sooner without
  static constexpr int64_t kL1Bytes = 48 * 1024;            // of every CPU with AMX so far
  static constexpr int rows(int units) { return units > 2 ? kTileRows : 4 / units * kTileRows; }

  // What this thread's registers are configured as between the first call of gemm and the last one
  // that share it. Nothing is taken for granted beyond that: other libraries use the same
  // registers.
  struct Configured {
    bool held = false;
    int64_t rows = 0, groups = 0;
  };
  static Configured& configured() {
    static thread_local Configured c;
    return c;
  }

  static void hold(bool held) {
    configured().held = held;
    if (!held) end();
  }

  static int64_t groups_of(const GemmInput& in) { return in.piece_groups; }

  static void begin(const GemmInput& in) {
    Configured& now = configured();
    const int64_t rows = in.rows < kTileRows ? in.rows : kTileRows, groups = groups_of(in);
    if (now.rows == rows && now.groups == groups) return;
    TileConfig config;
    const auto tiles = [&](int first, int last, int64_t lines, int64_t bytes) {
      for (int i = first; i < last; ++i) {
        config.rows[i] = static_cast<uint8_t>(lines);
        config.row_bytes[i] = static_cast<uint16_t>(bytes);
      }
    };
    tiles(0, 4, rows, 4 * kLanes);
    tiles(4, 6, rows, groups * kGroup);
    tiles(6, 8, groups, kUnit);
    load_tile_config(&config);
    now.rows = rows;
    now.groups = groups;
  }

  static void end() {
    Configured& now = configured();
    if (now.held || now.rows == 0) return;
    release_tiles();
    now.rows = 0;
  }

  // Where tile t of those from `row` on begins: one that would reach beyond the last row begins
  // before it.
  static int64_t first_of(const GemmInput& in, int64_t row, int t) {
    const int64_t first = row + t * kTileRows, last = in.rows < kTileRows ? 0 : in.rows - kTileRows;
    return first < last ? first : last;
  }

  // T tiles of rows from `row` on, times U units, in registers.
  template <int T, int U>
  static QCORE_INLINE void multiply(const GemmInput& in, const int8_t* w, int64_t step,
                                    int64_t row) {
    static_assert(T * U <= 4);
    const int64_t groups = groups_of(in);
    const uint8_t* x[T];
    unroll<T>([&](auto t) QCORE_INLINE_LAMBDA {
      x[t.value] = in.x + first_of(in, row, t.value) * in.stride;
    });
    unroll<T * U>([&](auto i) QCORE_INLINE_LAMBDA { zero_tile<i.value>(); });
    for (int64_t k = 0, piece = 0; k < in.groups; k += groups, ++piece, w += groups * step) {
      const int64_t from = in.pieces ? in.pieces[piece] : k * kGroup;
      unroll<T>([&](auto t) QCORE_INLINE_LAMBDA {
        constexpr int kRow = decltype(t)::value, kX = 4 + kRow % 2;
        load_tile<kX>(x[kRow] + from, in.stride);
        unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
          constexpr int kColumn = decltype(u)::value, kW = 6 + kColumn % 2;
          if (kRow == 0) load_tile<kW>(w + kColumn * kUnit, step);
          dot_tiles<kRow * U + kColumn, kX, kW>();
        });
      });
    }
  }

  // Their sums, [row][unit]; up to 15 rows in front of `sums` are overwritten.
  template <int T, int U>
  static QCORE_INLINE void store(const GemmInput& in, int64_t row, I32* sums) {
    unroll<T>([&](auto t) QCORE_INLINE_LAMBDA {
      I32* to = sums + (first_of(in, row, t.value) - row) * U;
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        store_tile<decltype(t)::value * U + decltype(u)::value>(to + u.value, U * sizeof(I32));
      });
    });
  }

  // Steps [first, end) along K of the tile of rows from `row` on: sums, or added to these.
  // Meanwhile lines from `next` on come into the L2 cache, `ahead` bytes of them in each step.
  struct Products {
    const int8_t* w;
    int64_t step;  // distance of groups of weights
    int64_t row;
    int64_t first, end;
    bool adds;
    const int8_t* next;
    int64_t ahead;
  };

  // The tile times U units: sums of [row][unit].
  template <int U>
  static __attribute__((noinline)) void add_products(const GemmInput& in, const Products& p,
                                                     I32* sums) {
    const int64_t groups = groups_of(in), step = p.step;
    const int8_t *w = p.w + p.first * groups * step, *next = p.next;
    const uint8_t* x = in.x + p.row * in.stride;
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      constexpr int kSums = decltype(u)::value;
      if (p.adds) {
        load_tile<kSums>(sums + kSums, U * sizeof(I32));
      } else {
        zero_tile<kSums>();
      }
    });
    for (int64_t k = p.first; k < p.end; ++k, w += groups * step) {
      load_tile<4>(x + (in.pieces ? in.pieces[k] : k * groups * kGroup), in.stride);
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        constexpr int kColumn = decltype(u)::value, kW = 6 + kColumn % 2;
        load_tile<kW>(w + kColumn * kUnit, step);
        dot_tiles<kColumn, 4, kW>();
      });
      for (const int8_t* to = next + p.ahead; next < to; next += 64) __builtin_prefetch(next, 0, 2);
    }
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      store_tile<decltype(u)::value>(sums + decltype(u)::value, U * sizeof(I32));
    });
  }
};

}  // namespace
}  // namespace qcore::avx512_amx
