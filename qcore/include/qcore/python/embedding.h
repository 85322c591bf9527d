// Python class of embedding tables: arguments are checked here, then the GIL is released for the work.
#pragma once

#include "qcore/ops/embedding.h"
#include "qcore/python/linear.h"

namespace qcore {

// Bytes are read where they lie; values of 4 bits are packed in pairs, 16 values to 8 bytes.
class Embedding {
 public:
  // weight (rows, dim) uint8; parameters (rows, 2): scale and offset; mapping: int64, or None.
  Embedding(const Kernels& kernels, const py::object& weight, const py::object& parameters, const py::object& mapping, bool nibbles)
      : kernels_(kernels) {
    const TensorView w(weight, "weight", DType::u8), p(parameters, "parameters", DType::f32);
    w.of_rank(2).contiguous(), p.of_rank(2).contiguous().with_size(0, w.shape(0)).with_size(1, 2);
    weight_ = weight.attr("detach")();
    float* kept = parameters_.reserve(p.numel());
    prefer_large_pages(kept, static_cast<size_t>(p.numel()) * sizeof(float));
    std::copy_n(p.data<float>(), p.numel(), kept);
    table_ = {w.data<uint8_t>(), w.shape(1), kept, w.shape(0), w.shape(1), nibbles};
    names_ = {w.shape(0), nullptr, w.shape(0)};
    if (!mapping.is_none()) {
      const TensorView m(mapping, "mapping", DType::i64);
      m.of_rank(1).contiguous();
      mapping_ = mapping.attr("detach")();
      names_ = {m.shape(0), m.data<int64_t>(), w.shape(0)};
    }
    if (nibbles) pack(w.shape(0));
  }

  // Bags from offsets (int64; with `last`, the last one is the number of indices), or, without, the rows of indices, as y has rows.
  void run(const py::object& indices, bool wide, const py::object& offsets, bool last, const py::object& weights, bool mean, const py::object& y, int threads) const {
    const TensorView in(indices, "indices", wide ? DType::i64 : DType::i32), out(y, "y", DType::f32);
    in.contiguous(), out.of_rank(2).contiguous().with_size(1, table_.dim);
    BagRanges bags{out.shape(0), in.numel(), nullptr, 0};
    if (!offsets.is_none()) {
      check_offsets(bags, TensorView(offsets, "offsets", DType::i64), last);
    } else if (bags.count != 0) {
      bags.length = bags.entries / bags.count;
      if (bags.length * bags.count != bags.entries) in.fail("must have a whole number of elements for each of " + std::to_string(bags.count) + " bags");
    }
    const float* p = weights.is_none() ? nullptr : TensorView(weights, "per_sample_weights", DType::f32).contiguous().with_elements(in.numel()).data<float>();
    checked_threads(threads);
    const py::gil_scoped_release release;
    if (out.numel() == 0) return;
    if (wide) {
      sum_bags(kernels_, table_, names_, bags, in.data<int64_t>(), p, mean, out.data<float>(), threads);
    } else {
      sum_bags(kernels_, table_, names_, bags, in.data<int32_t>(), p, mean, out.data<float>(), threads);
    }
  }

 private:
  static void check_offsets(BagRanges& bags, const TensorView& offsets, bool last) {
    offsets.of_rank(1).contiguous().with_elements(bags.count + (last ? 1 : 0));
    bags.offsets = offsets.data<int64_t>();
    const int64_t given = offsets.numel();
    int64_t before = 0;
    bool rises = given > 0 ? bags.offsets[0] == 0 : bags.entries == 0;
    for (int64_t i = 0; i < given; ++i) {
      rises = rises && bags.offsets[i] >= before;
      before = bags.offsets[i];
    }
    if (!rises || before > bags.entries || (last && before != bags.entries)) {
      throw ArgumentError("offsets must rise from 0 to " + std::to_string(bags.entries) + ", the number of indices");
    }
  }

  void pack(int64_t rows) {
    const uint8_t* from = table_.rows;
    table_.stride = round_up(table_.dim, kLanes) / 2;
    uint8_t* to = packed_.reserve(rows * table_.stride);
    std::memset(to, 0, static_cast<size_t>(rows * table_.stride));
    table_.rows = to;
    for (int64_t row = 0; row < rows; ++row, from += table_.dim, to += table_.stride) {
      for (int64_t i = 0; i < table_.dim; ++i) {
        if (from[i] > 15) throw ArgumentError("weight holds " + std::to_string(from[i]) + ", which is not a value of 4 bits");
        const int64_t lane = i % kLanes;
        to[i / kLanes * 8 + lane % 8] |= static_cast<uint8_t>(lane < 8 ? from[i] : from[i] << 4);
      }
    }
    weight_ = py::none();
  }

  const Kernels& kernels_;
  py::object weight_, mapping_;  // keep the memory that is read where it lies, also where a tensor is given another one
  Table table_{};
  RowNames names_{};
  Buffer<float> parameters_;
  Buffer<uint8_t> packed_;
};

inline void bind_embedding(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<Embedding>(m, "Embedding").def("run", &Embedding::run);
  kernels.def("embedding", [](const Kernels& k, const py::object& weight, const py::object& parameters, const py::object& mapping, bool nibbles) {
    return std::make_unique<Embedding>(k, weight, parameters, mapping, nibbles);
  });
}

}  // namespace qcore
