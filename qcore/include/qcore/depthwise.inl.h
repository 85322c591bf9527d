// Depthwise convolution: channels in lanes, four taps at a time. Included once per ISA, after gemm.inl.h.

namespace qcore::QCORE_ISA {
namespace {

QCORE_INLINE Each4 load_taps(const uint8_t* const* taps, int64_t channel) {
  return load_each4(taps[0] + channel, taps[1] + channel, taps[2] + channel, taps[3] + channel);
}

// The last channels: what lies behind them is not ours to read.
QCORE_INLINE Each4 load_taps(const uint8_t* const* taps, int64_t channel, int count) {
  uint8_t rows[4][kLanes] = {};
  for (int j = 0; j < 4; ++j) std::memcpy(rows[j], taps[j] + channel, static_cast<size_t>(count));
  return load_each4(rows[0], rows[1], rows[2], rows[3]);
}

void depthwise(const DepthwiseInput& in, const RequantizedOutput& out) {
  const int64_t taps = in.groups * kGroup;
  for (int64_t pixel = 0; pixel < in.pixels; ++pixel) {
    const uint8_t* const* rows = in.taps + pixel * taps;
    uint8_t* y = out.y + pixel * out.stride;
    const int8_t* w = in.w;
    for (int64_t channel = 0; channel < in.channels; channel += kLanes) {
      const int64_t left = in.channels - channel;
      I32 acc = set_i32(0);
      if (left >= kLanes) {
        for (int64_t g = 0; g < in.groups; ++g, w += kUnit) acc = dot(acc, load_taps(rows + g * kGroup, channel), load_weights(w));
        store_bytes(y + channel, result(acc, out, load_columns(out, channel), pixel));
      } else {
        const int count = static_cast<int>(left);
        for (int64_t g = 0; g < in.groups; ++g, w += kUnit) acc = dot(acc, load_taps(rows + g * kGroup, channel, count), load_weights(w));
        store_bytes(y + channel, result(acc, out, load_columns(out, channel), pixel), count);
      }
    }
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
