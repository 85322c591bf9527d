// One int8 convolution of XNNPACK for each shape given as
// "channels,height,width,outputs,kernel,stride,groups", between the markers of count.c. A linear
// layer is a 1x1 convolution over its rows.
#include <xnnpack.h>

#include <cstdio>
#include <vector>

static bool run(int channels, int height, int width, int outputs, int kernel, int stride,
                int groups) {
  const auto padding = static_cast<uint32_t>(kernel / 2);
  const auto c = static_cast<size_t>(channels), n = static_cast<size_t>(outputs),
             g = static_cast<size_t>(groups);
  const auto taps = static_cast<size_t>(kernel * kernel);
  const auto size = [&](int in) {
    return static_cast<size_t>((in + 2 * (kernel / 2) - kernel) / stride + 1);
  };
  std::vector<int8_t> weight(n * c / g * taps),
      x(c * static_cast<size_t>(height * width) + XNN_EXTRA_BYTES),
      y(n * size(height) * size(width));
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<int8_t>(i * 37 % 251 - 125);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int8_t>(i * 29 % 256 - 128);
  const std::vector<int32_t> bias(n, 7);
  xnn_operator_t op = nullptr;
  const auto k = static_cast<uint32_t>(kernel), s = static_cast<uint32_t>(stride);
  if (xnn_create_convolution2d_nhwc_qs8(padding, padding, padding, padding, k, k, s, s, 1, 1,
                                        static_cast<uint32_t>(groups), c / g, n / g, c, n, 3, 0.05f,
                                        0.01f, weight.data(), bias.data(), 0, 1.0f, -128, 127, 0,
                                        &op) != xnn_status_success ||
      xnn_setup_convolution2d_nhwc_qs8(op, 1, static_cast<size_t>(height),
                                       static_cast<size_t>(width), x.data(), y.data(),
                                       nullptr) != xnn_status_success) {
    return false;
  }
  asm volatile("hint #0x50" ::: "memory");
  const xnn_status status = xnn_run_operator(op, nullptr);
  asm volatile("hint #0x51" ::: "memory");
  xnn_delete_operator(op);
  return status == xnn_status_success;
}

int main(int argc, char** argv) {
  if (xnn_initialize(nullptr) != xnn_status_success) return 2;
  for (int i = 1; i < argc; ++i) {
    int v[7];
    if (std::sscanf(argv[i], "%d,%d,%d,%d,%d,%d,%d", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6) !=
        7) {
      return 2;
    }
    if (!run(v[0], v[1], v[2], v[3], v[4], v[5], v[6])) return 1;
  }
}
