// Weights of a linear or convolution in the layout of the kernels, with what the epilogue needs of them per column.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/isa/kernels.h"
#include "qcore/base/sizes.h"

namespace qcore {

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Groups that k values along K are packed in.
inline int64_t groups_of(const Layout& layout, int64_t k) {
  const int64_t groups = round_up(k, layout.group) / layout.group;
  if (layout.piece == 0 || groups == 0) return groups;
  return round_up(groups, round_up(groups, layout.piece) / layout.piece);
}

// Quantization of the weights: one scale and zero point for each of `columns` outputs.
struct WeightQuantization {
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  bool per_channel;
};

// `groups` matrices of `n` columns and `k` rows. Parameters of column c of group g lie at g * padded_n + c.
struct PackedWeights {
  Layout layout;
  int64_t groups = 1, n = 0, k = 0;
  int64_t padded_n = 0, k_groups = 0;
  Buffer<int8_t> data;
  std::vector<GemmPanel> panels;
  std::vector<int32_t> column_sums;  // of w - zero
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  std::vector<float> bias;
  bool has_zeros = false;
  bool has_bias = false;
  bool per_channel = false;

  // A zero point of activations, as the rows have it.
  int32_t row_zero(int32_t zero) const { return layout.signed_rows ? zero - 128 : zero; }

  int64_t row_bytes() const { return k_groups * layout.group; }

  // What is in use of a row at a time: widened rows are multiplied piece by piece along K, and the L3 cache may hold the other pieces;
  // matrices are multiplied so fast that more rows, and weights that are read less often, are worth most of the L2 cache.
  int64_t row_bytes_in_use() const {
    constexpr int64_t kPieceBytes = int64_t{kWideGroups} * kGroup, kLargerBy = 5, kMatricesTake = 3;
    if (layout.piece > 0) return row_bytes() / kMatricesTake;
    return layout.widens ? 2 * std::max(std::min(row_bytes(), kPieceBytes), row_bytes() / kLargerBy) : row_bytes();
  }

  // `at(group, column, row)` reads a weight.
  template <class At>
  void pack(const Layout& layout_, int64_t groups_, int64_t n_, int64_t k_, const At& at, const WeightQuantization& q, const float* bias_, int64_t panel_units = kMaxPanelUnits) {
    layout = layout_, groups = groups_, n = n_, k = k_;
    padded_n = round_up(n, kLanes), k_groups = groups_of(layout, k);
    const int64_t units = padded_n / kLanes;
    const int64_t bytes = groups * units * kLanes * row_bytes();
    std::memset(data.reserve(bytes), 0, static_cast<size_t>(bytes));
    column_sums.assign(static_cast<size_t>(groups * padded_n), 0);
    scales.assign(column_sums.size(), 1.0f);
    zeros.assign(column_sums.size(), 0);
    bias.assign(column_sums.size(), 0.0f);
    has_bias = bias_ != nullptr;
    per_channel = q.per_channel;
    const int64_t count = (units + panel_units - 1) / panel_units;
    int8_t* out = data.data();
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t unit = units * p / count, width = units * (p + 1) / count - unit;
        const int64_t column = unit * kLanes, columns = std::min(width * kLanes, n - column);
        panels.push_back({out, static_cast<int32_t>(width), static_cast<int32_t>(columns), g * padded_n + column, g * n + column, g, false});
        for (int64_t c = 0; c < columns; ++c) {
          pack_column(panels.back(), out, g, column + c, c, width, at, q, bias_);
        }
        out += width * kLanes * row_bytes();
      }
    }
  }

 private:
  template <class At>
  void pack_column(GemmPanel& panel, int8_t* out, int64_t g, int64_t column, int64_t lane, int64_t width, const At& at, const WeightQuantization& q, const float* bias_) {
    const int64_t unit = kLanes * layout.group, half = layout.group / 2;
    const int64_t step = layout.units_first ? unit : width * unit;
    out += lane / kLanes * (layout.units_first ? k_groups * unit : unit) + lane % kLanes * (layout.pairs ? 2 : layout.group);
    uint32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      const int8_t w = at(g, column, i);
      const int64_t place = i % layout.group;
      out[i / layout.group * step + (layout.pairs ? place / 2 * kLanes * 2 + place % 2 : place)] = w;
      panel.extreme = panel.extreme || (w == -128 && place >= half && at(g, column, i - half) == -128);
      sum += static_cast<uint32_t>(static_cast<int32_t>(w));
    }
    const auto to = static_cast<size_t>(g * padded_n + column);
    const auto from = static_cast<size_t>(g * n + column);
    scales[to] = q.scales[from];
    zeros[to] = q.zeros[from];
    column_sums[to] = static_cast<int32_t>(sum - static_cast<uint32_t>(k) * static_cast<uint32_t>(q.zeros[from]));
    if (bias_) bias[to] = bias_[from];
    has_zeros = has_zeros || q.zeros[from] != 0;
  }
};

}  // namespace qcore
