// Layers of recurrent cells, step by step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/base/sizes.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/driver.h"
#include "qcore/ops/recurrent/gates.h"
#include "qcore/ops/scratch.h"

namespace qcore {

// What one call is given. Rows of x and y are those of all steps; h and c (cells, batch, hidden)
// hold the state, and are replaced by the last one.
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
  RecurrentLayers(const Kernels& kernels, CellKind kind, int64_t hidden, int directions,
                  RangeRule rule)
      : kernels_(kernels), columns_{gates_of(kind), hidden}, directions_(directions), rule_(rule) {
    void (*const steps[])(const CellStep&) = {kernels.lstm_cell, kernels.gru_cell,
                                              kernels.rnn_tanh_cell, kernels.rnn_relu_cell};
    cell_step_ = steps[static_cast<int>(kind)];
  }

  void add_cell(const GateWeight& input, const GateWeight& state) {
    cells_.push_back(std::make_unique<Cell>(
        Cell{Gates(kernels_, columns_, input), Gates(kernels_, columns_, state)}));
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
      s.y = last ? sequence.y
                 : between[cell / directions_ % 2].reserve(rows * directions_ * columns_.hidden);
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

  // What both directions of a layer share.
  struct Layer {
    const Sequence& sequence;
    const int64_t* starts;  // the first row of each step
    typename Gates::Range range;
    int threads;
  };

  static constexpr int64_t kBlockRows =
      64;  // of the linear of the input at a time: its results stay in the cache

  void run_layer(int cell, const Sequence& s, const int64_t* starts, int threads) const {
    static thread_local Direction directions[2];
    const int64_t in = cells_[static_cast<size_t>(cell)]->input.w.k, hidden = columns_.hidden;
    const Layer layer{s, starts, Gates::range(kernels_, s.x, starts[s.steps] * in, rule_, threads),
                      threads};
    for (int d = 0; d < directions_; ++d) {
      Direction& v = directions[d];
      v.cell = cells_[static_cast<size_t>(cell + d)].get();
      v.h = s.h + (cell + d) * s.batch * hidden;
      v.c = s.c ? s.c + (cell + d) * s.batch * hidden : nullptr;
      v.y = s.y + d * hidden;
      v.reverse = d == 1;
      v.begin = v.end = 0;
    }
    // Threads share each step of both directions; a single one does a direction at a time, whose
    // weights then stay in the cache.
    if (threads > 1 &&
        saturated_product({directions_, s.batch, columns_.count(), hidden}) >= kSerialMacs) {
      run_steps(directions, directions_, layer, false);
    } else {
      for (int d = 0; d < directions_; ++d) run_steps(directions + d, 1, layer, true);
    }
  }

  void run_steps(Direction* directions, int count, const Layer& layer, bool alone) const {
    const Sequence& s = layer.sequence;
    const int threads = layer.threads;
    const auto panels = static_cast<int64_t>(directions->cell->state.w.panels.size());
    const int64_t splits = alone ? 1 : std::min<int64_t>(panels, 2 * threads);
    for (int64_t i = 0; i < s.steps; ++i) {
      for (int d = 0; d < count; ++d) {
        Direction& v = directions[d];
        v.step = v.reverse ? s.steps - 1 - i : i;
        if (s.sizes[v.step] == 0) continue;
        if (v.step < v.begin || v.step >= v.end) project_input(v, layer);
        prepare_state(v, s.sizes[v.step]);
      }
      parallel(alone ? 1 : threads, count * splits, [&](int64_t chunk) {
        const int64_t split = chunk % splits;
        run_panels(directions[chunk / splits], panels * split / splits,
                   panels * (split + 1) / splits, layer);
      });
    }
  }

  // The linear of the input, for the present step and as many after it (in the order of the
  // direction) as are at most kBlockRows rows.
  void project_input(Direction& v, const Layer& layer) const {
    const Sequence& s = layer.sequence;
    const int64_t* starts = layer.starts;
    v.begin = v.step;
    v.end = v.step + 1;
    if (v.reverse) {
      while (v.begin > 0 && starts[v.end] - starts[v.begin - 1] <= kBlockRows) --v.begin;
    } else {
      while (v.end < s.steps && starts[v.end + 1] - starts[v.begin] <= kBlockRows) ++v.end;
    }
    const Gates& gates = v.cell->input;
    const int64_t rows = starts[v.end] - starts[v.begin];
    float* y = v.of_input.reserve(rows * columns_.count());
    const auto linear = gates.job(kernels_, s.x + starts[v.begin] * gates.w.k, layer.range);
    run_gemm(gates.w, rows, layer.threads,
             PanelsJob<std::remove_const_t<decltype(linear)>>{linear, y, rows});
  }

  void prepare_state(Direction& v, int64_t rows) const {
    const float* h = Gates::kept(v.h, rows * columns_.hidden, v.scratch);
    v.range = Gates::range(kernels_, h, rows * columns_.hidden, rule_, 1);
    v.rows = v.cell->state.job(kernels_, h, v.range).rows(0, rows, 0, v.scratch);
  }

  void run_panels(Direction& v, int64_t from, int64_t to, const Layer& layer) const {
    const Sequence& s = layer.sequence;
    const int64_t* starts = layer.starts;
    const int64_t rows = s.sizes[v.step], hidden = columns_.hidden, width = columns_.gates * kLanes,
                  y_stride = directions_ * hidden;
    if (rows == 0) return;
    const Gates& gates = v.cell->state;
    const auto linear = gates.job(kernels_, nullptr, v.range);
    const int64_t block = starts[v.end] - starts[v.begin];
    const float* of_input = v.of_input.data() + (starts[v.step] - starts[v.begin]) * width;
    float* of_state = Scratch::of_thread().floats.reserve(rows * width);
    float* y = v.y + starts[v.step] * y_stride;
    for (int64_t i = from; i < to; ++i) {
      // To and fro, so that a step begins with the weights that the one before it has left in the
      // cache.
      const int64_t p = v.step % 2 ? from + to - 1 - i : i, value = p * kLanes;
      multiply_panel(linear, v.rows, gates.w.panels[static_cast<size_t>(p)], of_state, v.scratch);
      cell_step_({of_input + p * block * width, of_state, width, v.h + value,
                  v.c ? v.c + value : nullptr, hidden, y + value, y_stride, rows,
                  static_cast<int32_t>(std::min<int64_t>(kLanes, hidden - value))});
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
