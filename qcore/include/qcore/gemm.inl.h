// Matrix multiplication, u8 x s8 -> exact int32, with its epilogue in registers. Included once per ISA, after elementwise.inl.h.

namespace qcore::QCORE_ISA {
namespace {

constexpr bool kWidens = !std::is_void_v<Widening>, kOwnTiles = !std::is_void_v<Tiles>, kBlocks = !std::is_void_v<Blocks>;
using RowValue = std::conditional_t<kWidens, int16_t, uint8_t>;  // what the tiles read of rows

template <class Own>
constexpr Layout layout_of() {
  if constexpr (std::is_void_v<Own>) {
    Layout layout;
    layout.widens = kWidens;
    return layout;
  } else {
    return Own::kLayout;
  }
}
template <class Own>
constexpr int64_t row_step_of() {
  if constexpr (std::is_void_v<Own>) {
    return 1;
  } else {
    return Own::kRowStep;
  }
}
template <class OfBlocks>
constexpr Layout with_pieces(Layout layout) {
  if constexpr (!std::is_void_v<OfBlocks>) layout.piece = OfBlocks::kGroups;
  return layout;
}
constexpr Layout kLayout = with_pieces<Blocks>(layout_of<Tiles>());
constexpr int64_t kRowStep = row_step_of<Tiles>();  // tiles begin at multiples of it
constexpr int64_t kUnitBytes = kLanes * kLayout.group;

// From so many groups on, fewer products are worth that sums wait in memory.
QCORE_INLINE bool halves_products(const GemmInput& in) { return in.groups >= 64; }

// Behind each row whose products are halved, as 32 bits, its excess: what its sums begin with.
template <class Wide>
void widen_rows(const GemmInput& in, void* to) {
  const bool halved = halves_products(in);
  for (int64_t row = 0; row < in.rows; ++row) {
    const uint8_t* x = in.x + row * in.stride;
    auto* wide = static_cast<int16_t*>(to) + row * in.prepared_stride;
    if (halved) {
      const int32_t excess = Wide::template row<true>(x, wide, in.groups);
      std::memcpy(wide + in.groups * kGroup, &excess, sizeof excess);
    } else {
      Wide::template row<false>(x, wide, in.groups);
    }
  }
}

template <class Wide = Widening, class Own = Tiles>
constexpr auto rows_preparer() -> void (*)(const GemmInput&, void*) {
  if constexpr (!std::is_void_v<Own>) {
    return Own::prepare;
  } else if constexpr (!std::is_void_v<Wide>) {
    return widen_rows<Wide>;
  } else {
    return nullptr;
  }
}

template <class Value>
QCORE_INLINE const Value* row_of(const GemmInput& in, int64_t row) {
  if constexpr (sizeof(Value) == 2) {
    return static_cast<const int16_t*>(in.prepared) + row * in.prepared_stride;
  } else {
    return in.x + row * in.stride;
  }
}

inline int32_t excess_of_row(const GemmInput& in, int64_t row) {
  int32_t excess;
  std::memcpy(&excess, row_of<int16_t>(in, row) + in.groups * kGroup, sizeof excess);
  return excess;
}

// Rows of the tile that most products are summed in.
template <class Wide, class OfBlocks = Blocks>
constexpr int rows_together() {
  if constexpr (!std::is_void_v<OfBlocks>) {
    return OfBlocks::rows(kTileUnits);
  } else if constexpr (std::is_void_v<Wide>) {
    return tile_rows(kTileUnits);
  } else {
    return Wide::kRows;
  }
}

// Sums of one tile, [row][unit], on their way from the registers to the epilogue. Kept apart from it, so that the registers of the
// inner loop are not spilled for its sake.
struct Tile {
  I32 sums[kMaxTileSums];
};

// Weights of units of 16 columns: [step along K][unit][16][values of a step], as they were packed or widened.
template <class Value>
struct Units {
  const Value* w;
  int64_t step;  // distance of steps
  bool extreme = false;
  bool adds = false;            // to sums that there are
  const Value* next = nullptr;  // weights that will be needed, a cache line to each step, `next_step` apart; null: none
  int64_t next_step = 0;

