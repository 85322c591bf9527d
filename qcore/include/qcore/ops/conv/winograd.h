// 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3): 16 products for 4 results, where the sum
// of products takes 36.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "qcore/base/buffer.h"
#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/conv/call.h"
#include "qcore/ops/scratch.h"

namespace qcore {

// Weights of all 16 positions, times 4 so that they are whole: [unit of 16 columns][position][input
// channels / 2][16][2].
class WinogradWeights {
 public:
  static constexpr int64_t kMostChannels = 1827;  // 4 * 9 * 255 * 128 times more is beyond int32

  bool empty() const { return depth_ == 0; }
  int64_t depth() const { return depth_; }
  int64_t units() const { return units_; }
  int64_t outputs() const { return outputs_; }
  const int16_t* data() const { return data_.data(); }

  // `at(column, channel)` points to 9 weights.
  template <class At>
  void pack(int64_t outputs, int64_t channels, const At& at) {
    outputs_ = outputs;
    units_ = round_up(outputs, kLanes) / kLanes;
    depth_ = round_up(channels, kLanes);
    const int64_t size = units_ * kLanes * WinogradInput::kPositions * depth_;
    std::memset(data_.reserve(size), 0, static_cast<size_t>(size) * sizeof(int16_t));
    for (int64_t column = 0; column < outputs; ++column) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        const auto all = positions(at(column, channel));
        int16_t* to = data_.data() + column / kLanes * WinogradInput::kPositions * depth_ * kLanes +
                      (channel / 2 * kLanes + column % kLanes) * 2 + channel % 2;
        for (size_t i = 0; i < all.size(); ++i) {
          to[static_cast<int64_t>(i) * depth_ * kLanes] = all[i];
        }
      }
    }
  }

 private:
  static std::array<int, 4> line(int a, int b, int c) {
    return {2 * a, a + b + c, a - b + c, 2 * c};
  }

  static std::array<int16_t, 16> positions(const int8_t* w) {
    const std::array<int, 4> rows[3] = {line(w[0], w[1], w[2]), line(w[3], w[4], w[5]),
                                        line(w[6], w[7], w[8])};
    std::array<int16_t, 16> all{};
    for (size_t j = 0; j < 4; ++j) {
      const std::array<int, 4> column = line(rows[0][j], rows[1][j], rows[2][j]);
      for (size_t i = 0; i < 4; ++i) all[4 * i + j] = static_cast<int16_t>(column[i]);
    }
    return all;
  }

  int64_t outputs_ = 0, units_ = 0, depth_ = 0;
  Buffer<int16_t> data_;
};

// Whether it pays: the products, and reading weights that are 3.5 times as large, which costs as
// much as some more tiles.
inline bool winograd_pays(const Windows& v) {
  constexpr int64_t kWeightTiles = 6;
  const int64_t tiles = v.batch * ((v.out[1] + 1) / 2) * ((v.out[2] + 1) / 2);
  return 9 * v.pixels() > 16 * (tiles + kWeightTiles);
}

// y of the windows (kernel 3x3, stride and dilation 1) over x.
inline void run_winograd(const Kernels& kernels, const WinogradWeights& w, const ConvCall& call,
                         int threads) {
  constexpr int64_t kBlockBytes =
      256 * 1024;  // of transformed tiles, which all columns read: they stay in the L2 cache
  const Windows& v = call.windows;
  WinogradInput in{};
  in.x = call.x;
  in.height = v.in[1];
  in.width = v.in[2];
  in.channels = v.channels;
  in.out_height = v.out[1];
  in.out_width = v.out[2];
  in.outputs = w.outputs();
  in.pad_above = v.padding[1];
  in.pad_left = v.padding[2];
  in.down = (v.out[1] + 1) / 2;
  in.across = (v.out[2] + 1) / 2;
  in.w = w.data();
  in.depth = w.depth();
  const int64_t tiles = v.batch * in.down * in.across;
  if (tiles == 0) return;
  const int64_t tile_bytes = WinogradInput::kPositions * in.depth * 2,
                most = std::max<int64_t>(kBlockBytes / tile_bytes, 6),
                wanted = threads > 1 ? 4 * threads : 1;
  const int64_t blocks = std::max((tiles + most - 1) / most, std::min(wanted, tiles / 24));
  const int64_t splits =
      std::clamp((wanted + blocks - 1) / std::max<int64_t>(blocks, 1), int64_t{1}, w.units());
  parallel(threads, blocks * splits, [&](int64_t chunk) {
    const int64_t block = chunk / splits, split = chunk % splits;
    Scratch& scratch = Scratch::of_thread();
    WinogradInput part = in;
    part.first = tiles * block / blocks;
    part.tiles = tiles * (block + 1) / blocks - part.first;
    part.unit = w.units() * split / splits;
    part.last_unit = w.units() * (split + 1) / splits;
    uint8_t* padding = scratch.rows.reserve(v.channels);
    std::memset(padding, call.zero, static_cast<size_t>(v.channels));
    part.padding = padding;
    part.transformed = scratch.prepared.reserve(WinogradInput::kPositions * part.tiles * in.depth);
    part.sums = scratch.sums.reserve(WinogradInput::kPositions * part.tiles * kLanes);
    kernels.winograd(part, call.out);
  });
}

}  // namespace qcore
