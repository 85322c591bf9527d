// Python classes of linear and convolution: arguments are checked here, then the GIL is released for the work.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "qcore/ops/conv/gemm.h"
#include "qcore/ops/conv/depthwise.h"
#include "qcore/ops/conv/grid.h"
#include "qcore/ops/linear/linear.h"
#include "qcore/python/tensor_view.h"
#include "qcore/ops/conv/winograd.h"

namespace qcore {

// (2^31 - 1) / 255^2: more could overflow the sum where weights have zero points.
constexpr int64_t kMaxAccumulated = 33025;

inline QParams checked_qparams(double scale, int64_t zero, int64_t low, int64_t high, const char* name) {
  const float single = static_cast<float>(scale);
  if (!(single > 0.0f) || !std::isfinite(single)) {
    throw ArgumentError(std::string("the scale of ") + name + " must be a positive, finite float32 number, not " + std::to_string(scale));
  }
  if (zero < low || zero > high) {
    throw ArgumentError(std::string("the zero point of ") + name + " must be in [" + std::to_string(low) + ", " + std::to_string(high) + "], not " +
                          std::to_string(zero));
  }
  return {scale, static_cast<int32_t>(zero)};
}

inline QParams checked_u8(double scale, int64_t zero, const char* name) { return checked_qparams(scale, zero, 0, 255, name); }

// Dense activations: uint8, or int8, which kernels have as uint8: each number, and the zero point, 128 more.
class Activations : public TensorView {
 public:
  Activations(py::handle tensor, const char* name) : Activations(tensor, name, has_dtype(tensor, DType::s8)) {}

  QParams qparams(double scale, int64_t zero, const char* name) const {
    if (!signed_) return checked_u8(scale, zero, name);
    QParams q = checked_qparams(scale, zero, -128, 127, name);
    q.zero += 128;
    return q;
  }

  // As they are stored.
  Operand operand(double scale, int64_t zero, const char* name) const {
    const QParams q = qparams(scale, zero, name);
    return {static_cast<float>(q.scale), q.zero - shift(), signed_};
  }

  // How much more the kernels have each number.
  int32_t shift() const { return signed_ ? 128 : 0; }
  bool is_signed() const { return signed_; }

  // As the kernels take them; `room` is for those of int8.
  const uint8_t* input(std::vector<uint8_t>& room) const {
    if (!signed_) return data<uint8_t>();
    room.resize(static_cast<size_t>(numel()));
    turn(room.data(), 0, numel());
    return room.data();
  }

  // After the kernels wrote them.
  void finish_output() const { finish_output(0, numel()); }
  void finish_output(int64_t begin, int64_t end) const {
    if (signed_) turn(data<uint8_t>(), begin, end);
  }

  // Those of int8 as the kernels take them.
  void turn(uint8_t* to, int64_t begin, int64_t end) const {
    const auto* from = data<uint8_t>();
    for (int64_t i = begin; i < end; ++i) to[i] = from[i] ^ 0x80;
  }

 private:
  Activations(py::handle tensor, const char* name, bool is_signed) : TensorView(tensor, name, is_signed ? DType::s8 : DType::u8), signed_(is_signed) {}

  bool signed_;
};

inline void check_same_dtype(const Activations& x, const Activations& y) {
  if (x.is_signed() != y.is_signed()) y.fail("must have the dtype of x");
}

// More than there may be are as many as there may be.
inline void checked_threads(int& threads) {
  if (threads < 1) throw ArgumentError("threads must be at least 1, not " + std::to_string(threads));
  threads = std::min(threads, kMostThreads);
}

inline WeightQuantization weight_quantization(const py::object& scales, const py::object& zeros, bool per_channel, int64_t n) {
  const TensorView s(scales, "weight scales", DType::f32), z(zeros, "weight zero points", DType::i32);
  s.contiguous().with_elements(n), z.contiguous().with_elements(n);
  WeightQuantization q{{s.data<float>(), s.data<float>() + n}, {z.data<int32_t>(), z.data<int32_t>() + n}, per_channel};
  for (int64_t c = 0; c < n; ++c) {
    checked_qparams(static_cast<double>(q.scales[static_cast<size_t>(c)]), q.zeros[static_cast<size_t>(c)], -128, 127, "weight");
  }
  return q;
}

inline const float* checked_bias(const py::object& bias, int64_t n) {
  if (bias.is_none()) return nullptr;
  return TensorView(bias, "bias", DType::f32).contiguous().with_elements(n).data<float>();
}

inline void check_accumulated(int64_t k) {
  if (k == 0) throw ArgumentError("the weight has no elements");
  if (k > kMaxAccumulated) throw ArgumentError("sums of " + std::to_string(k) + " products may overflow; at most " + std::to_string(kMaxAccumulated));
}

// The number of rows of x (..., k), where y is (..., n) with the same rows.
inline int64_t checked_rows(const TensorView& x, int64_t k, const TensorView& y, int64_t n) {
  x.contiguous(), y.contiguous();
  if (x.rank() < 1) x.fail("must have at least one dimension");
  x.with_size(x.rank() - 1, k);
  y.of_rank(x.rank()).with_size(x.rank() - 1, n);
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank(); ++i) {
    y.with_size(i, x.shape(i));
    rows *= x.shape(i);
  }
  return rows;
}

