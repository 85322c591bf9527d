// Depthwise convolution: channels in lanes, four taps at a time. Included once per ISA, after gemm.inl.h.

namespace qcore::QCORE_ISA {
namespace {

QCORE_INLINE Each4 load_taps(const uint8_t* const* taps, int64_t channel) {
  return load_each4(taps[0] + channel, taps[1] + channel, taps[2] + channel, taps[3] + channel);
}

// Of the last channels: what lies behind them is not ours to read.
QCORE_INLINE Each4 load_taps(const uint8_t* const* taps, int64_t channel, int count) {
  uint8_t rows[4][kLanes] = {};
  for (int j = 0; j < 4; ++j) std::memcpy(rows[j], taps[j] + channel, static_cast<size_t>(count));
  return load_each4(rows[0], rows[1], rows[2], rows[3]);
}

QCORE_INLINE void depthwise_4_units(const DepthwiseInput& in, const uint8_t* const* taps, const RequantizedOutput& out, uint8_t* y, int64_t channel) {
  const int8_t* w = in.w + channel / kLanes * in.groups * kUnit;
  const int64_t unit = in.groups * kUnit;
  I32 acc[4];
  unroll<4>([&](auto u) QCORE_INLINE_LAMBDA { acc[u.value] = set_i32(0); });
  for (int64_t g = 0; g < in.groups; ++g, taps += kGroup, w += kUnit) {
    const uint8_t *const a = taps[0] + channel, *const b = taps[1] + channel, *const c = taps[2] + channel, *const d = taps[3] + channel;
    unroll<4>([&](auto u) QCORE_INLINE_LAMBDA {
      constexpr int lane = decltype(u)::value * kLanes;
      acc[u.value] = dot(acc[u.value], load_each4(a + lane, b + lane, c + lane, d + lane), load_weights(w + u.value * unit));
    });
  }
  const auto value = [&](int u) QCORE_INLINE_LAMBDA { return result(acc[u], out, load_columns(out, channel + u * kLanes), 0, 0, kLanes); };
  store_rounded(y + channel, kLanes, value(0), value(1), value(2), value(3), rounding_of(out));
}

QCORE_INLINE void depthwise_unit(const DepthwiseInput& in, const uint8_t* const* taps, const RequantizedOutput& out, uint8_t* y, int64_t channel) {
  const int8_t* w = in.w + channel / kLanes * in.groups * kUnit;
  const int64_t left = in.channels - channel;
  const int count = left < kLanes ? static_cast<int>(left) : kLanes;
  I32 acc = set_i32(0);
  for (int64_t g = 0; g < in.groups; ++g, taps += kGroup, w += kUnit) {
    acc = dot(acc, count == kLanes ? load_taps(taps, channel) : load_taps(taps, channel, count), load_weights(w));
  }
  store_some(y + channel, result(acc, out, load_columns(out, channel), 0, 0, count), count, rounding_of(out));
}

void depthwise(const DepthwiseInput& in, const RequantizedOutput& output) {
  const RequantizedOutput out = output;  // a copy that stores of bytes cannot alias
  for (int64_t pixel = 0; pixel < in.pixels; ++pixel) {
    const uint8_t* const* taps = in.taps + pixel * in.groups * kGroup;
    uint8_t* y = out.y + pixel * out.stride;
    int64_t channel = 0;
    for (; channel + 4 * kLanes <= in.channels; channel += 4 * kLanes) depthwise_4_units(in, taps, out, y, channel);
    for (; channel < in.channels; channel += kLanes) depthwise_unit(in, taps, out, y, channel);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