  static constexpr int kValues = kGroup / sizeof(Value);  // a dot product takes 4 bytes along K, or 2 widened values
};

// R rows x U units, all of K in registers. `begins`: what the sums of each column begin with.
template <int R, int U, class Value>
__attribute__((noinline)) void accumulate(const GemmInput& in, const Units<Value>& units, const int32_t* begins, int64_t row, I32* sums) {
  constexpr int kValues = Units<Value>::kValues, kCacheLine = 64 / sizeof(Value), kAhead = 3072 / sizeof(Value);
  I32 acc[R][U];
  const RowValue* x[R];
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    x[r.value] = row_of<RowValue>(in, row + r.value);
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = load_i32(begins + u.value * kLanes); });
  });
  if (units.adds) {
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = sums[r.value * U + u.value]; });
    });
  }
  const Value *w = units.w, *next = units.next ? units.next : w;
  const int64_t k_end = in.groups * kGroup;
  for (int64_t k = 0; k < k_end; k += kValues) {
    using Weight = decltype(load_weights(w));
    const auto unit = [&](auto u) QCORE_INLINE_LAMBDA { return load_weights(w + u.value * kLanes * kValues); };
    const auto same = [&](auto r) QCORE_INLINE_LAMBDA { return load_same(x[r.value] + k, Constant<kValues>{}); };
    if constexpr (sizeof(Weight) > sizeof(I32)) {
      // Unpacked weights take several registers: one unit at a time leaves the sums theirs.
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        const Weight weights = unit(u);
        unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = dot(acc[r.value][u.value], same(r), weights); });
      });
    } else {
      Weight weights[U];
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { weights[u.value] = unit(u); });
      unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
        const auto values = same(r);
        unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[r.value][u.value] = dot(acc[r.value][u.value], values, weights[u.value]); });
      });
    }
    if constexpr (R == 1) {  // one row reads weights as fast as they come
      unroll<U * kLanes * kValues / kCacheLine>([&](auto line) QCORE_INLINE_LAMBDA { __builtin_prefetch(w + kAhead + line.value * kCacheLine); });
    } else {
      __builtin_prefetch(next, 0, 2);
      next += units.next_step;
    }
    w += units.step;
  }
  unroll<R>([&](auto r) QCORE_INLINE_LAMBDA {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { sums[r.value * U + u.value] = acc[r.value][u.value]; });
  });
}

// The same by what the ISA has for it.
template <class Own, int R>
__attribute__((noinline)) void accumulate(const GemmInput& in, const Units<int8_t>& units, const int32_t* begins, int64_t row, I32* sums) {
  Own::template accumulate<R>(in, units.w, units.extreme, row, begins, sums);
}

template <int R, int U, class Value>
void accumulate_rows(int rows, const GemmInput& in, const Units<Value>& units, const int32_t* begins, int64_t row, I32* sums) {
  if (rows == R) {
    if constexpr (kOwnTiles) {
      return accumulate<Tiles, R>(in, units, begins, row, sums);
    } else {
      return accumulate<R, U>(in, units, begins, row, sums);
    }
  }
  if constexpr (R > 1) accumulate_rows<R - 1, U>(rows, in, units, begins, row, sums);
}

inline void subtract_weight_zeros(I32* sums, const GemmInput& in, const int32_t* weight_zero, int64_t row, int rows, int units) {
  for (int i = 0; i < rows * units; ++i) {
    sums[i] = add(sums[i], mul(load_i32(weight_zero + i % units * kLanes), set_i32(-in.sums[row + i / units])));
  }
}

