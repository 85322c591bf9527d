// The Python class of a plan: nodes are added one by one, then sizes are bound.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/sizes.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/floats.h"
#include "qcore/ops/integers.h"
#include "qcore/plan/attention.h"
#include "qcore/plan/cat.h"
#include "qcore/plan/elementwise.h"
#include "qcore/plan/floats.h"
#include "qcore/plan/moves.h"
#include "qcore/plan/plan.h"
#include "qcore/plan/pooling.h"
#include "qcore/plan/weighted.h"
#include "qcore/python/arguments.h"
#include "qcore/python/classes.h"
#include "qcore/python/conv.h"
#include "qcore/python/floats.h"
#include "qcore/python/linear.h"
#include "qcore/python/program.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

using Scale = std::pair<double, int64_t>;  // with its zero point

inline QParams checked(const Scale& q) { return checked_u8(q.first, q.second, "a value"); }

inline std::shared_ptr<const std::vector<uint8_t>> checked_table(const py::object& table) {
  const TensorView values(table, "table", DType::u8);
  values.contiguous().with_elements(256);
  return std::make_shared<const std::vector<uint8_t>>(values.data<uint8_t>(),
                                                      values.data<uint8_t>() + 256);
}

inline Finish checked_finish(int low, int high, const py::object& table) {
  if (low < 0 || low > 255 || high < 0 || high > 255) {
    throw ArgumentError("bounds must be in [0, 255]");
  }
  Finish finish{low, high, nullptr};
  if (!table.is_none()) finish.table = checked_table(table);
  return finish;
}

// A plan with what Python owns of it.
class PlanObject {
 public:
  explicit PlanObject(const Kernels& kernels) : kernels_(kernels) {}

  // `item`: bytes of an element; 1 of integers, 4 of floats, 8 of indices.
  int input(int item) {
    if (item != 1 && item != 4 && item != 8) throw ArgumentError("an element has 1, 4 or 8 bytes");
    return plan_.input(item);
  }
  void output(int value) { plan_.output(value); }

  int quantize(const std::string& path, int x, const Scale& out) {
    return plan_.add(path, {x}, Takes::floats, quantize_operation(kernels_, checked(out)));
  }
  int dequantize(const std::string& path, int x, const Scale& qx) {
    return plan_.add(path, {x}, Takes::integers, dequantize_operation(kernels_, checked(qx)));
  }

  // `inputs`: x, and where `sum` is given (the parameters of the other operand and of the result,
  // and whether relu follows) that operand.
  int conv(const std::string& path, const std::vector<int>& inputs, const py::object& packed,
           const Scale& qx, const Scale& out, const py::object& sum, int low, int high,
           const py::object& table) {
    const Conv& conv = packed_of<ConvObject>(packed).weighted();
    kept_.push_back(packed);
    const Finish finish = checked_finish(low, high, table);
    return plan_.add(
        path, inputs, Takes::integers,
        conv_operation(kernels_, conv,
                       {conv, checked(qx), checked(out), finish, checked_sum(inputs, sum)}));
  }
  int linear(const std::string& path, const std::vector<int>& inputs, const py::object& packed,
             const Scale& qx, const Scale& out, const py::object& sum, int low, int high,
             const py::object& table) {
    const Linear& linear = packed_of<LinearObject>(packed).weighted();
    kept_.push_back(packed);
    const Finish finish = checked_finish(low, high, table);
    return plan_.add(
        path, inputs, Takes::integers,
        linear_operation(kernels_, linear,
                         {linear, checked(qx), checked(out), finish, checked_sum(inputs, sum)}));
  }

