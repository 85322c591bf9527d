// Python classes of a plan and its programs: nodes are added one by one, sizes bound, and then a call is one call of `run`.
#pragma once

#include <optional>
#include <tuple>

#include "qcore/plan/attention.h"
#include "qcore/plan/floats.h"
#include "qcore/plan/moves.h"
#include "qcore/plan/pooling.h"

namespace qcore {

using SizesAndStrides = std::pair<std::vector<int64_t>, std::vector<int64_t>>;
using Scale = std::pair<double, int64_t>;  // with its zero point

inline QParams checked(const Scale& q) { return checked_u8(q.first, q.second, "a value"); }

inline Extent checked_extent(const SizesAndStrides& given) {
  const auto& [sizes, strides] = given;
  if (sizes.size() != strides.size() || sizes.size() > kMostDimensions) throw ArgumentError("an input must have at most 8 dimensions");
  Extent x;
  x.rank = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), x.size.begin());
  std::copy(strides.begin(), strides.end(), x.stride.begin());
  const auto negative = [](int64_t number) { return number < 0; };
  if (std::any_of(sizes.begin(), sizes.end(), negative) || std::any_of(strides.begin(), strides.end(), negative)) {
    throw ArgumentError("an input must not have negative sizes or strides");
  }
  return x;
}

inline SizesAndStrides described(const Extent& x) { return {{x.size.begin(), x.size.begin() + x.rank}, {x.stride.begin(), x.stride.begin() + x.rank}}; }

inline std::shared_ptr<const std::vector<uint8_t>> checked_table(const py::object& table) {
  const TensorView values(table, "table", DType::u8);
  values.contiguous().with_elements(256);
  return std::make_shared<const std::vector<uint8_t>>(values.data<uint8_t>(), values.data<uint8_t>() + 256);
}

inline Finish checked_finish(int low, int high, const py::object& table) {
  if (low < 0 || low > 255 || high < 0 || high > 255) throw ArgumentError("bounds must be in [0, 255]");
  Finish finish{low, high, nullptr};
  if (!table.is_none()) finish.table = checked_table(table);
  return finish;
}

// A plan with what Python owns of it.
class PythonPlan {
 public:
  explicit PythonPlan(const Kernels& kernels) : kernels_(kernels) {}

  // `item`: bytes of an element; 1 of integers, 4 of floats, 8 of indices.
  int input(int item) {
    if (item != 1 && item != 4 && item != 8) throw ArgumentError("an element has 1, 4 or 8 bytes");
    return plan_.input(item);
  }
  void output(int value) { plan_.output(value); }

  int quantize(const std::string& path, int x, const Scale& out) {
    return plan_.add(path, {x}, Takes::floats, quantize_operation(kernels_, quantize_parameters(checked(out), 0, 255)));
  }
  int dequantize(const std::string& path, int x, const Scale& qx) {
    const QParams q = checked(qx);
    return plan_.add(path, {x}, Takes::integers, dequantize_operation(kernels_, static_cast<float>(q.scale), q.zero));
  }

  // `inputs`: x, and where `sum` is given (the parameters of the other operand and of the result, and whether relu follows) that operand.
  int conv(const std::string& path, const std::vector<int>& inputs, const py::object& packed, const Scale& qx, const Scale& out, const py::object& sum, int low, int high,
           const py::object& table) {
    const Conv& conv = packed_of<Conv>(packed);
    kept_.push_back(packed);
    return plan_.add(path, inputs, Takes::integers, conv_operation(kernels_, conv, static_cast<uint8_t>(checked(qx).zero), constants(conv, inputs, qx, out, sum, low, high, table)));
  }
  int linear(const std::string& path, const std::vector<int>& inputs, const py::object& packed, const Scale& qx, const Scale& out, const py::object& sum, int low, int high,
             const py::object& table) {
    const Linear& linear = packed_of<Linear>(packed);
    kept_.push_back(packed);
    return plan_.add(path, inputs, Takes::integers, linear_operation(kernels_, linear, constants(linear, inputs, qx, out, sum, low, high, table)));
  }

