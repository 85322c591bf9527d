// The linears of all gates of a cell as one matrix, whose columns are in panels of 16 hidden
// values: 16 of each gate, so that a panel's result is all that 16 values of the new state need.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/qparams.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/linear/dynamic.h"
#include "qcore/ops/linear/half.h"

namespace qcore {

enum class CellKind { lstm, gru, rnn_tanh, rnn_relu };

// Raises ArgumentError for a name that no cell has.
inline CellKind cell_kind(const std::string& name) {
  const char* names[] = {"lstm", "gru", "rnn_tanh", "rnn_relu"};
  for (int i = 0; i < 4; ++i) {
    if (name == names[i]) return static_cast<CellKind>(i);
  }
  throw ArgumentError("a cell is lstm, gru, rnn_tanh or rnn_relu, not '" + name + "'");
}

inline int64_t gates_of(CellKind kind) {
  return kind == CellKind::lstm ? 4 : kind == CellKind::gru ? 3 : 1;
}

// Where column c of the panels lies in a weight (gates * hidden, in); -1 for the padding behind the
// last hidden values.
struct GateColumns {
  int64_t gates, hidden;

  int64_t count() const { return gates * round_up(hidden, kLanes); }
  int64_t row(int64_t c) const {
    const int64_t panel = c / (gates * kLanes), gate = c / kLanes % gates,
                  value = panel * kLanes + c % kLanes;
    return value < hidden ? gate * hidden + value : -1;
  }
  // A vector with one value for each row of the weight, in the order of the columns.
  template <class T>
  std::vector<T> ordered(const T* values, T padding) const {
    std::vector<T> found(static_cast<size_t>(count()), padding);
    for (int64_t c = 0; c < count(); ++c) {
      if (row(c) >= 0) found[static_cast<size_t>(c)] = values[row(c)];
    }
    return found;
  }
};

// A weight as it comes: int8 with its quantization, or float16 (as its bits); the bias may be null.
struct GateWeight {
  const int8_t* integers = nullptr;
  const uint16_t* halves = nullptr;
  int64_t in = 0;
  WeightQuantization quantization;
  const float* bias = nullptr;
};

// The linear of all gates with int8 weights; its input is quantized by its own range.
struct IntegerGates {
  using Input = GemmInput;
  struct Range {
    int32_t qmax = 0;
    std::optional<QParams> tensor;  // of all rows; none: each has its own
  };
  PackedWeights w;

  IntegerGates(const Kernels& kernels, const GateColumns& columns, const GateWeight& from) {
    const WeightQuantization& q = from.quantization;
    const std::vector<float> bias =
        from.bias ? columns.ordered(from.bias, 0.0f) : std::vector<float>();
    const auto at = [&](int64_t, int64_t c, int64_t i) {
      return columns.row(c) < 0 ? int8_t{0} : from.integers[columns.row(c) * from.in + i];
    };
    const WeightQuantization ordered{columns.ordered(q.scales.data(), 1.0f),
                                     columns.ordered(q.zeros.data(), 0), q.per_channel};
    w.pack(kernels.layout,
           {1, columns.count(), from.in, ordered, from.bias ? bias.data() : nullptr, columns.gates},
           at);
  }

  static Range range(const Kernels& kernels, const float* x, int64_t n, RangeRule rule,
                     int threads) {
    if (rule.per_row) return {rule.qmax, std::nullopt};
    const auto [low, high] = range_of(kernels, x, n, threads);
    return {rule.qmax, choose_qparams(low, high, rule.qmax)};
  }
  DynamicLinearJob job(const Kernels& kernels, const float* x, const Range& range) const {
    return {kernels, w, x, nullptr, false, range.qmax, range.tensor ? &*range.tensor : nullptr};
  }
  // Rows as they are while the state changes: these are quantized by then.
  static const float* kept(const float* x, int64_t, Scratch&) { return x; }
};

// The same with float16 weights.
struct HalfGates {
  using Job = HalfLinearJob;
  using Input = HalfInput;
  struct Range {};
  PackedHalf w;

  HalfGates(const Kernels&, const GateColumns& columns, const GateWeight& from) {
    const std::vector<float> bias =
        from.bias ? columns.ordered(from.bias, 0.0f) : std::vector<float>();
    const auto at = [&](int64_t c, int64_t i) {
      return columns.row(c) < 0 ? uint16_t{0} : from.halves[columns.row(c) * from.in + i];
    };
    w.pack(columns.count(), from.in, at, from.bias ? bias.data() : nullptr, columns.gates);
  }

  static Range range(const Kernels&, const float*, int64_t, RangeRule, int) { return {}; }
  HalfLinearJob job(const Kernels& kernels, const float* x, const Range&) const {
    return {kernels, w, x, nullptr, false};
  }
  static const float* kept(const float* x, int64_t n, Scratch& scratch) {
    return static_cast<const float*>(
        std::memcpy(scratch.floats.reserve(n), x, static_cast<size_t>(n) * sizeof(float)));
  }
};

// The (rows, columns of the panel) result of one panel.
template <class Linear, class Input, class Panel>
void multiply_panel(const Linear& linear, const Input& input, Panel panel, float* y,
                    Scratch& scratch) {
  panel.output = 0;
  linear.multiply_to(y, panel.columns, input, panel, scratch);
}

// A linear whose results lie panel by panel: y (panels, count, columns of a panel).
template <class Linear>
struct PanelsJob {
  Linear linear;
  float* y;
  int64_t count;
  const Kernels& kernels = linear.kernels;

  bool at_hand() const { return linear.at_hand(); }

  auto rows(int64_t first, int64_t rows, int64_t group, Scratch& scratch) const {
    return linear.rows(first, rows, group, scratch);
  }

  template <class Input, class Panel>
  void multiply(const Input& input, const Panel& panel, int64_t first, Scratch& scratch) const {
    multiply_panel(linear, input, panel, y + panel.output * count + first * panel.columns, scratch);
  }
};

}  // namespace qcore