  template <BinaryKernel kernel>
  int binary(const std::string& path, int a, int b, const Scale& qa, const Scale& qb,
             const Scale& out, bool relu, int low, int high, const py::object& table) {
    const BinaryConstants q =
        binary_constants<kernel>(checked(qa), checked(qb), checked(out), relu);
    return plan_.add(path, {a, b}, Takes::integers,
                     binary_operation<kernel>(kernels_, q, checked_finish(low, high, table)));
  }
  int clamp(const std::string& path, int x, int low, int high) {
    checked_finish(low, high, py::none());
    return plan_.add(
        path, {x}, Takes::integers,
        clamp_operation(kernels_, static_cast<uint8_t>(low), static_cast<uint8_t>(high)));
  }
  int table(const std::string& path, int x, const py::object& table) {
    return plan_.add(path, {x}, Takes::integers, table_operation(kernels_, checked_table(table)));
  }
  int cat(const std::string& path, const std::vector<int>& inputs, int64_t dim,
          const std::vector<Scale>& given, const Scale& out, bool relu) {
    if (inputs.empty() || given.size() != inputs.size()) {
      throw ArgumentError("cat needs at least one input, and parameters for each");
    }
    std::vector<Operand> operands;
    for (const Scale& q : given) operands.push_back(operand(checked(q)));
    return plan_.add(path, inputs, Takes::integers,
                     cat_operation(kernels_, dim, std::move(operands), checked(out), relu));
  }

  // `inputs`: x, and what is added to it where there are two. `norm`: weight, bias, sizes and eps;
  // `quantization`: the packed weights of one of the dynamic linears that read the rows, whether
  // the range is reduced, and whether each row has its own. Gives the floats, which are only there
  // for their sizes where they are not `kept`, and the quantized rows (-1 where there are none).
  std::pair<int, int> float_chain(const std::string& path, const std::vector<int>& inputs,
                                  const py::object& norm, const py::object& function,
                                  const py::object& quantization, bool kept) {
    FloatChain chain;
    chain.add = inputs.size() == 2;
    chain.kept = kept;
    if (inputs.empty() || inputs.size() > 2) {
      throw ArgumentError("a chain has one input, or two that are added");
    }
    if (!norm.is_none()) {
      using Norm = std::tuple<py::object, py::object, std::vector<int64_t>, double>;
      const auto [weight, bias, shape, eps] =
          cast_argument<Norm>(norm, "norm", "None, or a weight, a bias, their sizes and eps");
      const TensorView w(weight, "weight", DType::f32), b(bias, "bias", DType::f32);
      const int64_t length =
          std::accumulate(shape.begin(), shape.end(), int64_t{1}, checked_product);
      w.contiguous().with_elements(length);
      b.contiguous().with_elements(length);
      keep(weight);
      keep(bias);
      chain.norm =
          RowNorm{w.data<float>(), b.data<float>(), length, shape, static_cast<float>(eps)};
    }
    if (!function.is_none()) {
      chain.function =
          float_function_of(cast_argument<std::string>(function, "function", "None or a name"));
    }
    if (!quantization.is_none()) {
      using Rows = std::tuple<py::object, bool, bool>;
      const auto [packed, reduce_range, per_row] = cast_argument<Rows>(
          quantization, "quantization", "None, or a packed linear, reduce_range and per_row");
      chain.quantization = RowQuantization{&packed_of<LinearObject>(packed).weighted().packed(),
                                           {reduce_range ? 127 : 255, per_row}};
      kept_.push_back(packed);
      if (chain.norm && chain.norm->length != chain.quantization->weights->k) {
        throw ArgumentError("rows that are normalized and quantized must be the same");
      }
    } else if (!kept) {
      throw ArgumentError("a chain has no result");
    }
    const int floats = plan_.add(path, inputs, Takes::floats, chain_operation(kernels_, chain));
    if (!chain.quantization) return {floats, -1};
    return {floats,
            plan_.add(path, {floats}, Takes::elements,
                      quantized_part_operation(*chain.quantization->weights, chain.stored()))};
  }
  int attention(const std::string& path, const std::vector<int>& inputs,
                std::optional<double> scale, bool causal) {
    if (inputs.size() != 3 && inputs.size() != 4) {
      throw ArgumentError("attention has q, k, v, and at most a mask");
    }
    return plan_.add(path, inputs, Takes::anything, attention_operation(kernels_, scale, causal));
  }
  int float_embedding(const std::string& path, int indices, const py::object& weight) {
    const FloatRows table = float_rows(weight);
    keep(weight);
    return plan_.add(path, {indices}, Takes::indices, float_embedding_operation(table));
  }
  int64_t nodes() const { return static_cast<int64_t>(plan_.nodes()); }
  // `floats`: what was quantized, for its sizes.
  int dynamic_linear(const std::string& path, int rows, int floats, const py::object& packed) {
    const Linear& linear = packed_of<LinearObject>(packed).weighted();
    kept_.push_back(packed);
    return plan_.add(path, {rows, floats}, Takes::anything,
                     dynamic_linear_operation(kernels_, linear));
  }