// The epilogue of sums [row][unit], which began with the offsets or did not. What is rounded together: four vectors of a row where it has
// them, all that it has where some bytes of vectors can be stored, else vectors of a column.
template <int U, bool kBegun, class Output>
QCORE_INLINE void finish(const I32* sums, const GemmPanel& panel, const Output& output, int64_t row, int rows, int unit) {
  const Output out = output;  // a copy that stores of bytes cannot alias
  const auto rounding = rounding_of(out);
  const int first = unit * kLanes;
  auto* y = out.y + row * out.stride + panel.output + first;
  constexpr bool kSome = U > 1 && kStoresSome && sizeof *y == 1;
  const auto columns_of = [&](int u) QCORE_INLINE_LAMBDA {
    auto columns = load_columns(out, panel.column + first + u * kLanes);
    if (kBegun) take_offset(columns);
    return columns;
  };
  const auto value = [&](int r, int u, const auto& columns, int count) QCORE_INLINE_LAMBDA {
    return result(sums[r * U + u], out, columns, row + r, panel.output + first + u * kLanes, count);
  };
  const int together = panel.columns - first;
  if constexpr (U == 4) {
    if (together >= 4 * kLanes) {
      const auto c0 = columns_of(0), c1 = columns_of(1), c2 = columns_of(2), c3 = columns_of(3);
      for (int r = 0; r < rows; ++r, y += out.stride) {
        store_rounded(y, kLanes, value(r, 0, c0, kLanes), value(r, 1, c1, kLanes), value(r, 2, c2, kLanes), value(r, 3, c3, kLanes), rounding);
      }
      return;
    }
  }
  if constexpr (kSome) {
    decltype(columns_of(0)) columns[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { columns[u.value] = columns_of(u.value); });
    for (int r = 0; r < rows; ++r, y += out.stride) {
      F32 v[4] = {set_f32(0.0f), set_f32(0.0f), set_f32(0.0f), set_f32(0.0f)};
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { v[u.value] = value(r, u.value, columns[u.value], together - u.value * kLanes); });
      store_rounded_some(y, together, v[0], v[1], v[2], v[3], rounding);
    }
    return;
  }
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    const int lane = u.value * kLanes, count = together - lane;
    const auto columns = columns_of(u.value);
    const auto at = [&](int r) QCORE_INLINE_LAMBDA { return value(r, u.value, columns, count); };
    auto* to = y + lane;
    int r = 0;
    if (count >= kLanes) {
      for (; r + 4 <= rows; r += 4, to += 4 * out.stride) store_rounded(to, out.stride, at(r), at(r + 1), at(r + 2), at(r + 3), rounding);
      for (; r + 2 <= rows; r += 2, to += 2 * out.stride) store_rounded(to, out.stride, at(r), at(r + 1), rounding);
      if (r < rows) store_some(to, at(r), kLanes, rounding);
      return;
    }
    for (; r < rows; ++r, to += out.stride) store_some(to, at(r), count, rounding);
  });
}

// What 16 columns need.
template <class Output>
struct Needed {
  Output out;
  decltype(load_columns(std::declval<Output>(), 0)) columns;
  I32 first;  // what sums begin with
  decltype(rounding_of(std::declval<Output>())) rounding;

  Needed(const Output& out_, int64_t column) : out(out_), columns(load_columns(out, column)), first(take_offset(columns)), rounding(rounding_of(out)) {}
};

// The largest tiles of an ISA's own, from sums to results in registers. The first row that is left.
template <class Own, class Output>
__attribute__((noinline)) int64_t whole_tiles(const GemmInput& input, const Units<int8_t>& units, const GemmPanel& panel, const Output& output, int unit) {
  constexpr int kRows = tile_rows(1);
  const GemmInput in = input;  // a copy that stores of bytes cannot alias, as those below
  const int8_t* w = units.w;
  const bool extreme = units.extreme;
  const Needed<Output> needed(output, panel.column + unit * kLanes);
  const int64_t column = panel.output + unit * kLanes, stride = output.stride;
  auto* y = output.y + column;
  int64_t row = 0;
  for (; row + kRows <= in.rows; row += kRows) {
    const Needed<Output>* again = &needed;
    asm("" : "+r"(again));  // read for each tile: else compilers would keep it all in registers that the sums want
    I32 sums[kRows + kRows % kRowStep];
    const auto* first = reinterpret_cast<const int32_t*>(again->first.v);
    if constexpr (Own::kInlined) {
      Own::template accumulate<kRows>(in, w, extreme, row, first, sums);
    } else {
      accumulate<Own, kRows>(in, units, first, row, sums);
    }
    asm("" : "+r"(again));
    auto columns = again->columns;
    take_offset(columns);
    const auto rounding = again->rounding;
    unroll<kRows>([&](auto r) QCORE_INLINE_LAMBDA {
      store_rounded(y, result(sums[r.value], again->out, columns, row + r.value, column, kLanes), rounding);
      y += stride;
    });
  }
  return row;
}

// Where one of several tiles of nearly equal height begins.
QCORE_INLINE int64_t tile_begin(int64_t rows, int64_t tile, int64_t tiles) {
  const int64_t begin = (rows + kRowStep - 1) / kRowStep * tile / tiles * kRowStep;
  return begin < rows ? begin : rows;
}