  int add(const std::string& path, int a, int b, const Scale& qa, const Scale& qb, const Scale& out, bool relu, int low, int high, const py::object& table) {
    const QParams y = checked(out);
    return plan_.add(path, {a, b}, Takes::integers, binary_operation<&Kernels::add>(kernels_, operand(checked(qa)), operand(checked(qb)), integer_result(y, inverse(y.scale), relu),
                                                                 checked_finish(low, high, table), y.zero));
  }
  int mul(const std::string& path, int a, int b, const Scale& qa, const Scale& qb, const Scale& out, bool relu, int low, int high, const py::object& table) {
    const QParams y = checked(out);
    const Operand left = operand(checked(qa)), right = operand(checked(qb));
    return plan_.add(path, {a, b}, Takes::integers, binary_operation<&Kernels::mul>(kernels_, left, right, integer_result(y, left.scale * right.scale * inverse(y.scale), relu),
                                                                 checked_finish(low, high, table), y.zero));
  }
  int clamp(const std::string& path, int x, int low, int high) {
    checked_finish(low, high, py::none());
    return plan_.add(path, {x}, Takes::integers, clamp_operation(kernels_, static_cast<uint8_t>(low), static_cast<uint8_t>(high)));
  }
  int table(const std::string& path, int x, const py::object& table) {
    return plan_.add(path, {x}, Takes::integers, table_operation(kernels_, checked_table(table)));
  }
  int cat(const std::string& path, const std::vector<int>& inputs, int64_t dim, const std::vector<Scale>& given, const Scale& out, bool relu) {
    if (inputs.empty() || given.size() != inputs.size()) throw ArgumentError("cat needs at least one input, and parameters for each");
    std::vector<Operand> operands;
    for (const Scale& q : given) operands.push_back(operand(checked(q)));
    const QParams y = checked(out);
    return plan_.add(path, inputs, Takes::integers, cat_operation(kernels_, dim, std::move(operands), integer_result(y, inverse(y.scale), relu)));
  }

  // `inputs`: x, and what is added to it where there are two. `norm`: weight, bias, sizes and eps; `quantization`: the packed weights of one
  // of the dynamic linears that read the rows, whether the range is reduced, and whether each row has its own. Gives the floats, which are
  // only there for their sizes where they are not `kept`, and the quantized rows (-1 where there are none).
  std::pair<int, int> float_chain(const std::string& path, const std::vector<int>& inputs, const py::object& norm, const py::object& function, const py::object& quantization, bool kept) {
    FloatChain chain;
    chain.add = inputs.size() == 2;
    chain.kept = kept;
    if (inputs.empty() || inputs.size() > 2) throw ArgumentError("a chain has one input, or two that are added");
    if (!norm.is_none()) {
      using Norm = std::tuple<py::object, py::object, std::vector<int64_t>, double>;
      const auto [weight, bias, shape, eps] = cast_argument<Norm>(norm, "norm", "None, or a weight, a bias, their sizes and eps");
      const TensorView w(weight, "weight", DType::f32), b(bias, "bias", DType::f32);
      const int64_t length = std::accumulate(shape.begin(), shape.end(), int64_t{1}, checked_product);
      w.contiguous().with_elements(length), b.contiguous().with_elements(length);
      keep(weight), keep(bias);
      chain.norm = RowNorm{w.data<float>(), b.data<float>(), length, shape, static_cast<float>(eps)};
    }
    if (!function.is_none()) chain.function = float_function_of(cast_argument<std::string>(function, "function", "None or a name"));
    if (!quantization.is_none()) {
      using Rows = std::tuple<py::object, bool, bool>;
      const auto [packed, reduce_range, per_row] = cast_argument<Rows>(quantization, "quantization", "None, or a packed linear, reduce_range and per_row");
      chain.quantization = RowQuantization{&packed_of<Linear>(packed).packed(), reduce_range ? 127 : 255, per_row};
      kept_.push_back(packed);
      if (chain.norm && chain.norm->length != chain.quantization->weights->k) throw ArgumentError("rows that are normalized and quantized must be the same");
    } else if (!kept) {
      throw ArgumentError("a chain has no result");
    }
    const int floats = plan_.add(path, inputs, Takes::floats, chain_operation(kernels_, chain));
    if (!chain.quantization) return {floats, -1};
    return {floats, plan_.add(path, {floats}, Takes::elements, quantized_part_operation(*chain.quantization->weights, chain.stored()))};
  }
  int attention(const std::string& path, const std::vector<int>& inputs, std::optional<double> scale, bool causal) {
    if (inputs.size() != 3 && inputs.size() != 4) throw ArgumentError("attention has q, k, v, and at most a mask");
    return plan_.add(path, inputs, Takes::anything, attention_operation(kernels_, scale, causal));
  }
  int float_embedding(const std::string& path, int indices, const py::object& weight) {
    const FloatRows table(weight);
    keep(weight);
    return plan_.add(path, {indices}, Takes::indices, float_embedding_operation(table));
  }
  int64_t nodes() const { return static_cast<int64_t>(plan_.nodes()); }
  // `floats`: what was quantized, for its sizes.
  int dynamic_linear(const std::string& path, int rows, int floats, const py::object& packed) {
    const Linear& linear = packed_of<Linear>(packed);
    kept_.push_back(packed);
    return plan_.add(path, {rows, floats}, Takes::anything, dynamic_linear_operation(kernels_, linear));
  }

