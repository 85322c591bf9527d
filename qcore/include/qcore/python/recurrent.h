// Python classes of recurrent layers, and of the linear with float16 weights: arguments are checked
// here, then the GIL is released for the work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/linear/half.h"
#include "qcore/ops/recurrent/layers.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

class HalfLinearObject {
 public:
  // weight (n, k) float16.
  HalfLinearObject(const Kernels& kernels, const TensorView& weight, const float* bias, bool relu)
      : linear_(kernels, {weight.data<uint16_t>(), weight.shape(0), weight.shape(1), bias, relu}) {}

  void run(const py::object& x, const py::object& y, int threads) const {
    const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32);
    const int64_t rows = checked_rows(in, linear_.packed().k, out, linear_.packed().n);
    checked_threads(threads);
    const py::gil_scoped_release release;
    linear_.run(in.data<float>(), rows, out.data<float>(), threads);
  }

 private:
  HalfLinear linear_;
};

inline std::unique_ptr<HalfLinearObject> make_half_linear(const Kernels& kernels,
                                                          const py::object& weight,
                                                          const py::object& bias, bool relu) {
  const TensorView w(weight, "weight", DType::f16);
  w.of_rank(2).contiguous();
  return std::make_unique<HalfLinearObject>(kernels, w, checked_bias(bias, w.shape(0)), relu);
}

class RecurrentObject {
 public:
  // cells: a pair of weights (input, state) for each layer and direction; a weight: (weight,
  // scales, zero points, per channel, bias).
  RecurrentObject(const Kernels& kernels, const std::string& kind, int directions,
                  const py::list& cells, RangeRule rule, bool float16)
      : has_c_(cell_kind(kind) == CellKind::lstm),
        directions_(directions),
        cells_(static_cast<int64_t>(cells.size())) {
    if (directions < 1 || directions > 2 || cells.empty() ||
        cells.size() % static_cast<size_t>(directions) != 0) {
      throw ArgumentError(std::to_string(cells.size()) + " cells do not make layers of " +
                          std::to_string(directions) + " directions");
    }
    if (float16) {
      fill<HalfGates>(kernels, cell_kind(kind), cells, rule);
    } else {
      fill<IntegerGates>(kernels, cell_kind(kind), cells, rule);
    }
  }