// Weights of several units are multiplied piece by piece along K: a piece stays in the L1 cache while all rows are multiplied with it, and
// the next, which lies behind it, comes closer meanwhile.
constexpr bool kPieces = kTileUnits > 1 && !kWidens && !kOwnTiles;
constexpr int64_t kPieceBytes = 24 * 1024;

// All rows against all units of a panel. Where there are several pieces, sums wait in memory, [row][unit].
template <int U, class Output>
void rows_by_pieces(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  const int64_t tiles = (in.rows + kRows - 1) / kRows, most = kPieceBytes / (U * kUnitBytes);
  const int64_t pieces = in.wide_sums ? (in.groups + most - 1) / most : 1;
  const int32_t* begins = begins_of(out, panel.column + unit * kLanes);
  Tile tile;
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t first = in.groups * p / pieces, groups = in.groups * (p + 1) / pieces - first;
    GemmInput piece = in;
    piece.x += first * kLayout.group, piece.groups = groups;
    Units<int8_t> weights = units;
    weights.w += first * units.step;
    weights.adds = p > 0;
    weights.next_step = (units.step + tiles - 1) / tiles;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = tile_begin(in.rows, t, tiles), end = tile_begin(in.rows, t + 1, tiles);
      const int rows = static_cast<int>(end - row);
      I32* sums = pieces > 1 ? reinterpret_cast<I32*>(in.wide_sums) + row * U : tile.sums;
      weights.next = weights.w + (groups + groups * t / tiles) * units.step;
      accumulate_rows<kRows, U>(rows, piece, weights, begins, row, sums);
      if (p + 1 < pieces) continue;
      if (out.weight_zero) subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
      finish<U, true>(sums, panel, out, row, rows, unit);
    }
  }
}

// All rows against U units, in tiles of nearly equal height.
template <int U, class Value, class Output>
void rows_of(const GemmInput& in, const Units<Value>& units, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kRows = tile_rows(U);
  static_assert(kRows * U <= kMaxTileSums);
  constexpr int kTogether = kMaxTileSums / (kRows * U);  // tiles to an epilogue
  const int64_t tiles = (in.rows + kRows - 1) / kRows;
  if constexpr (kPieces && std::is_same_v<Value, int8_t>) {
    if (in.rows > kRows && U == panel.units) return rows_by_pieces<U>(in, units, panel, out, unit);
  }
  const int32_t* begins = begins_of(out, panel.column + unit * kLanes);
  Tile tile;
  if constexpr (kOwnTiles && U == 1) {
    if (in.rows >= kRows && !out.weight_zero && panel.columns - unit * kLanes >= kLanes) {
      const int64_t row = whole_tiles<Tiles>(in, units, panel, out, unit);
      if (row == in.rows) return;
      const auto rows = static_cast<int>(in.rows - row);
      accumulate_rows<kRows, U>(rows, in, units, begins, row, tile.sums);
      return finish<U, true>(tile.sums, panel, out, row, rows, unit);
    }
  }
  for (int64_t t = 0; t < tiles; t += kTogether) {
    const int64_t first = tile_begin(in.rows, t, tiles), last = t + kTogether < tiles ? t + kTogether : tiles;
    int64_t row = first;
    for (int64_t i = t; i < last; ++i) {
      const int64_t end = tile_begin(in.rows, i + 1, tiles);
      accumulate_rows<kRows, U>(static_cast<int>(end - row), in, units, begins, row, tile.sums + (row - first) * U);
      row = end;
    }
    const int rows = static_cast<int>(row - first);
    if (out.weight_zero) subtract_weight_zeros(tile.sums, in, out.weight_zero + panel.column + unit * kLanes, first, rows, U);
    finish<U, true>(tile.sums, panel, out, first, rows, unit);
  }
}

template <class OfBlocks>
QCORE_INLINE bool in_blocks(const GemmInput& in) {
  return (in.rows >= OfBlocks::kFewestRows && in.groups >= OfBlocks::kFewestGroups) || in.pieces;
}

// `tiles` tiles of rows against U units: their products, which stay where the ISA sums them, or their sums from there.
template <class OfBlocks, int T, int U>
__attribute__((noinline)) void multiply_block(int64_t tiles, const GemmInput& in, const Units<int8_t>& units, int64_t row) {
  if (tiles == T) return OfBlocks::template multiply<T, U>(in, units.w, units.step, row);
  if constexpr (T > 1) multiply_block<OfBlocks, T - 1, U>(tiles, in, units, row);
}
template <class OfBlocks, int T, int U>
QCORE_INLINE void store_block(int64_t tiles, const GemmInput& in, int64_t row, I32* sums) {
  if (tiles == T) return OfBlocks::template store<T, U>(in, row, sums);
  if constexpr (T > 1) store_block<OfBlocks, T - 1, U>(tiles, in, row, sums);
}