class Linear {
 public:
  Linear(const Kernels& kernels, const py::object& weight, const py::object& scales, const py::object& zeros, bool per_channel, const py::object& bias, bool relu)
      : kernels_(kernels), relu_(relu) {
    const TensorView w(weight, "weight", DType::s8);
    w.of_rank(2).contiguous();
    const int64_t n = w.shape(0), k = w.shape(1);
    check_accumulated(w.numel() ? k : 0);
    const int8_t* data = w.data<int8_t>();
    packed_.pack(kernels.layout, 1, n, k, [&](int64_t, int64_t c, int64_t i) { return data[c * k + i]; }, weight_quantization(scales, zeros, per_channel, n), checked_bias(bias, n));
  }

  void run(const py::object& x, double scale_x, int64_t zero_x, double scale_y, int64_t zero_y, const py::object& y, int threads) {
    const Activations in(x, "x"), out(y, "y");
    const int64_t rows = checked_rows(in, packed_.k, out, packed_.n);
    const auto parameters = cache_.get(packed_, in.qparams(scale_x, zero_x, "x"), out.qparams(scale_y, zero_y, "y"));
    checked_threads(threads);
    const py::gil_scoped_release release;
    std::vector<uint8_t> room;
    run_rows(in.input(room), rows, parameters->output(packed_, out.data<uint8_t>(), packed_.n, relu_), threads);
    out.finish_output();
  }

  // The same for arguments that were checked.
  void run_rows(const uint8_t* x, int64_t rows, const RequantizedOutput& out, int threads) const {
    run_gemm(packed_, rows, threads, StaticLinearJob{kernels_, packed_, x, out});
  }

  const Kernels& kernels() const { return kernels_; }
  const PackedWeights& packed() const { return packed_; }
  bool relu() const { return relu_; }

  void run_dynamic(const py::object& x, const py::object& y, bool reduce_range, bool per_row, int threads) {
    const TensorView in(x, "x", DType::f32), out(y, "y", DType::f32);
    const int64_t rows = checked_rows(in, packed_.k, out, packed_.n);
    checked_threads(threads);
    const py::gil_scoped_release release;
    const int32_t qmax = reduce_range ? 127 : 255;
    const auto* data = in.data<float>();
    QParams tensor{};
    if (!per_row) {
      const auto [low, high] = range_of(kernels_, data, in.numel(), threads);
      tensor = choose_qparams(low, high, qmax);
    }
    run_gemm(packed_, rows, threads, DynamicLinearJob{kernels_, packed_, data, out.data<float>(), relu_, qmax, per_row ? nullptr : &tensor});
  }

 private:
  const Kernels& kernels_;
  PackedWeights packed_;
  RequantizationCache cache_;
  bool relu_;
};

using Tuple3 = std::array<int64_t, 3>;

inline void check_window(const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding, const Tuple3& dilation) {
  constexpr int64_t kMost = 1 << 24;
  for (size_t d = 0; d < 3; ++d) {
    if (std::min({kernel[d], stride[d], dilation[d]}) < 1 || padding[d] < 0) {
      throw ArgumentError("kernel size, stride and dilation must be at least 1, padding at least 0");
    }
    if (std::max({kernel[d], stride[d], dilation[d], padding[d]}) > kMost) {
      throw ArgumentError("kernel size, stride, dilation and padding must be at most " + std::to_string(kMost));
    }
  }
}

