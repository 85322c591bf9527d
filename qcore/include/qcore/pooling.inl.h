// Pooling: channels in lanes, over the rows of one window. Included once per ISA, after gemm.inl.h.

namespace qcore::QCORE_ISA {
namespace {

void max(const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels) {
  std::memcpy(y, rows[0], static_cast<size_t>(channels));
  for (int64_t r = 1; r < count; ++r) {
    const uint8_t* x = rows[r];
    for (int64_t c = 0; c < channels; ++c) y[c] = x[c] > y[c] ? x[c] : y[c];
  }
}

void average(const uint8_t* const* rows, int64_t count, uint8_t* y, int64_t channels, const AverageParameters& p) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    I32 sum = set_i32(p.offset);
    for (int64_t r = 0; r < count; ++r) {
      sum = add(sum, load_some_bytes(rows[r] + c, left));
    }
    const F32 total = to_f32(sum), multiplier = set_f32(p.multiplier);
    const auto zero = static_cast<float>(p.zero), low = static_cast<float>(-p.shift), high = low + 255.0f;
    const I32 v = p.fused ? round_clamped(fma(total, multiplier, set_f32(zero)), low, high, p.shift)
                          : round_clamped(mul(total, multiplier), low - zero, high - zero, p.zero + p.shift);
    store_bytes(y + c, v, left >= kLanes ? kLanes : static_cast<int>(left));
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
