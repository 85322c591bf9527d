// Layers of recurrent cells. The linears of all gates of a cell are one matrix, whose columns are in panels of 16 hidden values: 16 of
// each gate, so that a panel's result is all that 16 values of the new state need.
#pragma once

#include <optional>

#include "qcore/ops/linear/linear.h"
#include "qcore/ops/linear/half.h"

namespace qcore {

enum class CellKind { lstm, gru, rnn_tanh, rnn_relu };

inline int64_t gates_of(CellKind kind) { return kind == CellKind::lstm ? 4 : kind == CellKind::gru ? 3 : 1; }

// Where column c of the panels lies in a weight (gates * hidden, in); -1 for the padding behind the last hidden values.
struct GateColumns {
  int64_t gates, hidden;

  int64_t count() const { return gates * round_up(hidden, kLanes); }
  int64_t row(int64_t c) const {
    const int64_t panel = c / (gates * kLanes), gate = c / kLanes % gates, value = panel * kLanes + c % kLanes;
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

// How the input of a linear is quantized: to 0..qmax, by the range of all of it or of each row.
struct RangeRule {
  int32_t qmax;
  bool per_row;
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
    const std::vector<float> bias = from.bias ? columns.ordered(from.bias, 0.0f) : std::vector<float>();
    const auto at = [&](int64_t, int64_t c, int64_t i) { return columns.row(c) < 0 ? int8_t{0} : from.integers[columns.row(c) * from.in + i]; };
    w.pack(kernels.layout, 1, columns.count(), from.in, at, {columns.ordered(q.scales.data(), 1.0f), columns.ordered(q.zeros.data(), 0), q.per_channel},
           from.bias ? bias.data() : nullptr, columns.gates);
  }

  static Range range(const Kernels& kernels, const float* x, int64_t n, RangeRule rule, int threads) {
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
    const std::vector<float> bias = from.bias ? columns.ordered(from.bias, 0.0f) : std::vector<float>();
    const auto at = [&](int64_t c, int64_t i) { return columns.row(c) < 0 ? uint16_t{0} : from.halves[columns.row(c) * from.in + i]; };
    w.pack(columns.count(), from.in, at, from.bias ? bias.data() : nullptr, columns.gates);
  }

  static Range range(const Kernels&, const float*, int64_t, RangeRule, int) { return {}; }
  HalfLinearJob job(const Kernels& kernels, const float* x, const Range&) const { return {kernels, w, x, nullptr, false}; }
  static const float* kept(const float* x, int64_t n, Scratch& scratch) {
    return static_cast<const float*>(std::memcpy(scratch.floats.reserve(n), x, static_cast<size_t>(n) * sizeof(float)));
  }
};

// The (rows, columns of the panel) result of one panel.
template <class Linear, class Input, class Panel>
void multiply_panel(const Linear& linear, const Input& input, Panel panel, float* y, Scratch& scratch) {
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

  auto rows(int64_t first, int64_t rows, int64_t group, Scratch& scratch) const { return linear.rows(first, rows, group, scratch); }

  template <class Input, class Panel>
  void multiply(const Input& input, const Panel& panel, int64_t first, Scratch& scratch) const {
    multiply_panel(linear, input, panel, y + panel.output * count + first * panel.columns, scratch);
  }
};

// What one call is given. Rows of x and y are those of all steps; h and c (cells, batch, hidden) hold the state, and are replaced by the last one.
struct Sequence {
  const float* x;
  float* y;
  float* h;
  float* c;
  const int64_t* sizes;  // rows of each step, which never rise
  int64_t steps;
  int64_t batch;
};

class Recurrent {
 public:
  virtual ~Recurrent() = default;
  virtual void run(const Sequence& sequence, int threads) const = 0;
};

template <class Gates>
class RecurrentLayers : public Recurrent {
 public:
  RecurrentLayers(const Kernels& kernels, CellKind kind, int64_t hidden, int directions, RangeRule rule)
      : kernels_(kernels), columns_{gates_of(kind), hidden}, directions_(directions), rule_(rule) {
    void (*const steps[])(const CellStep&) = {kernels.lstm_cell, kernels.gru_cell, kernels.rnn_tanh_cell, kernels.rnn_relu_cell};
    cell_step_ = steps[static_cast<int>(kind)];
  }

  void add_cell(const GateWeight& input, const GateWeight& state) {
    cells_.push_back(std::make_unique<Cell>(Cell{Gates(kernels_, columns_, input), Gates(kernels_, columns_, state)}));
  }

  void run(const Sequence& sequence, int threads) const override {
    Sequence s = sequence;
    std::vector<int64_t> starts(static_cast<size_t>(s.steps) + 1, 0);  // first row of each step
    std::partial_sum(s.sizes, s.sizes + s.steps, starts.begin() + 1);
    const int64_t rows = starts.back();
    if (rows == 0) return;
    const int cells = static_cast<int>(cells_.size());
    Buffer<float> between[2];
    for (int cell = 0; cell < cells; cell += directions_) {
      const bool last = cell + directions_ == cells;
      s.y = last ? sequence.y : between[cell / directions_ % 2].reserve(rows * directions_ * columns_.hidden);
      run_layer(cell, s, starts.data(), threads);
      s.x = s.y;
    }
  }

 private:
  struct Cell {
    Gates input, state;
  };

