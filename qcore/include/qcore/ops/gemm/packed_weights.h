// Weights of a linear or convolution in the layout of the kernels, with what the epilogue needs of
// them per column.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/base/error.h"
#include "qcore/base/sizes.h"
#include "qcore/isa/gemm.h"
#include "qcore/isa/layout.h"

namespace qcore {

// Groups that k values along K are packed in.
inline int64_t groups_of(const Layout& layout, int64_t k) {
  const int64_t groups = round_up(k, layout.group) / layout.group;
  if (layout.piece == 0 || groups == 0) return groups;
  return round_up(groups, round_up(groups, layout.piece) / layout.piece);
}

// (2^31 - 1) / 255^2: more could overflow the sum where weights have zero points.
constexpr int64_t kMaxAccumulated = 33025;

// Raises ArgumentError for sums of k products that may overflow, or of none.
inline void check_accumulated(int64_t k) {
  if (k == 0) throw ArgumentError("the weight has no elements");
  if (k > kMaxAccumulated) {
    throw ArgumentError("sums of " + std::to_string(k) + " products may overflow; at most " +
                        std::to_string(kMaxAccumulated));
  }
}

// Quantization of the weights: one scale and zero point for each of `columns` outputs.
struct WeightQuantization {
  std::vector<float> scales;
  std::vector<int32_t> zeros;
  bool per_channel;
};

// What is packed: `groups` matrices of `n` columns and `k` rows, the quantization and bias (null:
// none) of all columns, and how many units of columns a panel has at most.
struct WeightMatrices {
  int64_t groups, n, k;
  const WeightQuantization& quantization;
  const float* bias = nullptr;
  int64_t panel_units = kMaxPanelUnits;
};

// `groups` matrices of `n` columns and `k` rows. Parameters of column c of group g lie at g *
// padded_n + c.
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

  // What is in use of a row at a time: widened rows are multiplied piece by piece along K, and the
  // L3 cache may hold the other pieces; matrices are multiplied so fast that more rows, and weights
  // that are read less often, are worth most of the L2 cache.
  int64_t row_bytes_in_use() const {
    constexpr int64_t kPieceBytes = int64_t{kWideGroups} * kGroup, kLargerBy = 5, kMatricesTake = 3;
    if (layout.piece > 0) return row_bytes() / kMatricesTake;
    return layout.widens ? 2 * std::max(std::min(row_bytes(), kPieceBytes), row_bytes() / kLargerBy)
                         : row_bytes();
  }

  // `at(group, column, row)` reads a weight.
  template <class At>
  void pack(const Layout& layout_, const WeightMatrices& from, const At& at) {
    layout = layout_;
    groups = from.groups;
    n = from.n;
    k = from.k;
    padded_n = round_up(n, kLanes);
    k_groups = groups_of(layout, k);
    const int64_t units = padded_n / kLanes;
    const int64_t bytes = groups * units * kLanes * row_bytes();
    std::memset(data.reserve(bytes), 0, static_cast<size_t>(bytes));
    column_sums.assign(static_cast<size_t>(groups * padded_n), 0);
    scales.assign(column_sums.size(), 1.0f);
    zeros.assign(column_sums.size(), 0);
    bias.assign(column_sums.size(), 0.0f);
    has_bias = from.bias != nullptr;
    per_channel = from.quantization.per_channel;
    const int64_t count = divided_up(units, from.panel_units);
    int8_t* out = data.data();
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t unit = units * p / count, width = units * (p + 1) / count - unit;
        const int64_t column = unit * kLanes, columns = std::min(width * kLanes, n - column);
        panels.push_back({out, static_cast<int32_t>(width), static_cast<int32_t>(columns),
                          g * padded_n + column, g * n + column, g, false});
        for (int64_t c = 0; c < columns; ++c) {
          const Column place{g, column + c, c};
          pack_column(panels.back(), out, place, at);
          take_parameters(from, place);
        }
        out += width * kLanes * row_bytes();
      }
    }
  }

 private:
  struct Column {
    int64_t group, index;  // index: among the columns of the group
    int64_t lane;          // in its panel
  };

  template <class At>
  void pack_column(GemmPanel& panel, int8_t* out, const Column& column, const At& at) {
    const int64_t unit = kLanes * layout.group, half = layout.group / 2, lane = column.lane;
    const int64_t step = layout.units_first ? unit : panel.units * unit;
    out += lane / kLanes * (layout.units_first ? k_groups * unit : unit);
    out += lane % kLanes * (layout.pairs ? 2 : layout.group);
    uint32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      const int8_t w = at(column.group, column.index, i);
      const int64_t place = i % layout.group;
      out[i / layout.group * step + (layout.pairs ? place / 2 * kLanes * 2 + place % 2 : place)] =
          w;
      const bool twice =
          w == -128 && place >= half && at(column.group, column.index, i - half) == -128;
      panel.extreme = panel.extreme || twice;
      sum += static_cast<uint32_t>(static_cast<int32_t>(w));
    }
    column_sums[static_cast<size_t>(column.group * padded_n + column.index)] =
        static_cast<int32_t>(sum);
  }

  void take_parameters(const WeightMatrices& from, const Column& column) {
    const auto to = static_cast<size_t>(column.group * padded_n + column.index);
    const auto own = static_cast<size_t>(column.group * n + column.index);
    const int32_t zero = from.quantization.zeros[own];
    scales[to] = from.quantization.scales[own];
    zeros[to] = zero;
    const uint32_t of_zeros = static_cast<uint32_t>(k) * static_cast<uint32_t>(zero);
    column_sums[to] = static_cast<int32_t>(static_cast<uint32_t>(column_sums[to]) - of_zeros);
    if (from.bias) bias[to] = from.bias[own];
    has_zeros = has_zeros || zero != 0;
  }
};

}  // namespace qcore
