// Operators and plans without Python, on the scalar kernels: which algorithm a convolution takes,
// its results and those of averages against plain loops of the numerics spec, and what a plan fuses
// against the same operators one by one.

// Slow code that compiles in a fraction of the time: what is tested is around the kernels.
#ifndef QCORE_CALLS
#define QCORE_CALLS
#endif

#include "qcore/isa/scalar.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "check.h"
#include "qcore/micro/kernels.inl.h"
#include "qcore/ops/conv/conv.h"
#include "qcore/ops/gemm/requantization.h"
#include "qcore/ops/pooling/average.h"
#include "qcore/plan/elementwise.h"
#include "qcore/plan/plan.h"
#include "qcore/plan/weighted.h"

namespace {

using namespace qcore;
using check::draw;

const Kernels& kKernels = scalar::kKernels;

template <class T>
std::vector<T> drawn(int64_t n, int64_t low, int64_t high) {
  std::vector<T> found;
  for (int64_t i = 0; i < n; ++i) found.push_back(static_cast<T>(draw(low, high)));
  return found;
}

// A convolution with its weights, per channel, without a zero point.
struct Layer {
  WindowGeometry geometry;
  int64_t outputs, per_group, groups;
  std::vector<int8_t> w;
  std::vector<float> bias;
  WeightQuantization quantization;
  Conv conv;

  Layer(const Kernels& kernels, const WindowGeometry& g, int64_t outputs_, int64_t per_group_,
        int64_t groups_)
      : geometry(g),
        outputs(outputs_),
        per_group(per_group_),
        groups(groups_),
        w(drawn<int8_t>(outputs * per_group * g.kernel[0] * g.kernel[1] * g.kernel[2], -128, 127)),
        bias(drawn<float>(outputs, -50, 50)),
        quantization{std::vector<float>(static_cast<size_t>(outputs)),
                     std::vector<int32_t>(static_cast<size_t>(outputs), 0), true},
        conv(kernels,
             {w.data(), outputs, per_group, groups, geometry, scales(), bias.data(), false}) {}

  const WeightQuantization& scales() {
    for (float& scale : quantization.scales) scale = static_cast<float>(draw(1, 100)) / 4096.0f;
    return quantization;
  }

