// The instructions of AMX that the kernels use, by number of the tile register.
#pragma once

#include <cstdint>
#include <cstring>

#include "qcore/isa/inline.h"

namespace {

// What a thread's tile registers are: rows, and bytes of each.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

#ifdef QCORE_EMULATE_AVX512  // to test the kernels' bits on a CPU without tiles

inline thread_local TileConfig tile_config;
inline thread_local uint8_t tile_data[8][16][64];

inline void load_tile_config(const TileConfig* config) {
  tile_config = *config;
  std::memset(tile_data, 0, sizeof tile_data);
}
inline void release_tiles() { tile_config = {}; }
template <int kTile>
void zero_tile() {
  std::memset(tile_data[kTile], 0, sizeof tile_data[kTile]);
}
template <int kTile>
void load_tile(const void* p, int64_t stride) {
  for (int r = 0; r < tile_config.rows[kTile]; ++r) {
    std::memcpy(tile_data[kTile][r], static_cast<const uint8_t*>(p) + r * stride,
                tile_config.row_bytes[kTile]);
  }
}
template <int kTile>
void store_tile(void* p, int64_t stride) {
  for (int r = 0; r < tile_config.rows[kTile]; ++r) {
    std::memcpy(static_cast<uint8_t*>(p) + r * stride, tile_data[kTile][r],
                tile_config.row_bytes[kTile]);
  }
}
// sums[r][c] += the products of bytes 4 k + i of row r of x, unsigned, and 4 c + i of row k of w,
// signed.
template <int kSums, int kX, int kW>
void dot_tiles() {
  for (int r = 0; r < tile_config.rows[kSums]; ++r) {
    for (int c = 0; c < tile_config.row_bytes[kSums] / 4; ++c) {
      int32_t sum;
      std::memcpy(&sum, &tile_data[kSums][r][4 * c], 4);
      for (int k = 0; k < tile_config.row_bytes[kX] / 4; ++k) {
        for (int i = 0; i < 4; ++i) {
          sum += tile_data[kX][r][4 * k + i] * static_cast<int8_t>(tile_data[kW][k][4 * c + i]);
        }
      }
      std::memcpy(&tile_data[kSums][r][4 * c], &sum, 4);
    }
  }
}

#else

// volatile: the compiler knows nothing of what tiles hold; memory: what they read must be written
// before.
QCORE_INLINE void load_tile_config(const TileConfig* config) {
  asm volatile("ldtilecfg %0" ::"m"(*config));
}
QCORE_INLINE void release_tiles() { asm volatile("tilerelease"); }
template <int kTile>
QCORE_INLINE void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
QCORE_INLINE void load_tile(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
QCORE_INLINE void store_tile(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kSums, int kX, int kW>
QCORE_INLINE void dot_tiles() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kX), "i"(kW));
}

#endif

}  // namespace