// Calls run(first row of it, row of the result, count) for each run of results among rows [row, row + rows).
template <class Run>
QCORE_INLINE void each_run(const GemmInput& in, int64_t row, int64_t rows, const Run& run) {
  const RowGrid& grid = in.grid;
  if (grid.pitch == 0) return run(row, row, rows);
  for (int64_t r = row; r < row + rows;) {
    const int64_t line = (grid.first + r) / grid.pitch, column = (grid.first + r) % grid.pitch, sample = line / grid.lines, down = line % grid.lines;
    const int64_t left = row + rows - r, here = grid.pitch - column < left ? grid.pitch - column : left;
    const int64_t count = grid.width - column < here ? grid.width - column : here;
    if (down < grid.height && count > 0) run(r, (sample * grid.height + down) * grid.width + column, count);
    r += here;
  }
}

// Whether so many tiles of rows share a piece that the next one comes in time.
template <class OfBlocks>
QCORE_INLINE bool shares_pieces(const GemmInput& in) {
  constexpr int kTiles = 5;
  return in.wide_sums && in.rows > kTiles * OfBlocks::kTileRows;
}

// The same as rows_by_pieces; pieces are whole steps of the blocks. Sums of a tile of rows lie together, since the last one may overlap
// the one before it.
template <class OfBlocks, int U, class Output>
void blocks_by_pieces(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel, const Output& out, int unit) {
  constexpr int kTile = OfBlocks::kTileRows;
  const int64_t tiles = (in.rows + kTile - 1) / kTile, last = in.rows < kTile ? 0 : in.rows - kTile;
  const int64_t steps = in.groups / OfBlocks::groups_of(in), step_bytes = OfBlocks::groups_of(in) * units.step;
  const int64_t pieces = (steps * step_bytes + kPieceBytes - 1) / kPieceBytes;
  auto* all = reinterpret_cast<I32*>(in.wide_sums);
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t first = steps * p / pieces, end = steps * (p + 1) / pieces;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = t * kTile, begin = row < last ? row : last;
      I32* sums = all + (pieces > 1 ? row * U : 0);
      const int8_t* next = units.w + end * step_bytes + (end - first) * step_bytes * t / tiles;
      OfBlocks::template add_products<U>(in, units.w, units.step, begin, first, end, sums, p > 0, next, step_bytes / tiles);
      if (p + 1 < pieces) continue;
      sums += (row - begin) * U;
      const int rows = static_cast<int>(in.rows - row < kTile ? in.rows - row : kTile);
      if (out.weight_zero) subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
      each_run(in, row, rows, [&](int64_t from, int64_t result, int64_t count) { finish<U, false>(sums + (from - row) * U, panel, out, result, static_cast<int>(count), unit); });
    }
  }
}

// All rows against U units, in blocks. The next block is multiplied while the epilogue of this one runs.
template <class OfBlocks, int U, class Output>
void blocks_of(const GemmInput& in, const Units<int8_t>& units, const GemmPanel& panel, const Output& out, int unit) {
  if constexpr (U > 2) {
    if (U == panel.units && shares_pieces<OfBlocks>(in)) return blocks_by_pieces<OfBlocks, U>(in, units, panel, out, unit);
  }
  constexpr int kTile = OfBlocks::kTileRows, kRows = OfBlocks::rows(U), kTiles = kRows / kTile;
  I32 room[(kTile + kRows) * U];
  I32* sums = room + kTile * U;
  const auto rows_at = [&](int64_t row) { return static_cast<int>(in.rows - row < kRows ? in.rows - row : kRows); };
  const auto tiles_at = [&](int64_t row) { return (rows_at(row) + kTile - 1) / kTile; };
  multiply_block<OfBlocks, kTiles, U>(tiles_at(0), in, units, 0);
  store_block<OfBlocks, kTiles, U>(tiles_at(0), in, 0, sums);
  for (int64_t row = 0; row < in.rows; row += kRows) {
    const int rows = rows_at(row);
    const int64_t next = row + kRows;
    if (next < in.rows) multiply_block<OfBlocks, kTiles, U>(tiles_at(next), in, units, next);
    if (out.weight_zero) subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, row, rows, U);
    each_run(in, row, rows, [&](int64_t first, int64_t result, int64_t count) { finish<U, false>(sums + (first - row) * U, panel, out, result, static_cast<int>(count), unit); });
    if (next < in.rows) store_block<OfBlocks, kTiles, U>(tiles_at(next), in, next, sums);
  }
}