  // docs/numerics.md: the exact sum, rounded to float32, plus the bias in units of the sum, times
  // the multiplier.
  uint8_t expected(const Windows& v, const uint8_t* x, QParams qx, QParams qy, int64_t pixel,
                   int64_t output) const {
    const Windows::Place place = v.place(pixel);
    const int64_t group = output / (outputs / groups), taps = v.taps();
    int64_t sum = 0;
    for (int64_t tap = 0; tap < taps; ++tap) {
      const Sizes3 k{tap / (v.kernel[1] * v.kernel[2]), tap / v.kernel[2] % v.kernel[1],
                     tap % v.kernel[2]};
      Sizes3 at{};
      bool inside = true;
      for (size_t d = 0; d < 3; ++d) {
        at[d] = place.start[d] + k[d] * v.dilation[d];
        inside = inside && v.inside(d, at[d]);
      }
      if (!inside) continue;
      const uint8_t* from = v.at(x, place.sample, at[0], at[1], at[2]) + group * per_group;
      for (int64_t c = 0; c < per_group; ++c)
        sum += (from[c] - qx.zero) * w[static_cast<size_t>((output * per_group + c) * taps + tap)];
    }
    const auto i = static_cast<size_t>(output);
    const float scale = static_cast<float>(qx.scale) * quantization.scales[i];
    const float value =
        (static_cast<float>(sum) + bias[i] / scale) * (scale / static_cast<float>(qy.scale));
    return static_cast<uint8_t>(std::clamp(std::nearbyint(value), static_cast<float>(-qy.zero),
                                           static_cast<float>(255 - qy.zero)) +
                                static_cast<float>(qy.zero));
  }
};

WindowGeometry drawn_geometry() {
  WindowGeometry g;
  for (size_t d = draw(0, 4) ? 1 : 0; d < 3; ++d) {
    g.kernel[d] = draw(1, 3);
    g.stride[d] = draw(1, 2);
    g.padding[d] = draw(0, 1);
    g.dilation[d] = draw(0, 3) ? 1 : 2;
  }
  return g;
}

void check_convolutions() {
  std::set<ConvAlgorithm> taken;
  for (int round = 0; round < 120; ++round) {
    const int kind = round % 4;
    const int64_t groups = kind == 0   ? draw(2, 40)
                           : kind == 1 ? draw(2, 4)
                                       : 1,
                  per_group = kind == 0 ? 1 : draw(1, 20);
    const int64_t outputs = kind == 0 ? groups : groups * draw(1, 20);
    const Layer layer(kKernels, drawn_geometry(), outputs, per_group, groups);
    const std::array<int64_t, 5> sizes{draw(1, 2), per_group * groups, draw(5, 6), draw(5, 12),
                                       draw(5, 12)};
    const Windows v = layer.conv.windows(5, sizes.data());
    taken.insert(layer.conv.algorithm(v));
    const std::vector<uint8_t> x = drawn<uint8_t>(v.input_bytes(), 0, 255);
    const QParams qx{0.03, static_cast<int32_t>(draw(0, 255))},
        qy{0.5, static_cast<int32_t>(draw(0, 255))};
    const Requantization parameters(layer.conv.packed(), qx, qy);
    std::vector<uint8_t> y(static_cast<size_t>(v.pixels() * outputs));
    layer.conv.run({v, x.data(), static_cast<uint8_t>(qx.zero),
                    parameters.output(layer.conv.packed(), y.data(), outputs, false)},
                   1 + round % 2);
    for (size_t i = 0; i < y.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      const uint8_t wanted = layer.expected(v, x.data(), qx, qy, index / outputs, index % outputs);
      CHECK(y[i] == wanted, "round %d, element %zu: %d, not %d", round, i, y[i], wanted);
    }
  }
  CHECK(taken == (std::set<ConvAlgorithm>{ConvAlgorithm::depthwise, ConvAlgorithm::grid,
                                          ConvAlgorithm::gemm}),
        "%zu algorithms", taken.size());
}

// 3x3 convolutions of enough pixels, where the kernels have Winograd's, and no others.
void check_choice_of_winograd() {
  Kernels kernels = kKernels;
  kernels.winograd = [](const WinogradInput&, const RequantizedOutput&) {};
  WindowGeometry g;
  g.kernel = {1, 3, 3};
  g.padding = {0, 1, 1};
  const auto chosen = [&](const WindowGeometry& geometry, int64_t channels, int64_t size) {
    const Layer layer(kernels, geometry, 16, channels, 1);
    const std::array<int64_t, 4> sizes{1, channels, size, size};
    return layer.conv.algorithm(layer.conv.windows(4, sizes.data())) == ConvAlgorithm::winograd;
  };
  CHECK(chosen(g, 16, 14), "it pays");
  CHECK(!chosen(g, 16, 3), "so few tiles do not pay for the larger weights");
  CHECK(!chosen(g, 8, 14), "too few channels");
  g.stride = {1, 2, 2};
  CHECK(!chosen(g, 16, 14), "of stride 1 alone");
}

void check_averages() {
  for (int round = 0; round < 200; ++round) {
    const int32_t shift = draw(0, 1) ? 128 : 0, zero = static_cast<int32_t>(draw(0, 255));
    WindowGeometry g;
    for (size_t d = 1; d < 3; ++d) {
      g.kernel[d] = draw(1, 4);
      g.stride[d] = draw(1, 3);
      g.padding[d] = draw(0, g.kernel[d] / 2);
    }
    const std::array<int64_t, 4> sizes{draw(1, 2), draw(1, 40), draw(4, 9), draw(4, 9)};
    Windows v(g, 4, sizes.data());
    for (size_t d = 0; d < 3; ++d)
      v.out[d] = (v.in[d] + 2 * g.padding[d] - g.kernel[d]) / g.stride[d] + 1;
    const bool include_pad = draw(0, 1);
    const int64_t divisor = draw(0, 1) * draw(1, 9);
    const std::vector<uint8_t> x = drawn<uint8_t>(v.input_bytes(), 0, 255);
    std::vector<uint8_t> y(static_cast<size_t>(v.pixels() * v.channels));
    run_avg_pool(kKernels, {v, x.data(), y.data(), zero, shift}, include_pad, divisor, 2);
    for (int64_t i = 0; i < v.pixels() * v.channels; ++i) {
      const Windows::Place place = v.place(i / v.channels);
      int64_t sum = 0, padded = 1, inside = 1;
      v.each_tap(x.data(), place, [&](const uint8_t* tap) { sum += tap[i % v.channels] - zero; });
      for (size_t d = 0; d < 3; ++d) {
        const int64_t stop = place.start[d] + v.kernel[d];
        padded *= std::min(stop, v.in[d] + v.padding[d]) - place.start[d];
        inside *= std::min(stop, v.in[d]) - std::max<int64_t>(place.start[d], 0);
      }
      const auto by = static_cast<float>(divisor ? divisor : include_pad ? padded : inside);
      // The product is rounded to float32, then to an integer, and then the zero point joins.
      const float mean =
          std::nearbyint(static_cast<float>(sum) * (1.0f / by)) + static_cast<float>(zero);
      const auto wanted = static_cast<uint8_t>(std::clamp(mean, 0.0f, 255.0f));
      CHECK(y[static_cast<size_t>(i)] == wanted, "round %d: %d, not %d", round,
            y[static_cast<size_t>(i)], wanted);
    }
  }
}

// A convolution, a sum and a table as one step of a plan.
void check_plan() {
  for (int round = 0; round < 30; ++round) {
    WindowGeometry g;
    g.kernel = {1, 3, 3};
    g.padding = {0, 1, 1};
    const int64_t channels = draw(1, 40);
    const Layer layer(kKernels, g, channels, channels, 1);
    const QParams qx{0.03, 7}, qy{0.5, 120}, qsum{0.7, 100};
    const auto table = std::make_shared<const std::vector<uint8_t>>(drawn<uint8_t>(256, 0, 255));
    Plan plan;
    const int x = plan.input(1);
    const WeightedSum sum{qx, qsum, true};
    plan.output(
        plan.add("fused", {x, x}, Takes::integers,
                 conv_operation(kKernels, layer.conv, {layer.conv, qx, qy, {0, 255, table}, sum})));
    const int own =
        plan.add("conv", {x}, Takes::integers,
                 conv_operation(kKernels, layer.conv, {layer.conv, qx, qy, {}, std::nullopt}));
    const BinaryConstants constants = binary_constants<&Kernels::add>(qy, qx, qsum, true);
    const int added = plan.add("add", {own, x}, Takes::integers,
                               binary_operation<&Kernels::add>(kKernels, constants, {}));
    plan.output(plan.add("table", {added}, Takes::integers, table_operation(kKernels, table)));
    const Extent extent = contiguous_like({4, {2, channels, draw(1, 9), draw(1, 9)}, {}});
    const auto program = plan.bind({extent});
    const std::vector<uint8_t> given = drawn<uint8_t>(extent.numel(), 0, 255);
    std::vector<uint8_t> fused(given.size()), apart(given.size());
    const uint8_t* from[] = {given.data()};
    uint8_t* to[] = {fused.data(), apart.data()};
    int node = 0;
    program->run(from, to, 2, nullptr, &node);
    CHECK(fused == apart, "round %d", round);
    CHECK(std::set<uint8_t>(fused.begin(), fused.end()).size() > 1, "round %d: all are the same",
          round);
  }
}

}  // namespace

int main() {
  check_convolutions();
  check_choice_of_winograd();
  check_averages();
  check_plan();
  return check::done("operators");
}