// The windows over x (batch, channels, *spatial), which may have fewer than three spatial dimensions.
inline Windows make_windows(const TensorView& x, const Tuple3& kernel, const Tuple3& stride, const Tuple3& padding, const Tuple3& dilation) {
  Windows v;
  v.batch = x.shape(0), v.channels = x.shape(1);
  v.kernel = kernel, v.stride = stride, v.padding = padding, v.dilation = dilation;
  for (size_t d = 0; d < 3; ++d) {
    const int i = x.rank() - 3 + static_cast<int>(d);
    v.in[d] = i >= 2 ? x.shape(i) : 1;
  }
  return v;
}

inline void take_output_sizes(Windows& v, const TensorView& y) {
  for (size_t d = 0; d < 3; ++d) {
    const int i = y.rank() - 3 + static_cast<int>(d);
    v.out[d] = i >= 2 ? y.shape(i) : 1;
  }
}

class Conv {
 public:
  Conv(const Kernels& kernels, const py::object& weight, const py::object& scales, const py::object& zeros, bool per_channel, const py::object& bias, bool relu,
       const Tuple3& stride, const Tuple3& padding, const Tuple3& dilation, int64_t groups)
      : kernels_(kernels), relu_(relu), stride_(stride), padding_(padding), dilation_(dilation), groups_(groups) {
    const TensorView w(weight, "weight", DType::s8);
    w.of_rank(5).contiguous();
    kernel_ = {w.shape(2), w.shape(3), w.shape(4)};
    const int64_t outputs = w.shape(0), taps = w.numel() ? kernel_[0] * kernel_[1] * kernel_[2] : 0;
    check_window(kernel_, stride, padding, dilation);
    per_group_ = w.shape(1);
    if (groups < 1 || outputs % groups != 0) {
      throw ArgumentError("groups=" + std::to_string(groups) + " does not divide " + std::to_string(outputs) + " output channels");
    }
    check_accumulated(w.numel() ? per_group_ * taps : 0);
    const WeightQuantization q = weight_quantization(scales, zeros, per_channel, outputs);
    const bool zero = std::all_of(q.zeros.begin(), q.zeros.end(), [](int32_t z) { return z == 0; });
    const auto* data = w.data<int8_t>();
    constexpr int64_t kMostStep = 64;  // beyond, what is copied of the input may be much larger than all that is read of it
    depthwise_ = groups > 1 && per_group_ == 1 && outputs == groups && zero && std::max(stride[2], dilation[2]) <= kMostStep;
    if (depthwise_) {
      packed_.pack(Layout{kGroup, false, kernels.layout.signed_rows}, 1, outputs, taps, [&](int64_t, int64_t c, int64_t tap) { return data[c * taps + tap]; }, q, checked_bias(bias, outputs), 1);
      lines_.pack(kernel_, stride, dilation, outputs, [&](int64_t c, int64_t tap) { return data[c * taps + tap]; });
    } else {
      const bool near = std::max({stride[1], stride[2], padding[1], padding[2]}) <= kMostStep;
      const bool flat = kernel_[0] == 1 && stride[0] == 1 && padding[0] == 0 && zero && near;
      slices_ = ConvSlices::of(kernels.layout, kernel_, dilation, groups, per_group_, outputs / groups, flat, zero, !kernels.prepare_rows);
      const auto at = [&](int64_t slice, int64_t column, int64_t i) { return slices_.at(data, slice, column, i); };
      packed_.pack(kernels.layout, slices_.slices(), slices_.columns(), slices_.k(), at, q, checked_bias(bias, outputs));
      const bool square = kernel_ == Tuple3{1, 3, 3} && stride == Tuple3{1, 1, 1} && dilation == Tuple3{1, 1, 1} && padding[0] == 0 && groups == 1 && zero;
      if (kernels.winograd && square && per_group_ >= kLanes && per_group_ <= WinogradWeights::kMostChannels && outputs >= kLanes) {
        tiles_.pack(outputs, per_group_, [&](int64_t c, int64_t i) { return data + (c * per_group_ + i) * taps; });
      }
    }
  }