// `rows` rows against a piece of a widened unit, added to their sums.
template <class Wide, int R>
__attribute__((noinline)) void accumulate_wide(int rows, const GemmInput& in, const int16_t* w, int64_t first, int64_t groups, int64_t row, I32* sums) {
  if (rows == R) {
    const int16_t* x[R];
    unroll<R>([&](auto r) QCORE_INLINE_LAMBDA { x[r.value] = row_of<int16_t>(in, row + r.value) + first * kGroup; });
    return Wide::template accumulate<R>(x, w, groups, sums);
  }
  if constexpr (R > 1) accumulate_wide<Wide, R - 1>(rows, in, w, first, groups, row, sums);
}

// All rows against a panel whose weights are widened piece by piece along K: a piece of a unit stays in the L1 cache, one of the rows in
// the L2 cache. The sums of each unit, [unit][row], wait in memory.
template <class Wide, class Output>
void widened_panel(const GemmInput& in, const GemmPanel& panel, const Output& out) {
  const int64_t tiles = (in.rows + Wide::kRows - 1) / Wide::kRows, step = panel.units * kUnitBytes;
  auto* all = reinterpret_cast<I32*>(in.wide_sums);
  for (int64_t first = 0; first < in.groups; first += kWideGroups) {
    const int64_t groups = in.groups - first < kWideGroups ? in.groups - first : kWideGroups;
    for (int unit = 0; unit < panel.units; ++unit) {
      const int8_t* w = panel.w + first * step + unit * kUnitBytes;
      I32 excess = set_i32(0);
      for (int64_t group = 0; group < groups; ++group) Wide::weights(w + group * step, in.wide_panel + group * kUnit, excess);
      // While this piece is used the next comes from beyond the L2 cache.
      const int8_t* next = unit + 1 < panel.units ? w + kUnitBytes : panel.w + (first + groups) * step;
      I32* sums = all + unit * in.rows;
      for (int64_t t = 0; t < tiles; ++t) {
        for (int64_t group = groups * t / tiles; group < groups * (t + 1) / tiles; ++group) __builtin_prefetch(next + group * step, 0, 2);
        const int64_t row = tile_begin(in.rows, t, tiles), end = tile_begin(in.rows, t + 1, tiles);
        for (int64_t r = row; r < end; ++r) sums[r] = add(first > 0 ? sums[r] : set_i32(excess_of_row(in, r)), excess);
        accumulate_wide<Wide, Wide::kRows>(static_cast<int>(end - row), in, in.wide_panel, first, groups, row, sums + row);
      }
      if (first + groups < in.groups) continue;
      const auto rows = static_cast<int>(in.rows);
      if (out.weight_zero) subtract_weight_zeros(sums, in, out.weight_zero + panel.column + unit * kLanes, 0, rows, 1);
      finish<1, false>(sums, panel, out, 0, rows, unit);
    }
  }
}

// Whether so many tiles share widened weights that these are worth their making.
QCORE_INLINE bool shares_weights(const GemmInput& in) {
  constexpr int kTiles = 3;
  return in.rows > kTiles * tile_rows(1);
}

// A unit of few groups, all of it.
template <class Wide>
Units<int16_t> widened(const GemmInput& in, const Units<int8_t>& packed) {
  I32 unused = set_i32(0);
  for (int64_t group = 0; group < in.groups; ++group) Wide::weights(packed.w + group * packed.step, in.wide_panel + group * kUnit, unused);
  return {in.wide_panel, kUnit / 2};
}

