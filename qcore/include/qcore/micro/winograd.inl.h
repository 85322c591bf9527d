// A strip of a 3x3 convolution as 16 small GEMMs over transformed tiles (Winograd's F(2x2, 3x3)).
// Integers throughout: with the weights scaled by 4 every step is exact, and the sums are exactly 4
// times those of the convolution.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "qcore/micro/elementwise.inl.h"
#include "qcore/micro/gemm_tiles.inl.h"

namespace qcore::QCORE_ISA {
namespace {

using Words = int16_t __attribute__((vector_size(2 * kLanes)));
using PixelBytes = uint8_t __attribute__((vector_size(kLanes)));
using Sums = int32_t __attribute__((vector_size(4 * kLanes)));

constexpr int64_t kTileSize = WinogradInput::kTileSize, kPositions = WinogradInput::kPositions;

// The input's side of a tile in one dimension.
template <class V>
QCORE_INLINE void to_positions(V& a, V& b, V& c, V& d) {
  const V first = a - c, second = b + c, third = c - b, fourth = b - d;
  a = first;
  b = second;
  c = third;
  d = fourth;
}

// The result's side.
template <class V>
QCORE_INLINE void from_positions(const V& a, const V& b, const V& c, const V& d, V& first,
                                 V& second) {
  first = a + b + c;
  second = b - c - d;
}

template <class V>
QCORE_INLINE V load_words(const uint8_t* p, int64_t count) {
  PixelBytes bytes;
  if (count >= kLanes) {
    std::memcpy(&bytes, p, sizeof bytes);
  } else {
    bytes = PixelBytes{};
    std::memcpy(&bytes, p, static_cast<size_t>(count));
  }
  return __builtin_convertvector(bytes, V);
}

struct WinogradTile {
  int64_t sample, row, column;  // of its first result
};

QCORE_INLINE WinogradTile tile_at(const WinogradInput& in, int64_t tile) {
  const int64_t line = tile / in.across;
  return {line / in.down, line % in.down * 2, tile % in.across * 2};
}

// (positions, tiles, depth) from the pixels of all tiles.
template <class Wide>
void transform_tiles(const WinogradInput& in) {
  const int64_t step = in.tiles * in.depth;
  for (int64_t t = 0; t < in.tiles; ++t) {
    const WinogradTile tile = tile_at(in, in.first + t);
    const uint8_t* pixels[kPositions];
    for (int64_t i = 0; i < kPositions; ++i) {
      const int64_t h = tile.row - in.pad_above + i / kTileSize,
                    w = tile.column - in.pad_left + i % kTileSize;
      const bool inside = h >= 0 && h < in.height && w >= 0 && w < in.width;
      pixels[i] =
          inside ? in.x + ((tile.sample * in.height + h) * in.width + w) * in.channels : in.padding;
    }
    int16_t* to = in.transformed + t * in.depth;
    for (int64_t c = 0; c < in.channels; c += kLanes, to += kLanes) {
      Words v[kPositions];
      unroll<kPositions>([&](auto i) QCORE_INLINE_LAMBDA {
        v[i.value] = load_words<Words>(pixels[i.value] + c, in.channels - c);
      });
      unroll<kTileSize>([&](auto i) QCORE_INLINE_LAMBDA {
        to_positions(v[i.value], v[i.value + 4], v[i.value + 8], v[i.value + 12]);
      });
      unroll<kTileSize>([&](auto i) QCORE_INLINE_LAMBDA {
        constexpr int kFirst = 4 * decltype(i)::value;
        to_positions(v[kFirst], v[kFirst + 1], v[kFirst + 2], v[kFirst + 3]);
      });
      unroll<kPositions>([&](auto i) QCORE_INLINE_LAMBDA {
        std::memcpy(to + i.value * step, &v[i.value], sizeof(Words));
      });
    }
  }
}

// Products of 16 columns at each position: (positions, tiles, 16).
template <class Wide>
void multiply_positions(const WinogradInput& in, const int16_t* w) {
  using Value = std::conditional_t<std::is_void_v<Wide>, int8_t, int16_t>;
  constexpr int kRows = tile_rows(1);
  const int64_t passes = (in.tiles + kRows - 1) / kRows;
  Tile tile;
  for (int64_t position = 0; position < kPositions; ++position, w += in.depth * kLanes) {
    GemmInput rows{};
    rows.rows = in.tiles;
    rows.groups = in.depth / kGroup;
    rows.prepared = in.transformed + position * in.tiles * in.depth;
    rows.prepared_stride = in.depth;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t row = in.tiles * pass / passes;
      const int count = static_cast<int>(in.tiles * (pass + 1) / passes - row);
      accumulate_rows<kRows, 1>(count, rows, Units<Value>{w, kUnit / 2}, kZeros, row, tile.sums);
      for (int r = 0; r < count; ++r) {
        store_i32(in.sums + (position * in.tiles + row + r) * kLanes, tile.sums[r]);
      }
    }
  }
}

// The four sums of a tile, exact.
QCORE_INLINE void tile_sums(const WinogradInput& in, int64_t t, I32* found) {
  Sums part[2][kTileSize];
  unroll<kTileSize>([&](auto i) QCORE_INLINE_LAMBDA {
    Sums v[kTileSize];
    unroll<kTileSize>([&](auto j) QCORE_INLINE_LAMBDA {
      std::memcpy(&v[j.value], in.sums + ((j.value * kTileSize + i.value) * in.tiles + t) * kLanes,
                  sizeof(Sums));
    });
    from_positions(v[0], v[1], v[2], v[3], part[0][i.value], part[1][i.value]);
  });
  unroll<2>([&](auto i) QCORE_INLINE_LAMBDA {
    const auto& v = part[i.value];
    Sums result[2];
    from_positions(v[0], v[1], v[2], v[3], result[0], result[1]);
    unroll<2>([&](auto j) QCORE_INLINE_LAMBDA {
      result[j.value] >>= 2;
      int32_t lanes[kLanes];
      std::memcpy(lanes, &result[j.value], sizeof lanes);
      found[2 * i.value + j.value] = load_i32(lanes);
    });
  });
}

template <class Output>
void finish_tiles(const WinogradInput& in, const Output& output, int64_t column) {
  const Output out = output;  // a copy that stores of bytes cannot alias
  const auto rounding = rounding_of(out);
  const auto columns = load_columns(out, column);
  const int count = static_cast<int>(in.outputs - column < kLanes ? in.outputs - column : kLanes);
  for (int64_t t = 0; t < in.tiles; ++t) {
    const WinogradTile tile = tile_at(in, in.first + t);
    const int64_t pixel = (tile.sample * in.out_height + tile.row) * in.out_width + tile.column;
    I32 sums[4];
    tile_sums(in, t, sums);
    const bool pair = tile.column + 1 < in.out_width;
    for (int r = 0; r < 2 && tile.row + r < in.out_height; ++r) {
      const int64_t row = pixel + r * in.out_width;
      uint8_t* y = out.y + row * out.stride + column;
      const auto at = [&](int c) QCORE_INLINE_LAMBDA {
        return result(sums[2 * r + c], out, columns, row + c, column, count);
      };
      if (pair && count == kLanes) {
        store_rounded(y, out.stride, at(0), at(1), rounding);
      } else {
        store_some(y, at(0), count, rounding);
        if (pair) store_some(y + out.stride, at(1), count, rounding);
      }
      look_up(out, row, pair ? 2 : 1, column, count);
    }
  }
}

// Only for vocabularies whose dot products read 16 bits anyway: those of bytes are faster without
// it.
template <class Wide = Widening>
constexpr auto winograd_kernel() -> void (*)(const WinogradInput&, const RequantizedOutput&) {
  if constexpr (std::is_void_v<Wide>) {
    return nullptr;
  } else {
    return [](const WinogradInput& in, const RequantizedOutput& out) {
      transform_tiles<Wide>(in);
      for (int64_t unit = in.unit; unit < in.last_unit; ++unit) {
        multiply_positions<Wide>(in, in.w + unit * kPositions * in.depth * kLanes);
        with_sum(out, [&](const auto& output) { finish_tiles(in, output, unit * kLanes); });
      }
    };
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