  void run(const py::object& x, double scale_x, int64_t zero_x, double scale_y, int64_t zero_y, const py::object& y, int threads) {
    const Activations in(x, "x"), out(y, "y");
    in.channels_last(), out.of_rank(in.rank()).channels_last();
    if (in.rank() > 5) in.fail("must have at most 3 spatial dimensions");
    in.with_size(1, per_group_ * groups_);
    out.with_size(0, in.shape(0)).with_size(1, channels());
    Windows windows = make_windows(in, kernel_, stride_, padding_, dilation_);
    take_output_sizes(windows, out);
    for (size_t d = 0; d < 3; ++d) {
      const int64_t size = output_size(windows, d);
      if (windows.out[d] != size) {
        throw ArgumentError("y has size " + std::to_string(windows.out[d]) + " where the convolution gives " + std::to_string(size));
      }
    }
    const auto parameters = cache_.get(packed_, in.qparams(scale_x, zero_x, "x"), out.qparams(scale_y, zero_y, "y"));
    checked_threads(threads);
    const py::gil_scoped_release release;
    std::vector<uint8_t> room;
    const auto zero = static_cast<uint8_t>(parameters->x.zero);
    run_windows(windows, in.input(room), zero, parameters->output(packed_, out.data<uint8_t>(), out.shape(1), relu_), threads);
    out.finish_output();
  }

  // The same for arguments that were checked.
  void run_windows(const Windows& windows, const uint8_t* x, uint8_t zero, const RequantizedOutput& output, int threads) const {
    const uint8_t* end = x + windows.batch * windows.channels * windows.in[0] * windows.in[1] * windows.in[2];
    if (depthwise_) return run_depthwise(kernels_, lines_, windows, x, end, zero, output, threads);
    if (!tiles_.empty() && windows.in[0] == 1 && winograd_pays(windows)) return run_winograd(kernels_, tiles_, windows, x, zero, output, threads);
    if (slices_.grid && windows.pixels() > 0) {
      const GridConv grid(slices_, windows);
      const bool in_place = !kernels_.prepare_rows && grid.reads_in_place(packed_.layout);
      if (in_place || !slices_.is_whole()) return run_grid_conv(kernels_, packed_, grid, slices_, windows, x, zero, output, in_place, threads);
    }
    run_gemm(packed_, windows.pixels(), threads, ConvJob{kernels_, packed_, windows, x, end, zero, output, is_pointwise(windows)});
  }

  bool is_pointwise(const Windows& v) const { return v.taps() == 1 && v.in == v.out && padding_ == Tuple3{0, 0, 0}; }

  // The windows over x (batch, channels, *spatial). Raises ArgumentError for other channels, and a kernel that is larger than x.
  Windows windows(int rank, const int64_t* sizes) const {
    if (rank < 3 || rank > 5 || sizes[1] != per_group_ * groups_) {
      throw ArgumentError("x must have " + std::to_string(per_group_ * groups_) + " channels, and 1 to 3 dimensions after them");
    }
    Windows v;
    v.batch = sizes[0], v.channels = sizes[1];
    v.kernel = kernel_, v.stride = stride_, v.padding = padding_, v.dilation = dilation_;
    for (size_t d = 0; d < 3; ++d) {
      const int i = rank - 3 + static_cast<int>(d);
      v.in[d] = i >= 2 ? sizes[i] : 1;
      v.out[d] = output_size(v, d);
    }
    return v;
  }

  bool depthwise() const { return depthwise_; }
  const Kernels& kernels() const { return kernels_; }
  int64_t channels() const { return packed_.n * packed_.groups; }
  const PackedWeights& packed() const { return packed_; }
  bool relu() const { return relu_; }

 private:
  static int64_t output_size(const Windows& v, size_t d) {
    if (v.in[d] < 1) throw ArgumentError("x has no elements in a dimension that the kernel moves over");
    const int64_t room = v.in[d] + 2 * v.padding[d] - v.dilation[d] * (v.kernel[d] - 1) - 1;
    if (room < 0) throw ArgumentError("the kernel is larger than the padded input");
    return room / v.stride[d] + 1;
  }

  const Kernels& kernels_;
  PackedWeights packed_;
  ConvSlices slices_;
  DepthwiseWeights lines_;  // depthwise
  WinogradWeights tiles_;   // 3x3, where it can be
  RequantizationCache cache_;
  bool relu_, depthwise_ = false;
  Tuple3 kernel_{}, stride_, padding_, dilation_;
  int64_t groups_, per_group_ = 0;
};

}  // namespace qcore