template <int U, class Output>
void units_of(int units, const GemmInput& in, const GemmPanel& panel, const Output& out, int unit) {
  if (units < U) {
    if constexpr (U > 1) units_of<U - 1>(units, in, panel, out, unit);
    return;
  }
  const int64_t unit_bytes = kLayout.units_first ? in.groups * kUnitBytes : kUnitBytes;
  const Units<int8_t> packed{panel.w + unit * unit_bytes, panel.units * kUnitBytes, panel.extreme};
  if constexpr (kBlocks) {
    if (in_blocks<Blocks>(in)) return blocks_of<Blocks, U>(in, packed, panel, out, unit);
  }
  if constexpr (kWidens && U == 1) {
    if (shares_weights(in)) return rows_of<U>(in, widened<Widening>(in, packed), panel, out, unit);
  }
  rows_of<U>(in, packed, panel, out, unit);
}

// Units that are multiplied at once. Blocks of two units and twice the rows read half as much of weights that the L1 cache does not hold.
template <class OfBlocks>
QCORE_INLINE int units_together(const GemmInput& in, const GemmPanel& panel) {
  if constexpr (!std::is_void_v<OfBlocks>) {
    if (!(panel.units > 2 && shares_pieces<OfBlocks>(in)) && in_blocks<OfBlocks>(in) && in.groups * kUnitBytes * panel.units > OfBlocks::kL1Bytes) return 2;
  }
  return tile_units(in.rows);
}

// The ISA's state for the blocks of one call.
template <class OfBlocks>
struct Configured {
  explicit Configured(const GemmInput& in) {
    if (in_blocks<OfBlocks>(in)) OfBlocks::begin(in);
  }
  ~Configured() { OfBlocks::end(); }
};
template <>
struct Configured<void> {
  explicit Configured(const GemmInput& /*in*/) {}
};

template <class OfBlocks = Blocks>
constexpr auto holder() -> void (*)(bool) {
  if constexpr (std::is_void_v<OfBlocks>) {
    return nullptr;
  } else {
    return OfBlocks::hold;
  }
}

template <class Output>
void gemm(const GemmInput& in, const GemmPanel& panel, const Output& out) {
  if constexpr (kWidens) {
    if (halves_products(in) && shares_weights(in)) return widened_panel<Widening>(in, panel, out);
  }
  const Configured<Blocks> configured(in);
  const int most = units_together<Blocks>(in, panel);
  for (int unit = 0; unit < panel.units; unit += most) {
    const int left = panel.units - unit;
    units_of<kMaxPanelUnits>(left < most ? left : most, in, panel, out, unit);
  }
}

void gemm_u8(const GemmInput& in, const GemmPanel& panel, const RequantizedOutput& out) {
  with_sum(out, [&](const auto& output) { gemm(in, panel, output); });
  each_run(in, 0, in.rows, [&](int64_t, int64_t result, int64_t count) { look_up(out, result, count, panel.output, panel.columns); });
}

// The largest tile again and again, over operands in the L1 cache.
template <class Wide = Widening, class OfBlocks = Blocks>
int64_t peak(int64_t rounds) {
  using Value = std::conditional_t<kWidens, int16_t, int8_t>;
  constexpr int64_t kDepth = 256, kRows = rows_together<Wide, OfBlocks>();
  alignas(64) static const RowValue x[kRows * kDepth] = {1, 2, 3, 4};
  alignas(64) static const Value w[kTileUnits * kLanes * kDepth] = {1, -2, 3};
  const GemmInput in{reinterpret_cast<const uint8_t*>(x), kDepth, kRows, kDepth / kLayout.group, nullptr, x, kDepth};
  constexpr int kSums = kRows * kTileUnits;
  I32 sums[kSums] = {};
  const Configured<OfBlocks> configured(in);
  for (int64_t round = 0; round < rounds; ++round) {
    if constexpr (!std::is_void_v<OfBlocks>) {
      multiply_block<OfBlocks, 1, kTileUnits>(1, in, Units<Value>{w, kTileUnits * kUnit}, 0);
      store_block<OfBlocks, 1, kTileUnits>(1, in, 0, sums);
    } else if constexpr (std::is_void_v<Wide>) {
      accumulate_rows<kRows, kTileUnits>(kRows, in, Units<Value>{w, kTileUnits * kLanes * Units<Value>::kValues}, kZeros, 0, sums);
    } else {
      accumulate_wide<Wide, kRows>(kRows, in, w, 0, in.groups, 0, sums);
    }
    asm volatile("" : : "r"(sums) : "memory");
  }
  return rounds * kDepth / kGroup * kRows * kTileUnits;
}

}  // namespace
}  // namespace qcore::QCORE_ISA