  int max_pool(const std::string& path, int x, int rank, const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding, const Tuple3& dilation, bool ceil_mode) {
    return plan_.add(path, {x}, Takes::integers, max_pool_operation(kernels_, {rank, kernel, stride, padding, dilation, ceil_mode}));
  }
  int avg_pool(const std::string& path, int x, int rank, const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding, bool ceil_mode, int64_t zero, bool include_pad,
               int64_t divisor) {
    return plan_.add(path, {x}, Takes::integers, avg_pool_operation(kernels_, {rank, kernel, stride, padding, {1, 1, 1}, ceil_mode}, checked({1.0, zero}).zero, include_pad, divisor));
  }
  int adaptive_avg_pool(const std::string& path, int x, int rank, const Tuple3& sizes, int64_t zero) {
    return plan_.add(path, {x}, Takes::integers, adaptive_avg_pool_operation(kernels_, rank, sizes, checked({1.0, zero}).zero));
  }
  int mean(const std::string& path, int x, const std::vector<int64_t>& dims, bool keepdim, int64_t zero) {
    return plan_.add(path, {x}, Takes::integers, mean_operation(kernels_, dims, keepdim, checked({1.0, zero}).zero));
  }

  int identity(const std::string& path, int x) { return plan_.add(path, {x}, Takes::elements, identity_operation()); }
  int contiguous(const std::string& path, int x) { return plan_.add(path, {x}, Takes::elements, contiguous_operation()); }
  // `sizes`: (number, input, dim); where input is at least 0 its size `dim` in the place of the number.
  int reshape(const std::string& path, const std::vector<int>& inputs, const std::vector<std::tuple<int64_t, int, int64_t>>& sizes) {
    std::vector<ReshapedSize> found;
    for (const auto& [number, input, dim] : sizes) {
      if (input >= static_cast<int>(inputs.size())) throw ArgumentError("reshape asks for the size of an input that is not there");
      found.push_back({number, input, dim});
    }
    return plan_.add(path, inputs, Takes::elements, reshape_operation(std::move(found)));
  }
  int flatten(const std::string& path, int x, int64_t start, int64_t end) { return plan_.add(path, {x}, Takes::elements, flatten_operation(start, end)); }
  int permute(const std::string& path, int x, const std::vector<int64_t>& dims) { return plan_.add(path, {x}, Takes::elements, permute_operation(dims)); }
  int transpose(const std::string& path, int x, int64_t first, int64_t second) { return plan_.add(path, {x}, Takes::elements, transpose_operation(first, second)); }
  int squeeze(const std::string& path, int x, int64_t dim) { return plan_.add(path, {x}, Takes::elements, squeeze_operation(dim)); }
  int unsqueeze(const std::string& path, int x, int64_t dim) { return plan_.add(path, {x}, Takes::elements, unsqueeze_operation(dim)); }
  int select(const std::string& path, int x, int64_t dim, int64_t index) { return plan_.add(path, {x}, Takes::elements, select_operation(dim, index)); }
  int slice(const std::string& path, int x, int64_t dim, int64_t start, std::optional<int64_t> stop, int64_t step) {
    return plan_.add(path, {x}, Takes::elements, slice_operation(dim, start, stop.value_or(int64_t{1} << 62), step));
  }
  int chunk(const std::string& path, int x, int64_t chunks, int64_t dim, int64_t index) { return plan_.add(path, {x}, Takes::elements, chunk_operation(chunks, dim, index)); }

  const Plan& plan() const { return plan_; }

 private:
  // Its layout is that of its kernels, and no others may read it.
  template <class Weighted>
  const Weighted& packed_of(const py::object& packed) const {
    const auto& found = cast_argument<const Weighted&>(packed, "packed", "the packed weights of a layer of this kind");
    if (&found.kernels() != &kernels_) throw ArgumentError("packed must be made by the kernels of the plan, " + std::string(kernels_.name) + ", not " + found.kernels().name);
    return found;
  }

  // The memory of a tensor, also where the tensor itself is given another one.
  void keep(const py::object& tensor) { kept_.push_back(tensor.attr("detach")()); }

  template <class Weighted>
  WeightedConstants constants(const Weighted& weighted, const std::vector<int>& inputs, const Scale& qx, const Scale& out, const py::object& sum, int low, int high,
                              const py::object& table) const {
    const QParams x = checked(qx), y = checked(out);
    WeightedConstants made{std::make_shared<const Requantization>(weighted.packed(), x, y), weighted.packed(), weighted.relu(), y.zero, checked_finish(low, high, table)};
    made.has_sum = !sum.is_none();
    if (inputs.size() != (made.has_sum ? 2 : 1)) throw ArgumentError("a sum needs one more input, and nothing else does");
    if (made.has_sum) {
      const auto [other, total, relu] = cast_argument<std::tuple<Scale, Scale, bool>>(sum, "sum", "None, or the scale and zero point of both, and relu");
      const QParams q = checked(total);
      made.sum = {operand(y), operand(checked(other)), integer_result(q, inverse(q.scale), relu)};
      made.finish.bound(made.sum.result.low, made.sum.result.high, q.zero);
    }
    return made;
  }

