// The Python class of transposed convolution: arguments are checked here, then the GIL is released for the work.
#pragma once

#include <memory>

#include "qcore/ops/conv/transpose.h"
#include "qcore/python/linear.h"

namespace qcore {

class ConvTranspose {
 public:
  // weight (in, out / groups, three kernel sizes); parameters of each of the out channels.
  ConvTranspose(const Kernels& kernels, const py::object& weight, const py::object& scales, const py::object& zeros, bool per_channel, const py::object& bias,
                bool relu, const Tuple3& stride, const Tuple3& padding, const Tuple3& output_padding, const Tuple3& dilation, int64_t groups)
      : kernels_(kernels), relu_(relu) {
    const TensorView w(weight, "weight", DType::s8);
    w.of_rank(5).contiguous();
    geometry_ = {{w.shape(2), w.shape(3), w.shape(4)}, stride, padding, output_padding, dilation, groups};
    check_window(geometry_.kernel, stride, padding, dilation);
    for (size_t d = 0; d < 3; ++d) {
      if (output_padding[d] < 0 || output_padding[d] >= std::max(stride[d], dilation[d])) {
        throw ArgumentError("output padding must be at least 0, and below stride or dilation");
      }
    }
    if (groups < 1 || w.shape(0) % groups != 0) {
      throw ArgumentError("groups=" + std::to_string(groups) + " does not divide " + std::to_string(w.shape(0)) + " input channels");
    }
    in_channels_ = w.shape(0);
    const int64_t per_group = in_channels_ / groups, n = w.shape(1);
    const Sizes3& kernel = geometry_.kernel;
    const int64_t taps = w.numel() ? kernel[0] * kernel[1] * kernel[2] : 0;
    check_accumulated(w.numel() ? per_group * taps : 0);
    const WeightQuantization q = weight_quantization(scales, zeros, per_channel, n * groups);
    const float* biases = checked_bias(bias, n * groups);
    const auto* data = w.data<int8_t>();
    const auto pack = [&](Phase& phase) {
      const auto at = [&](int64_t g, int64_t c, int64_t i) {
        const Sizes3& tap = phase.taps[static_cast<size_t>(i / per_group)];
        return data[((g * per_group + i % per_group) * n + c) * taps + (tap[0] * kernel[1] + tap[1]) * kernel[2] + tap[2]];
      };
      phase.w.pack(kernels_.layout, groups, n, per_group * static_cast<int64_t>(phase.taps.size()), at, q, biases);
    };
    covered_ = true;
    for (size_t d = 0; d < 3; ++d) covered_ = covered_ && static_cast<int64_t>(residues(geometry_, d).size()) == stride[d];
    pack(untouched_);
    for (const auto& depth : residues(geometry_, 0)) {
      for (const auto& height : residues(geometry_, 1)) {
        for (const auto& width : residues(geometry_, 2)) {
          auto& phase = *phases_.emplace_back(std::make_unique<Phase>());
          phase.residue = {depth.first, height.first, width.first};
          for (const int64_t kd : depth.second) {
            for (const int64_t kh : height.second) {
              for (const int64_t kw : width.second) phase.taps.push_back({kd, kh, kw});
            }
          }
          pack(phase);
        }
      }
    }
  }

  void run(const py::object& x, double scale_x, int64_t zero_x, double scale_y, int64_t zero_y, const py::object& y, int threads) {
    const Activations in(x, "x"), out(y, "y");
    in.channels_last(), out.of_rank(in.rank()).channels_last();
    if (in.rank() > 5) in.fail("must have at most 3 spatial dimensions");
    in.with_size(1, in_channels_);
    TransposedSizes sizes;
    sizes.batch = in.shape(0), sizes.in_channels = in_channels_, sizes.out_channels = untouched_.w.n * geometry_.groups;
    out.with_size(0, sizes.batch).with_size(1, sizes.out_channels);
    for (size_t d = 0; d < 3; ++d) {
      const int i = in.rank() - 3 + static_cast<int>(d);
      sizes.in[d] = i >= 2 ? in.shape(i) : 1;
      sizes.out[d] = i >= 2 ? out.shape(i) : 1;
      const int64_t expected = geometry_.output_size(d, sizes.in[d]);
      if (sizes.in[d] < 1 || sizes.out[d] != expected || expected < 1) {
        throw ArgumentError("y has size " + std::to_string(sizes.out[d]) + " where the transposed convolution gives " + std::to_string(expected));
      }
    }
    const QParams qx = in.qparams(scale_x, zero_x, "x"), qy = out.qparams(scale_y, zero_y, "y");
    checked_threads(threads);
    const py::gil_scoped_release release;
    std::vector<uint8_t> room;
    const uint8_t* from = in.input(room);
    auto* to = out.data<uint8_t>();
    if (!covered_) fill(to, out.numel() / sizes.out_channels, qx, qy);
    for (const auto& phase : phases_) {
      const auto parameters = phase->cache.get(phase->w, qx, qy);
      const PhaseJob job(kernels_, *phase, geometry_, sizes, from, static_cast<uint8_t>(qx.zero),
                         parameters->output(phase->w, to, sizes.out_channels, relu_));
      run_gemm(phase->w, job.pixels(), threads, job);
    }
    out.finish_output();
  }

 private:
  // Pixels that no tap reaches hold the bias alone.
  void fill(uint8_t* y, int64_t pixels, QParams qx, QParams qy) {
    if (pixels == 0) return;
    const PackedWeights& w = untouched_.w;
    const int64_t channels = w.n * w.groups;
    const auto parameters = untouched_.cache.get(w, qx, qy);
    const int32_t none = 0;
    const uint8_t nothing[1] = {};
    for (const GemmPanel& panel : w.panels) kernels_.gemm_u8({nothing, 0, 1, 0, &none}, panel, parameters->output(w, y, channels, relu_));
    for (int64_t i = 1; i < pixels; ++i) std::memcpy(y + i * channels, y, static_cast<size_t>(channels));
  }

  const Kernels& kernels_;
  TransposedGeometry geometry_;
  Phase untouched_;  // without taps
  std::vector<std::unique_ptr<Phase>> phases_;
  bool relu_, covered_ = false;
  int64_t in_channels_ = 0;
};

inline void bind_conv_transpose(py::module_& m, py::class_<Kernels>& kernels) {
  native_class<ConvTranspose>(m, "ConvTranspose").def("run", &ConvTranspose::run);
  kernels.def("conv_transpose", [](const Kernels& k, const py::object& weight, const py::object& scales, const py::object& zeros, bool per_channel,
                                   const py::object& bias, bool relu, const Tuple3& stride, const Tuple3& padding, const Tuple3& output_padding,
                                   const Tuple3& dilation, int64_t groups) {
    return std::make_unique<ConvTranspose>(k, weight, scales, zeros, per_channel, bias, relu, stride, padding, output_padding, dilation, groups);
  });
}

}  // namespace qcore