  int max_pool(const std::string& path, int x, int rank, const Sizes3& kernel, const Sizes3& stride,
               const Sizes3& padding, const Sizes3& dilation, bool ceil_mode) {
    return plan_.add(
        path, {x}, Takes::integers,
        max_pool_operation(kernels_, {{kernel, stride, padding, dilation}, rank, ceil_mode}));
  }
  int avg_pool(const std::string& path, int x, int rank, const Sizes3& kernel, const Sizes3& stride,
               const Sizes3& padding, bool ceil_mode, int64_t zero, bool include_pad,
               int64_t divisor) {
    return plan_.add(
        path, {x}, Takes::integers,
        avg_pool_operation(kernels_, {{kernel, stride, padding, {1, 1, 1}}, rank, ceil_mode},
                           checked({1.0, zero}).zero, include_pad, divisor));
  }
  int adaptive_avg_pool(const std::string& path, int x, int rank, const Sizes3& sizes,
                        int64_t zero) {
    return plan_.add(path, {x}, Takes::integers,
                     adaptive_avg_pool_operation(kernels_, rank, sizes, checked({1.0, zero}).zero));
  }
  int mean(const std::string& path, int x, const std::vector<int64_t>& dims, bool keepdim,
           int64_t zero) {
    return plan_.add(path, {x}, Takes::integers,
                     mean_operation(kernels_, dims, keepdim, checked({1.0, zero}).zero));
  }

  int identity(const std::string& path, int x) {
    return plan_.add(path, {x}, Takes::elements, identity_operation());
  }
  int contiguous(const std::string& path, int x) {
    return plan_.add(path, {x}, Takes::elements, contiguous_operation());
  }
  // `sizes`: (number, input, dim); where input is at least 0 its size `dim` in the place of the
  // number.
  int reshape(const std::string& path, const std::vector<int>& inputs,
              const std::vector<std::tuple<int64_t, int, int64_t>>& sizes) {
    std::vector<ReshapedSize> found;
    for (const auto& [number, input, dim] : sizes) {
      if (input >= static_cast<int>(inputs.size())) {
        throw ArgumentError("reshape asks for the size of an input that is not there");
      }
      found.push_back({number, input, dim});
    }
    return plan_.add(path, inputs, Takes::elements, reshape_operation(std::move(found)));
  }
  int flatten(const std::string& path, int x, int64_t start, int64_t end) {
    return plan_.add(path, {x}, Takes::elements, flatten_operation(start, end));
  }
  int permute(const std::string& path, int x, const std::vector<int64_t>& dims) {
    return plan_.add(path, {x}, Takes::elements, permute_operation(dims));
  }
  int transpose(const std::string& path, int x, int64_t first, int64_t second) {
    return plan_.add(path, {x}, Takes::elements, transpose_operation(first, second));
  }
  int squeeze(const std::string& path, int x, int64_t dim) {
    return plan_.add(path, {x}, Takes::elements, squeeze_operation(dim));
  }
  int unsqueeze(const std::string& path, int x, int64_t dim) {
    return plan_.add(path, {x}, Takes::elements, unsqueeze_operation(dim));
  }
  int select(const std::string& path, int x, int64_t dim, int64_t index) {
    return plan_.add(path, {x}, Takes::elements, select_operation(dim, index));
  }
  int slice(const std::string& path, int x, int64_t dim, int64_t start, std::optional<int64_t> stop,
            int64_t step) {
    return plan_.add(path, {x}, Takes::elements,
                     slice_operation(dim, start, stop.value_or(int64_t{1} << 62), step));
  }
  int chunk(const std::string& path, int x, int64_t chunks, int64_t dim, int64_t index) {
    return plan_.add(path, {x}, Takes::elements, chunk_operation(chunks, dim, index));
  }