  const Kernels& kernels_;
  Plan plan_;
  std::vector<py::object> kept_;
};

// A program with the plan that it belongs to.
class PythonProgram {
 public:
  // py::keep_alive would keep the plan as well, but crashes in pybind11 3.1 where an argument is none that the function takes.
  PythonProgram(const py::object& plan, const std::vector<SizesAndStrides>& sizes)
      : kept_(plan), plan_(cast_argument<const PythonPlan&>(plan, "self", "a plan").plan()) {
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

  // Of each step: what it reads, and what it writes, as (memory, first byte, byte behind the last one, value).
  using Range = std::tuple<std::string, int64_t, int64_t, int>;
  std::vector<std::pair<std::vector<Range>, Range>> accesses() const {
    const auto range = [](const Program::Range& r) { return Range{r.memory, r.begin, r.end, r.value}; };
    std::vector<std::pair<std::vector<Range>, Range>> found;
    for (const Program::Access& access : program_->accesses()) {
      std::vector<Range> reads;
      for (const Program::Range& read : access.reads) reads.push_back(range(read));
      found.emplace_back(std::move(reads), range(access.write));
    }
    return found;
  }

  // Returns the seconds of each node of the plan where `timed`.
  std::vector<double> run(const py::sequence& inputs, const py::sequence& outputs, int threads, bool timed) const {
    std::vector<const uint8_t*> in;
    std::vector<uint8_t*> out;
    if (inputs.size() != program_->inputs().size() || outputs.size() != program_->outputs().size()) throw ArgumentError("inputs or outputs are too few or too many");
    for (size_t i = 0; i < inputs.size(); ++i) in.push_back(checked_data(inputs[i], program_->inputs()[i], program_->input_item(i), "an input"));
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
  static uint8_t* checked_data(const py::handle& tensor, const Extent& extent, int item, const char* name) {
    const TensorView view(tensor, name, item == 8 ? DType::i64 : item == 4 ? DType::f32 : DType::u8);
    view.of_rank(extent.rank);
    for (int i = 0; i < extent.rank; ++i) {
      const auto d = static_cast<size_t>(i);
      view.with_size(i, extent.size[d]);
      if (extent.size[d] > 1 && view.numel() && view.stride(i) != extent.stride[d]) view.fail("has other strides than those that were bound");
    }
    return view.data<uint8_t>();
  }

  py::object kept_;
  const Plan& plan_;
  std::unique_ptr<Program> program_;
};

inline void bind_plan(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<PythonProgram>(m, "Program")
      .def("outputs", &PythonProgram::outputs)
      .def("arena_bytes", &PythonProgram::arena_bytes)
      .def("accesses", &PythonProgram::accesses)
      .def("run", &PythonProgram::run);
  using P = PythonPlan;
  py::class_<P> plan = native_class<P>(m, "Plan");
  plan.def("input", &P::input).def("output", &P::output).def("quantize", &P::quantize).def("dequantize", &P::dequantize);
  plan.def("conv", &P::conv).def("linear", &P::linear).def("add", &P::add).def("mul", &P::mul).def("clamp", &P::clamp).def("table", &P::table).def("cat", &P::cat);
  plan.def("float_chain", &P::float_chain).def("attention", &P::attention).def("float_embedding", &P::float_embedding).def("nodes", &P::nodes).def("dynamic_linear", &P::dynamic_linear);
  plan.def("max_pool", &P::max_pool).def("avg_pool", &P::avg_pool).def("adaptive_avg_pool", &P::adaptive_avg_pool).def("mean", &P::mean);
  plan.def("identity", &P::identity).def("contiguous", &P::contiguous).def("reshape", &P::reshape).def("flatten", &P::flatten).def("permute", &P::permute);
  plan.def("transpose", &P::transpose).def("squeeze", &P::squeeze).def("unsqueeze", &P::unsqueeze).def("select", &P::select).def("slice", &P::slice);
  plan.def("chunk", &P::chunk);
  plan.def("bind", [](const py::object& self, const std::vector<SizesAndStrides>& sizes) { return std::make_unique<PythonProgram>(self, sizes); });
  kernels.def("plan", [](const Kernels& k) { return std::make_unique<PythonPlan>(k); });
}

}  // namespace qcore
