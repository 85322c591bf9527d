// The Python class of a plan that is bound to sizes: a call of it is one call of `run`.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/plan/plan.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

using SizesAndStrides = std::pair<std::vector<int64_t>, std::vector<int64_t>>;

inline Extent checked_extent(const SizesAndStrides& given) {
  const auto& [sizes, strides] = given;
  if (sizes.size() != strides.size() || sizes.size() > kMostDimensions) {
    throw ArgumentError("an input must have at most 8 dimensions");
  }
  Extent x;
  x.rank = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), x.size.begin());
  std::copy(strides.begin(), strides.end(), x.stride.begin());
  const auto negative = [](int64_t number) { return number < 0; };
  if (std::any_of(sizes.begin(), sizes.end(), negative) ||
      std::any_of(strides.begin(), strides.end(), negative)) {
    throw ArgumentError("an input must not have negative sizes or strides");
  }
  return x;
}

inline SizesAndStrides described(const Extent& x) {
  return {{x.size.begin(), x.size.begin() + x.rank}, {x.stride.begin(), x.stride.begin() + x.rank}};
}

// A program with the plan that it belongs to.
class ProgramObject {
 public:
  // `owner`: of the plan. py::keep_alive would keep it as well, but crashes in pybind11 3.1 where
  // an argument is none that the function takes.
  ProgramObject(const py::object& owner, const Plan& plan,
                const std::vector<SizesAndStrides>& sizes)
      : kept_(owner), plan_(plan) {
    std::vector<Extent> extents;
    for (const SizesAndStrides& each : sizes) extents.push_back(checked_extent(each));
    program_ = plan_.bind(extents);
  }

  // Sizes, strides, and whether float, of each result.
  std::vector<std::tuple<std::vector<int64_t>, std::vector<int64_t>, bool>> outputs() const {
    std::vector<std::tuple<std::vector<int64_t>, std::vector<int64_t>, bool>> found;
    for (const Place& place : program_->outputs()) {
      auto [sizes, strides] = described(place.extent);
      found.emplace_back(std::move(sizes), std::move(strides), place.item == 4);
    }
    return found;
  }

  int64_t arena_bytes() const { return program_->arena_bytes(); }

  // Of each step: what it reads, and what it writes, as (memory, first byte, byte behind the last
  // one, value).
  using Range = std::tuple<std::string, int64_t, int64_t, int>;
  std::vector<std::pair<std::vector<Range>, Range>> accesses() const {
    const auto range = [](const Program::Range& r) {
      return Range{r.memory, r.begin, r.end, r.value};
    };
    std::vector<std::pair<std::vector<Range>, Range>> found;
    for (const Program::Access& access : program_->accesses()) {
      std::vector<Range> reads;
      for (const Program::Range& read : access.reads) reads.push_back(range(read));
      found.emplace_back(std::move(reads), range(access.write));
    }
    return found;
  }

  // Returns the seconds of each node of the plan where `timed`.
  std::vector<double> run(const py::sequence& inputs, const py::sequence& outputs, int threads,
                          bool timed) const {
    std::vector<const uint8_t*> in;
    std::vector<uint8_t*> out;
    if (inputs.size() != program_->inputs().size() ||
        outputs.size() != program_->outputs().size()) {
      throw ArgumentError("inputs or outputs are too few or too many");
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      in.push_back(
          checked_data(inputs[i], program_->inputs()[i], program_->input_item(i), "an input"));
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Place& place = program_->outputs()[i];
      out.push_back(checked_data(outputs[i], place.extent, place.item, "an output"));
    }
    checked_threads(threads);
    std::vector<double> seconds(timed ? plan_.nodes() : 0);
    int node = 0;
    try {
      const py::gil_scoped_release release;
      program_->run(in.data(), out.data(), threads, timed ? &seconds : nullptr, &node);
    } catch (const ArgumentError& error) {
      throw ArgumentError(plan_.about(node) + error.what());
    }
    return seconds;
  }

 private:
  static uint8_t* checked_data(const py::handle& tensor, const Extent& extent, int item,
                               const char* name) {
    const TensorView view(tensor, name,
                          item == 8   ? DType::i64
                          : item == 4 ? DType::f32
                                      : DType::u8);
    view.of_rank(extent.rank);
    for (int i = 0; i < extent.rank; ++i) {
      const auto d = static_cast<size_t>(i);
      view.with_size(i, extent.size[d]);
      if (extent.size[d] > 1 && view.numel() && view.stride(i) != extent.stride[d]) {
        view.fail("has other strides than those that were bound");
      }
    }
    return view.data<uint8_t>();
  }

  py::object kept_;
  const Plan& plan_;
  std::unique_ptr<Program> program_;
};

inline void bind_program(py::module_& m) {
  native_class<ProgramObject>(m, "Program")
      .def("outputs", &ProgramObject::outputs)
      .def("arena_bytes", &ProgramObject::arena_bytes)
      .def("accesses", &ProgramObject::accesses)
      .def("run", &ProgramObject::run);
}

}  // namespace qcore::python
