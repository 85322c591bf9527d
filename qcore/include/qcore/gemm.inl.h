// Matrix multiplication, u8 x s8 -> exact int32, with its epilogue in registers. Included once per ISA, after elementwise.inl.h.

namespace qcore::QCORE_ISA {
namespace {

// Sums of one tile, [row][unit], on their way from the registers to the epilogue. Kept apart from it, so that the registers of the
// inner loop are not spilled for its sake.
struct Tile {
  I32 sums[kMaxTileSums];
};

// R rows x U units, all of K in registers.
template <int R, int U>
__attribute__((noinline)) void accumulate(const GemmInput& in, const GemmPanel& panel, int64_t row, int unit, Tile& tile) {
  I32 acc[R][U];
  const uint8_t* x[R];
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    x[r.value] = in.x + (row + r.value) * in.stride;
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = set_i32(0); });
  });
  const int8_t* w = panel.w + unit * kUnit;
  const int64_t step = int64_t{panel.units} * kUnit;
  const int64_t k_end = in.groups * kGroup;
  for (int64_t k = 0; k < k_end; k += kGroup) {
    Weights weights[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { weights[u.value] = load_weights(w + u.value * kUnit); });
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      const Same4 values = load_same4(x[r.value] + k);
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = dot(acc[r.value][u.value], values, weights[u.value]); });
    });
    w += step;
  }
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { tile.sums[r.value * U + u.value] = acc[r.value][u.value]; });
  });
}

template <int R, int U>
void accumulate_rows(int rows, const GemmInput& in, const GemmPanel& panel, int64_t row, int unit, Tile& tile) {
  if (rows == R) return accumulate<R, U>(in, panel, row, unit, tile);
  if constexpr (R > 1) accumulate_rows<R - 1, U>(rows, in, panel, row, unit, tile);
}

inline void subtract_weight_zeros(Tile& tile, const GemmInput& in, const int32_t* weight_zero, int64_t row, int rows, int units) {
  for (int i = 0; i < rows * units; ++i) {
    tile.sums[i] = add(tile.sums[i], mul(load_i32(weight_zero + i % units * kLanes), set_i32(-in.sums[row + i / units])));
  }
}

// The epilogue of a tile: four vectors of a row where it has them, else of a column, so that they are rounded together.
template <int U, class Output>
QCORE_INLINE void finish(const Tile& tile, const GemmPanel& panel, const Output& output, int64_t row, int rows, int unit) {
  const Output out = output;  // a copy that stores of bytes cannot alias
  const auto rounding = rounding_of(out);
  const int first = unit * kLanes;
  auto* y = out.y + row * out.stride + panel.output + first;
  const auto value = [&](int r, int u, const auto& columns, int count) QCORE_INLINE_LAMBDA {
    return result(tile.sums[r * U + u], out, columns, row + r, panel.output + first + u * kLanes, count);
  };
  if constexpr (U == 4) {
    if (panel.columns - first >= 4 * kLanes) {
      const auto c0 = load_columns(out, panel.column + first), c1 = load_columns(out, panel.column + first + kLanes);
      const auto c2 = load_columns(out, panel.column + first + 2 * kLanes), c3 = load_columns(out, panel.column + first + 3 * kLanes);
      for (int r = 0; r < rows; ++r, y += out.stride) {
        store_rounded(y, kLanes, value(r, 0, c0, kLanes), value(r, 1, c1, kLanes), value(r, 2, c2, kLanes), value(r, 3, c3, kLanes), rounding);
      }
      return;
    }
  }
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    const int lane = u.value * kLanes, count = panel.columns - first - lane;
    const auto columns = load_columns(out, panel.column + first + lane);
    const auto at = [&](int r) QCORE_INLINE_LAMBDA { return value(r, u.value, columns, count); };
    auto* to = y + lane;
    int r = 0;
    if (count >= kLanes) {
      for (; r + 4 <= rows; r += 4, to += 4 * out.stride) store_rounded(to, out.stride, at(r), at(r + 1), at(r + 2), at(r + 3), rounding);
      for (; r + 2 <= rows; r += 2, to += 2 * out.stride) store_rounded(to, out.stride, at(r), at(r + 1), rounding);
    }
    for (; r < rows; ++r, to += out.stride) store_some(to, at(r), count, rounding);
  });
}

// All rows against U units of a panel, in tiles of nearly equal height.
template <int U, class Output>
void rows_of(const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  static_assert(kRows * U <= kMaxTileSums);
  const int64_t tiles = (in.rows + kRows - 1) / kRows;
  Tile tile;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = in.rows * t / tiles;
    const int rows = static_cast<int>(in.rows * (t + 1) / tiles - row);
    accumulate_rows<kRows, U>(rows, in, panel, row, unit, tile);
    if (out.weight_zero) subtract_weight_zeros(tile, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
    finish<U>(tile, panel, out, row, rows, unit);
  }
}

template <int U, class Output>
void units_of(int units, const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  if (units == U) return rows_of<U>(in, panel, out, unit);
  if constexpr (U > 1) units_of<U - 1>(units, in, panel, out, unit);
}

int64_t peak(int64_t rounds) {
  constexpr int kSums = tile_rows(kTileUnits) * kTileUnits;
  I32 acc[kSums];
  unroll<kSums>([&](auto i) QCORE_INLINE_LAMBDA { acc[i.value] = set_i32(i.value); });
  const uint8_t x[kGroup] = {1, 2, 3, 4};
  const int8_t w[kUnit] = {1, -2, 3};
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : : "r"(x), "r"(w) : "memory");  // as if they had changed
    const Same4 values = load_same4(x);
    const Weights weights = load_weights(w);
    unroll<kSums>([&](auto i) QCORE_INLINE_LAMBDA { acc[i.value] = dot(acc[i.value], values, weights); });
  }
  Tile tile;
  unroll<kSums>([&](auto i) QCORE_INLINE_LAMBDA { tile.sums[i.value] = acc[i.value]; });
  asm volatile("" : : "r"(&tile) : "memory");
  return rounds * kSums;
}

template <class Output>
void gemm(const GemmInput& in, const GemmPanel& panel, const Output& out) {
  for (int unit = 0; unit < panel.units; unit += kTileUnits) {
    const int left = panel.units - unit;
    units_of<kTileUnits>(left < kTileUnits ? left : kTileUnits, in, panel, out, unit);
  }
}

// A lookup replaces the bytes while they are in the cache.
void gemm_u8(const GemmInput& in, const GemmPanel& panel, const RequantizedOutput& out) {
  if (out.residual.x) {
    gemm(in, panel, SummedOutput{out});
  } else {
    gemm(in, panel, out);
  }
  if (out.table) {
    for (int64_t row = 0; row < in.rows; ++row) {
      uint8_t* y = out.y + row * out.stride + panel.output;
      lookup(y, y, panel.columns, out.table);
    }
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