  // x (steps, batch, in), or (sum of batch sizes, in) with `sizes`; h and c (cells, batch, hidden)
  // are replaced by the last state; y as x.
  void run(const py::object& x, const py::object& sizes, const py::object& h, const py::object& c,
           const py::object& y, int threads) const {
    const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32), state(h, "h", DType::f32);
    in.of_rank(sizes.is_none() ? 3 : 2);
    state.of_rank(3).contiguous().with_size(0, cells_).with_size(2, hidden_);
    const int64_t rows = checked_rows(in, in_, out, directions_ * hidden_), batch = state.shape(1);
    const std::vector<int64_t> steps = batch_sizes(in, sizes, batch, rows);
    start({in.data<float>(), out.data<float>(), state.data<float>(), checked_c(c, state),
           steps.data(), static_cast<int64_t>(steps.size()), batch},
          threads);
  }

  // One step of one cell: x (batch, in); h and c (batch, hidden) are replaced.
  void step(const py::object& x, const py::object& h, const py::object& c, int threads) const {
    const TensorView in(x, "x", DType::f32), state(h, "h", DType::f32);
    in.of_rank(2);
    state.of_rank(2);
    const int64_t batch = checked_rows(in, in_, state, hidden_);
    start({in.data<float>(), state.data<float>(), state.data<float>(), checked_c(c, state), &batch,
           1, batch},
          threads);
  }

 private:
  template <class Gates>
  void fill(const Kernels& kernels, CellKind kind, const py::list& cells, RangeRule rule) {
    const bool half = std::is_same_v<Gates, HalfGates>;
    const int64_t gates = gates_of(kind);
    std::unique_ptr<RecurrentLayers<Gates>> layers;
    for (size_t i = 0; i < cells.size(); ++i) {
      const auto [of_input, of_state] =
          cast_argument<std::pair<py::object, py::object>>(cells[i], "a cell", "a pair of weights");
      const auto [state, rows] = gate_weight(of_state, half);
      const auto [input, input_rows] = gate_weight(of_input, half);
      if (i == 0) {
        hidden_ = state.in;
        in_ = input.in;
        layers =
            std::make_unique<RecurrentLayers<Gates>>(kernels, kind, hidden_, directions_, rule);
      }
      const int64_t in = static_cast<int>(i) < directions_ ? in_ : directions_ * hidden_;
      if (state.in != hidden_ || rows != gates * hidden_ || input_rows != rows || input.in != in) {
        const std::string wanted =
            sizes_text(gates * hidden_, in) + " and " + sizes_text(gates * hidden_, hidden_);
        const std::string given =
            sizes_text(input_rows, input.in) + " and " + sizes_text(rows, state.in);
        throw ArgumentError("weights of cell " + std::to_string(i) + " must be " + wanted +
                            ", not " + given);
      }
      layers->add_cell(input, state);
    }
    layers_ = std::move(layers);
  }

  static std::string sizes_text(int64_t rows, int64_t columns) {
    return "(" + std::to_string(rows) + ", " + std::to_string(columns) + ")";
  }

  // The weight, and its number of rows.
  static std::pair<GateWeight, int64_t> gate_weight(const py::object& given, bool half) {
    using Weight = std::tuple<py::object, py::object, py::object, bool, py::object>;
    const auto [weight, scales, zeros, per_channel, bias] = cast_argument<Weight>(
        given, "a weight of a cell", "(weight, scales, zero points, per channel, bias)");
    const TensorView w(weight, "weight", half ? DType::f16 : DType::s8);
    w.of_rank(2).contiguous();
    const int64_t rows = w.shape(0);
    GateWeight found;
    found.in = w.shape(1);
    check_accumulated(w.numel() ? found.in : 0);
    found.bias = checked_bias(bias, rows);
    if (half) {
      found.halves = w.data<uint16_t>();
    } else {
      found.integers = w.data<int8_t>();
      found.quantization = weight_quantization(scales, zeros, per_channel, rows);
    }
    return {found, rows};
  }

  static std::vector<int64_t> batch_sizes(const TensorView& x, const py::object& sizes,
                                          int64_t batch, int64_t rows) {
    if (sizes.is_none()) {
      x.with_size(1, batch);
      if (x.shape(0) == 0) x.fail("must have at least one step");
      return std::vector<int64_t>(static_cast<size_t>(batch > 0 ? x.shape(0) : 0), batch);
    }
    const TensorView given(sizes, "batch_sizes", DType::i64);
    given.of_rank(1).contiguous();
    const auto* data = given.data<int64_t>();
    std::vector<int64_t> found(data, data + given.numel());
    int64_t left = rows;
    bool fits = !found.empty() && found[0] == batch && found.back() >= 0;
    for (size_t i = 0; i < found.size() && fits; ++i) {
      fits = (i == 0 || found[i] <= found[i - 1]) && found[i] <= left;
      left -= found[i];
    }
    if (!fits || left != 0) {
      given.fail("must not be empty, start with the batch of the state, " + std::to_string(batch) +
                 ", never rise, and sum to the rows of x, " + std::to_string(rows));
    }
    return found;
  }

  float* checked_c(const py::object& c, const TensorView& h) const {
    if (c.is_none() == has_c_) {
      throw ArgumentError(has_c_ ? "c is missing" : "c is given to a cell without");
    }
    if (!has_c_) return nullptr;
    const TensorView state(c, "c", DType::f32);
    state.of_rank(h.rank()).contiguous();
    for (int i = 0; i < h.rank(); ++i) state.with_size(i, h.shape(i));
    return state.data<float>();
  }

  void start(const Sequence& sequence, int threads) const {
    checked_threads(threads);
    const py::gil_scoped_release release;
    layers_->run(sequence, threads);
  }

  bool has_c_;
  int directions_;
  int64_t cells_, hidden_ = 0, in_ = 0;
  std::unique_ptr<Recurrent> layers_;
};

inline std::unique_ptr<RecurrentObject> make_recurrent(const Kernels& kernels,
                                                       const std::string& kind, int directions,
                                                       const py::list& cells, bool reduce_range,
                                                       bool per_row, bool float16) {
  return std::make_unique<RecurrentObject>(kernels, kind, directions, cells,
                                           RangeRule{reduce_range ? 127 : 255, per_row}, float16);
}

inline void bind_recurrent(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<HalfLinearObject>(m, "HalfLinear").def("run", &HalfLinearObject::run);
  native_class<RecurrentObject>(m, "Recurrent")
      .def("run", &RecurrentObject::run)
      .def("step", &RecurrentObject::step);
  kernels.def("linear_half", &make_half_linear).def("recurrent", &make_recurrent);
}

}  // namespace qcore::python