  const Plan& plan() const { return plan_; }

 private:
  // Its layout is that of its kernels, and no others may read it.
  template <class Object>
  const Object& packed_of(const py::object& packed) const {
    const auto& found = cast_argument<const Object&>(packed, "packed",
                                                     "the packed weights of a layer of this kind");
    const Kernels& own = found.weighted().kernels();
    if (&own != &kernels_) {
      throw ArgumentError("packed must be made by the kernels of the plan, " +
                          std::string(kernels_.name) + ", not " + own.name);
    }
    return found;
  }

  // The memory of a tensor, also where the tensor itself is given another one.
  void keep(const py::object& tensor) { kept_.push_back(tensor.attr("detach")()); }

  static std::optional<WeightedSum> checked_sum(const std::vector<int>& inputs,
                                                const py::object& sum) {
    if (inputs.size() != (sum.is_none() ? 1 : 2)) {
      throw ArgumentError("a sum needs one more input, and nothing else does");
    }
    if (sum.is_none()) return std::nullopt;
    using Given = std::tuple<Scale, Scale, bool>;
    const auto [other, total, relu] =
        cast_argument<Given>(sum, "sum", "None, or the scale and zero point of both, and relu");
    return WeightedSum{checked(other), checked(total), relu};
  }

  const Kernels& kernels_;
  Plan plan_;
  std::vector<py::object> kept_;
};

inline std::unique_ptr<ProgramObject> bind_sizes(const py::object& self,
                                                 const std::vector<SizesAndStrides>& sizes) {
  const auto& plan = cast_argument<const PlanObject&>(self, "self", "a plan");
  return std::make_unique<ProgramObject>(self, plan.plan(), sizes);
}

inline void bind_plan(py::module_& m, py::class_<Kernels>& kernels) {
  using P = PlanObject;
  native_class<P>(m, "Plan")
      .def("input", &P::input)
      .def("output", &P::output)
      .def("nodes", &P::nodes)
      .def("bind", &bind_sizes)
      .def("quantize", &P::quantize)
      .def("dequantize", &P::dequantize)
      .def("conv", &P::conv)
      .def("linear", &P::linear)
      .def("add", &P::binary<&Kernels::add>)
      .def("mul", &P::binary<&Kernels::mul>)
      .def("clamp", &P::clamp)
      .def("table", &P::table)
      .def("cat", &P::cat)
      .def("float_chain", &P::float_chain)
      .def("attention", &P::attention)
      .def("float_embedding", &P::float_embedding)
      .def("dynamic_linear", &P::dynamic_linear)
      .def("max_pool", &P::max_pool)
      .def("avg_pool", &P::avg_pool)
      .def("adaptive_avg_pool", &P::adaptive_avg_pool)
      .def("mean", &P::mean)
      .def("identity", &P::identity)
      .def("contiguous", &P::contiguous)
      .def("reshape", &P::reshape)
      .def("flatten", &P::flatten)
      .def("permute", &P::permute)
      .def("transpose", &P::transpose)
      .def("squeeze", &P::squeeze)
      .def("unsqueeze", &P::unsqueeze)
      .def("select", &P::select)
      .def("slice", &P::slice)
      .def("chunk", &P::chunk);
  bind_program(m);
  kernels.def("plan", [](const Kernels& k) { return std::make_unique<PlanObject>(k); });
}

}  // namespace qcore::python