  // One direction of a layer at work.
  struct Direction {
    const Cell* cell = nullptr;
    float *h = nullptr, *c = nullptr, *y = nullptr;
    bool reverse = false;
    int64_t begin = 0, end = 0;  // steps whose linear of the input is at hand
    int64_t step = 0;
    typename Gates::Range range{};
    typename Gates::Input rows{};
    Buffer<float> of_input;
    Scratch scratch;
  };

  static constexpr int64_t kBlockRows = 64;  // of the linear of the input at a time: its results stay in the cache

  void run_layer(int cell, const Sequence& s, const int64_t* starts, int threads) const {
    static thread_local Direction directions[2];
    const int64_t in = cells_[static_cast<size_t>(cell)]->input.w.k, hidden = columns_.hidden;
    const auto range = Gates::range(kernels_, s.x, starts[s.steps] * in, rule_, threads);
    for (int d = 0; d < directions_; ++d) {
      Direction& v = directions[d];
      v.cell = cells_[static_cast<size_t>(cell + d)].get();
      v.h = s.h + (cell + d) * s.batch * hidden;
      v.c = s.c ? s.c + (cell + d) * s.batch * hidden : nullptr;
      v.y = s.y + d * hidden;
      v.reverse = d == 1;
      v.begin = v.end = 0;
    }
    // Threads share each step of both directions; a single one does a direction at a time, whose weights then stay in the cache.
    if (threads > 1 && saturated_product({directions_, s.batch, columns_.count(), hidden}) >= kSerialMacs) {
      run_steps(directions, directions_, range, s, starts, threads);
    } else {
      for (int d = 0; d < directions_; ++d) run_steps(directions + d, 1, range, s, starts, threads, true);
    }
  }

  void run_steps(Direction* directions, int count, const typename Gates::Range& range, const Sequence& s, const int64_t* starts, int threads, bool alone = false) const {
    const auto panels = static_cast<int64_t>(directions->cell->state.w.panels.size());
    const int64_t splits = alone ? 1 : std::min<int64_t>(panels, 2 * threads);
    for (int64_t i = 0; i < s.steps; ++i) {
      for (int d = 0; d < count; ++d) {
        Direction& v = directions[d];
        v.step = v.reverse ? s.steps - 1 - i : i;
        if (s.sizes[v.step] == 0) continue;
        if (v.step < v.begin || v.step >= v.end) project_input(v, range, s, starts, threads);
        prepare_state(v, s.sizes[v.step]);
      }
      parallel(alone ? 1 : threads, count * splits, [&](int64_t chunk) {
        const int64_t split = chunk % splits;
        run_panels(directions[chunk / splits], panels * split / splits, panels * (split + 1) / splits, s, starts);
      });
    }
  }

  // The linear of the input, for the present step and as many after it (in the order of the direction) as are at most kBlockRows rows.
  void project_input(Direction& v, const typename Gates::Range& range, const Sequence& s, const int64_t* starts, int threads) const {
    v.begin = v.step, v.end = v.step + 1;
    if (v.reverse) {
      while (v.begin > 0 && starts[v.end] - starts[v.begin - 1] <= kBlockRows) --v.begin;
    } else {
      while (v.end < s.steps && starts[v.end + 1] - starts[v.begin] <= kBlockRows) ++v.end;
    }
    const Gates& gates = v.cell->input;
    const int64_t rows = starts[v.end] - starts[v.begin];
    float* y = v.of_input.reserve(rows * columns_.count());
    const auto linear = gates.job(kernels_, s.x + starts[v.begin] * gates.w.k, range);
    run_gemm(gates.w, rows, threads, PanelsJob<std::remove_const_t<decltype(linear)>>{linear, y, rows});
  }

  void prepare_state(Direction& v, int64_t rows) const {
    const float* h = Gates::kept(v.h, rows * columns_.hidden, v.scratch);
    v.range = Gates::range(kernels_, h, rows * columns_.hidden, rule_, 1);
    v.rows = v.cell->state.job(kernels_, h, v.range).rows(0, rows, 0, v.scratch);
  }

  void run_panels(Direction& v, int64_t from, int64_t to, const Sequence& s, const int64_t* starts) const {
    const int64_t rows = s.sizes[v.step], hidden = columns_.hidden, width = columns_.gates * kLanes, y_stride = directions_ * hidden;
    if (rows == 0) return;
    const Gates& gates = v.cell->state;
    const auto linear = gates.job(kernels_, nullptr, v.range);
    const int64_t block = starts[v.end] - starts[v.begin];
    const float* of_input = v.of_input.data() + (starts[v.step] - starts[v.begin]) * width;
    float* of_state = Scratch::of_thread().floats.reserve(rows * width);
    float* y = v.y + starts[v.step] * y_stride;
    for (int64_t i = from; i < to; ++i) {
      // To and fro, so that a step begins with the weights that the one before it has left in the cache.
      const int64_t p = v.step % 2 ? from + to - 1 - i : i, value = p * kLanes;
      multiply_panel(linear, v.rows, gates.w.panels[static_cast<size_t>(p)], of_state, v.scratch);
      cell_step_({of_input + p * block * width, of_state, width, v.h + value, v.c ? v.c + value : nullptr, hidden, y + value, y_stride,
                  rows, static_cast<int32_t>(std::min<int64_t>(kLanes, hidden - value))});
    }
  }

  const Kernels& kernels_;
  GateColumns columns_;
  int directions_;
  RangeRule rule_;
  void (*cell_step_)(const CellStep&);
  std::vector<std::unique_ptr<Cell>> cells_;
};

}  // namespace qcore
