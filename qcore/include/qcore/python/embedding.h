// The Python class of embedding tables: arguments are checked here, then the GIL is released for
// the work.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>

#include "qcore/isa/kernels.h"
#include "qcore/ops/embedding.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

class EmbeddingObject {
 public:
  // weight (rows, dim) uint8; parameters (rows, 2): scale and offset; mapping: int64, or None.
  EmbeddingObject(const Kernels& kernels, const py::object& weight, const py::object& parameters,
                  const py::object& mapping, bool nibbles)
      : embedding_(kernels, table_of(weight, parameters, nibbles), names_of(weight, mapping)) {
    if (!nibbles) weight_ = weight.attr("detach")();
    if (!mapping.is_none()) mapping_ = mapping.attr("detach")();
  }

  // Bags from offsets (int64; with `last`, the last one is the number of indices), or, without, the
  // rows of indices, as y has rows.
  void run(const py::object& indices, bool wide, const py::object& offsets, bool last,
           const py::object& weights, bool mean, const py::object& y, int threads) const {
    const TensorView in(indices, "indices", wide ? DType::i64 : DType::i32),
        out(y, "y", DType::f32);
    in.contiguous();
    out.of_rank(2).contiguous().with_size(1, embedding_.dim());
    const BagRanges bags = bags_of(in, offsets, last, out.shape(0));
    const float* p = nullptr;
    if (!weights.is_none()) {
      p = TensorView(weights, "per_sample_weights", DType::f32)
              .contiguous()
              .with_elements(in.numel())
              .data<float>();
    }
    checked_threads(threads);
    const py::gil_scoped_release release;
    if (out.numel() == 0) return;
    if (wide) {
      return embedding_.run<int64_t>(bags, {in.data<int64_t>(), p, mean, out.data<float>()},
                                     threads);
    }
    embedding_.run<int32_t>(bags, {in.data<int32_t>(), p, mean, out.data<float>()}, threads);
  }

 private:
  static Table table_of(const py::object& weight, const py::object& parameters, bool nibbles) {
    const TensorView w(weight, "weight", DType::u8), p(parameters, "parameters", DType::f32);
    w.of_rank(2).contiguous();
    p.of_rank(2).contiguous().with_size(0, w.shape(0)).with_size(1, 2);
    return {w.data<uint8_t>(), w.shape(1), p.data<float>(), w.shape(0), w.shape(1), nibbles};
  }

  static RowNames names_of(const py::object& weight, const py::object& mapping) {
    const int64_t rows = TensorView(weight, "weight", DType::u8).shape(0);
    if (mapping.is_none()) return {rows, nullptr, rows};
    const TensorView m(mapping, "mapping", DType::i64);
    m.of_rank(1).contiguous();
    return {m.shape(0), m.data<int64_t>(), rows};
  }

  static BagRanges bags_of(const TensorView& indices, const py::object& offsets, bool last,
                           int64_t count) {
    BagRanges bags{count, indices.numel(), nullptr, 0};
    if (!offsets.is_none()) {
      const TensorView given(offsets, "offsets", DType::i64);
      given.of_rank(1).contiguous().with_elements(count + (last ? 1 : 0));
      bags.offsets = given.data<int64_t>();
      bags.check_offsets(given.numel(), last);
    } else if (count != 0) {
      bags.length = bags.entries / count;
      if (bags.length * count != bags.entries) {
        indices.fail("must have a whole number of elements for each of " + std::to_string(count) +
                     " bags");
      }
    }
    return bags;
  }

  Embedding embedding_;
  py::object weight_, mapping_;  // keep the memory that is read where it lies, also where a tensor
                                 // is given another one
};

inline std::unique_ptr<EmbeddingObject> make_embedding(const Kernels& kernels,
                                                       const py::object& weight,
                                                       const py::object& parameters,
                                                       const py::object& mapping, bool nibbles) {
  return std::make_unique<EmbeddingObject>(kernels, weight, parameters, mapping, nibbles);
}

inline void bind_embedding(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<EmbeddingObject>(m, "Embedding").def("run", &EmbeddingObject::run);
  kernels.def("embedding", &make_embedding);
}

}  // namespace qcore::python
