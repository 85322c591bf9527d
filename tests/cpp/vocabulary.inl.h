// Every function of an instruction set's vocabulary against the same one of isa/scalar.h, on edge
// values and random ones. All memory ends at a page that may not be touched. Included behind the
// header of the instruction set; gives run_vocabulary().

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "check.h"
#include "qcore/ops/gemm/packed_weights.h"

namespace qcore::QCORE_ISA {
namespace {

using check::AtPageEnd;
using check::draw;
constexpr int kRounds = 4000;

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
float of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
bool same_number(float x, float y) {
  return bits_of(x) == bits_of(y) || (std::isnan(x) && std::isnan(y));
}

// Any float: one out of those where something changes, a usual one, or any bits.
float any_float() {
  static const std::vector<float> kEdges = [] {
    std::vector<float> found;
    const float inf = std::numeric_limits<float>::infinity();
    for (const float x : {0.0f,
                          0x1p-149f,
                          0x1.fffffcp-127f,
                          0x1p-126f,
                          0.25f,
                          0x1.fffffep-2f,
                          0.5f,
                          0x1.000002p-1f,
                          1.0f,
                          1.5f,
                          2.0f,
                          2.5f,
                          3.5f,
                          127.5f,
                          128.5f,
                          254.5f,
                          255.0f,
                          255.5f,
                          256.0f,
                          32767.5f,
                          32768.0f,
                          65535.0f,
                          65536.0f,
                          0x1p22f,
                          0x1.000001p22f,
                          0x1.fffffep22f,
                          0x1p23f,
                          0x1.000002p23f,
                          0x1p24f,
                          0x1.fffffep30f,
                          0x1p31f,
                          0x1p32f,
                          0x1p63f,
                          0x1.fffffep127f,
                          inf}) {
      found.push_back(x);
      found.push_back(-x);
    }
    for (const uint32_t nan : {0x7FC00000u, 0xFFC00000u, 0x7FC12345u, 0x7F800001u, 0xFFFFFFFFu}) {
      found.push_back(of_bits(nan));
    }
    return found;
  }();
  switch (draw(0, 3)) {
    case 0:
      return kEdges[static_cast<size_t>(draw(0, static_cast<int64_t>(kEdges.size()) - 1))];
    case 1:
      return static_cast<float>(draw(-100000, 100000)) * 0.25f;  // ties among them
    case 2:
      return static_cast<float>(draw(-4000, 4000)) * 0.37f;
    default:
      return of_bits(static_cast<uint32_t>(draw(0, 0xFFFFFFFFll)));
  }
}
// As arithmetic gives them: no NaN signals.
float any_result() {
  constexpr uint32_t kQuiet = 1u << 22;
  const float x = any_float();
  return std::isnan(x) ? of_bits(bits_of(x) | kQuiet) : x;
}
int32_t any_int() {
  static const int32_t kEdges[] = {0,
                                   1,
                                   -1,
                                   127,
                                   128,
                                   -128,
                                   -129,
                                   255,
                                   256,
                                   32767,
                                   32768,
                                   -32768,
                                   65535,
                                   65536,
                                   1 << 24,
                                   (1 << 24) + 1,
                                   INT32_MAX,
                                   INT32_MIN,
                                   INT32_MAX - 64,
                                   INT32_MIN + 1};
  return draw(0, 1) ? kEdges[draw(0, 19)] : static_cast<int32_t>(draw(INT32_MIN, INT32_MAX));
}
template <class T>
T any_byte() {
  return static_cast<T>(draw(0, 3) ? draw(0, 255) : draw(0, 1) ? 0x80 : draw(0, 1) ? 0xFF : 0x7F);
}

template <class T, class Any>
void fill(const AtPageEnd<T>& memory, int64_t count, const Any& any) {
  for (int64_t i = 0; i < count; ++i) memory[i] = any();
}

// Memory for what functions take and give.
struct Rooms {
  AtPageEnd<float> a{16}, b{16}, c{16}, mine{16}, theirs{16};
  AtPageEnd<int32_t> ia{16}, ib{16}, imine{16}, itheirs{16};
};

template <class Mine, class Theirs, class Any>
void floats(const char* name, bool exactly, const Mine& mine, const Theirs& theirs,
            const Any& any) {
  const Rooms r;
  for (int round = 0; round < kRounds; ++round) {
    fill(r.a, 16, any);
    fill(r.b, 16, any);
    fill(r.c, 16, any);
    store_f32(r.mine.data(),
              mine(load_f32(r.a.data()), load_f32(r.b.data()), load_f32(r.c.data())));
    scalar::store_f32(r.theirs.data(),
                      theirs(scalar::load_f32(r.a.data()), scalar::load_f32(r.b.data()),
                             scalar::load_f32(r.c.data())));
    for (int i = 0; i < 16; ++i) {
      const bool same = exactly ? bits_of(r.mine[i]) == bits_of(r.theirs[i])
                                : same_number(r.mine[i], r.theirs[i]);
      CHECK(same, "%s(%a, %a, %a) gives %a, not %a", name, r.a[i], r.b[i], r.c[i], r.mine[i],
            r.theirs[i]);
    }
  }
}

#define FLOATS(NAME, EXACTLY, EXPRESSION, ANY)                              \
  floats(#NAME, EXACTLY, [](const F32& a, const F32& b, const F32& c) {     \
    (void)b, (void)c;                                                       \
    return EXPRESSION;                                                      \
  }, [](const scalar::F32& a, const scalar::F32& b, const scalar::F32& c) { \
    using namespace scalar;                                                 \
    (void)b, (void)c;                                                       \
    return EXPRESSION;                                                      \
  }, ANY)

void check_floats() {
  FLOATS(load_store, true, a, any_float);
  FLOATS(add, false, add(a, b), any_float);
  FLOATS(sub, false, sub(a, b), any_float);
  FLOATS(mul, false, mul(a, b), any_float);
  FLOATS(div, false, div(a, b), any_float);
  FLOATS(fma, false, fma(a, b, c), any_float);
  FLOATS(min, true, min(a, b), any_float);
  FLOATS(max, true, max(a, b), any_float);
  FLOATS(magnitude, true, magnitude(a), any_float);
  FLOATS(with_sign, true, with_sign(a, b), any_float);
  FLOATS(where_negative, true, where_negative(a, b, c), any_float);
  FLOATS(keep_nan, true, keep_nan(a, b), any_float);
  FLOATS(round_f32, false, round_f32(a), any_float);
  FLOATS(floor_f32, false, floor_f32(a), any_float);
  const Rooms r;
  for (int round = 0; round < kRounds; ++round) {
    fill(r.a, 16, any_float);
    for (int i = 0; i < 16; ++i) r.b[i] = draw(0, 1) ? r.a[i] : any_float();
    CHECK(equal_bits(load_f32(r.a.data()), load_f32(r.b.data())) ==
              scalar::equal_bits(scalar::load_f32(r.a.data()), scalar::load_f32(r.b.data())),
          "equal_bits");
    const auto bits = static_cast<uint16_t>(draw(0, 0xFFFF));
    store_f32(r.mine.data(), keep(bits, load_f32(r.a.data())));
    scalar::store_f32(r.theirs.data(), scalar::keep(bits, scalar::load_f32(r.a.data())));
    CHECK(std::memcmp(r.mine.data(), r.theirs.data(), 64) == 0, "keep(%x)", bits);
    const float one = any_float();
    store_f32(r.mine.data(), set_f32(one));
    for (int i = 0; i < 16; ++i) CHECK(bits_of(r.mine[i]) == bits_of(one), "set_f32");
  }
}

void check_integers() {
  const Rooms r;
  const AtPageEnd<uint8_t> bytes(16), theirs(16), nibbles(8);
  for (int round = 0; round < kRounds; ++round) {
    fill(r.ia, 16, any_int);
    fill(r.ib, 16, any_int);
    fill(bytes, 16, any_byte<uint8_t>);
    fill(nibbles, 8, any_byte<uint8_t>);
    const I32 a = load_i32(r.ia.data()), b = load_i32(r.ib.data());
    const scalar::I32 sa = scalar::load_i32(r.ia.data()), sb = scalar::load_i32(r.ib.data());
    const auto same = [&](const char* name, const I32& mine, const scalar::I32& other) {
      store_i32(r.imine.data(), mine);
      scalar::store_i32(r.itheirs.data(), other);
      CHECK(std::memcmp(r.imine.data(), r.itheirs.data(), 64) == 0, "%s", name);
    };
    same("load_i32", a, sa);
    same("set_i32", set_i32(r.ia[0]), scalar::set_i32(r.ia[0]));
    same("add", add(a, b), scalar::add(sa, sb));
    same("mul", mul(a, b), scalar::mul(sa, sb));
    same("load_bytes u8", load_bytes(bytes.data()), scalar::load_bytes(bytes.data()));
    const auto* is_signed = reinterpret_cast<const int8_t*>(bytes.data());
    same("load_bytes s8", load_bytes(is_signed), scalar::load_bytes(is_signed));
    same("load_nibbles", load_nibbles(nibbles.data()), scalar::load_nibbles(nibbles.data()));
    store_bytes(bytes.data(), a);
    scalar::store_bytes(theirs.data(), sa);
    CHECK(std::memcmp(bytes.data(), theirs.data(), 16) == 0, "store_bytes");
    store_f32(r.mine.data(), to_f32(a));
    scalar::store_f32(r.theirs.data(), scalar::to_f32(sa));
    CHECK(std::memcmp(r.mine.data(), r.theirs.data(), 64) == 0, "to_f32");
    for (int i = 0; i < 16; ++i) r.ia[i] = static_cast<int32_t>(draw(-126, 127));
    store_f32(r.mine.data(), power_of_two(load_i32(r.ia.data())));
    for (int i = 0; i < 16; ++i) {
      CHECK(r.mine[i] == std::ldexp(1.0f, r.ia[i]), "power_of_two(%d) gives %a", r.ia[i],
            r.mine[i]);
    }
  }
}

void check_half() {
  const AtPageEnd<uint16_t> half(16);
  const Rooms r;
  for (int first = 0; first < 1 << 16; first += 16) {
    for (int i = 0; i < 16; ++i) half[i] = static_cast<uint16_t>(first + i);
    store_f32(r.mine.data(), load_f16(half.data()));
    scalar::store_f32(r.theirs.data(), scalar::load_f16(half.data()));
    for (int i = 0; i < 16; ++i) {
      CHECK(same_number(r.mine[i], r.theirs[i]), "load_f16(%x) gives %a, not %a", half[i],
            r.mine[i], r.theirs[i]);
    }
  }
}

float below(float limit) {
  for (;;) {
    const float x = any_float();
    if (std::fabs(x) < limit) return x;
  }
}

void check_rounding() {
  const Rooms r;
  const AtPageEnd<uint16_t> indices(16);
  for (int round = 0; round < kRounds; ++round) {
    fill(r.a, 16, [] { return below(0x1p22f); });
    store_i32(r.imine.data(), round_i32(load_f32(r.a.data())));
    for (int i = 0; i < 16; ++i) {
      CHECK(r.imine[i] == std::nearbyint(r.a[i]), "round_i32(%a) gives %d", r.a[i], r.imine[i]);
    }
    const auto most = static_cast<uint16_t>(draw(0, 0xFFFF));
    fill(r.a, 16, any_float);
    for (int i = 0; i < 8; ++i) r.a[i] = static_cast<float>(draw(0, most));
    store_indices(indices.data(), load_f32(r.a.data()), most);
    for (int i = 0; i < 16; ++i) {
      CHECK(indices[i] <= most && (i >= 8 || indices[i] == r.a[i]),
            "store_indices(%a, most %d) gives %d", r.a[i], most, indices[i]);
    }
  }
}

// Bytes of four vectors: `store(p)` of this instruction set, and what the scalar one gives.
struct Bounds {
  int32_t zero;
  float low, high;
};
Bounds any_bounds() {
  const auto zero = static_cast<int32_t>(draw(0, 255));
  const int64_t low = draw(0, 3) ? -zero : draw(-zero, 255 - zero),
                high = draw(0, 3) ? 255 - zero : draw(low, 255 - zero);
  return {zero, static_cast<float>(low), static_cast<float>(high)};
}
struct Four {
  AtPageEnd<float> x{64};
  F32 at(int i) const { return load_f32(x.data() + 16 * i); }
  void expect(const Bounds& bounds, uint8_t* to) const {
    const auto r = scalar::rounding(bounds.low, bounds.high, bounds.zero);
    const auto at = [&](int i) { return scalar::load_f32(x.data() + 16 * i); };
    scalar::store_rounded(to, 16, at(0), at(1), at(2), at(3), r);
  }
};

template <class R, class Make, class Any>
void check_store_rounded(const Make& make, const Any& any) {
  const Four four;
  for (int round = 0; round < kRounds; ++round) {
    const Bounds bounds = any_bounds();
    fill(four.x, 64, any);
    uint8_t expected[64];
    four.expect(bounds, expected);
    const int64_t step = draw(0, 1) ? 16 : draw(16, 100);
    const AtPageEnd<uint8_t> two(step + 16), all(3 * step + 16);
    const R rounding = make(bounds);
    store_rounded(two.data(), step, four.at(0), four.at(1), rounding);
    store_rounded(all.data(), step, four.at(0), four.at(1), four.at(2), four.at(3), rounding);
    for (int i = 0; i < 64; ++i) {
      const int64_t at = i / 16 * step + i % 16;
      CHECK(all[at] == expected[i] && (i >= 32 || two[at] == expected[i]),
            "store_rounded(%a) in [%g, %g] + %d gives %d, not %d", four.x[i], bounds.low,
            bounds.high, bounds.zero, all[at], expected[i]);
    }
    if constexpr (kStoresSome) {
      const int count = static_cast<int>(draw(0, 64));
      const AtPageEnd<uint8_t> some(count);
      store_rounded_some(some.data(), count, four.at(0), four.at(1), four.at(2), four.at(3),
                         rounding);
      CHECK(std::memcmp(some.data(), expected, static_cast<size_t>(count)) == 0,
            "store_rounded_some of %d", count);
    }
  }
}

template <class Bounded = BoundedRounding>
void check_bounded() {
  if constexpr (!std::is_void_v<Bounded>) {
    check_store_rounded<Bounded>([](const Bounds& b) { return Bounded::of(b.low, b.high, b.zero); },
                                 [] { return below(0x1p31f); });
  }
}

template <class Byte>
void check_first_bytes() {
  if constexpr (kStoresSome) {
    const AtPageEnd<int32_t> mine(16);
    for (int count = 0; count <= 16; ++count) {
      const AtPageEnd<Byte> bytes(count);
      fill(bytes, count, any_byte<Byte>);
      store_i32(mine.data(), load_first_bytes(bytes.data(), count));
      for (int i = 0; i < count; ++i) CHECK(mine[i] == bytes[i], "load_first_bytes");
    }
  }
}

void check_transpose() {
  for (int round = 0; round < 200; ++round) {
    const int64_t row = draw(4, 20), to_row = draw(4, 20);
    const AtPageEnd<float> from(3 * row + 4), mine(3 * to_row + 4);
    fill(from, 3 * row + 4, any_float);
    transpose4(from.data(), row, mine.data(), to_row);
    for (int64_t r = 0; r < 4; ++r) {
      for (int64_t c = 0; c < 4; ++c) {
        CHECK(bits_of(mine[c * to_row + r]) == bits_of(from[r * row + c]), "transpose4");
      }
    }
  }
}

#include "products.inl.h"

int run_vocabulary() {
  check_floats();
  check_integers();
  check_half();
  check_rounding();
  check_store_rounded<Rounding>([](const Bounds& b) { return rounding(b.low, b.high, b.zero); },
                                any_result);
  check_bounded<>();
  check_first_bytes<uint8_t>(), check_first_bytes<int8_t>();
  check_transpose();
  check_each4();
  check_same<uint8_t, int16_t>();
  check_widening<1>(), check_widening<2>(), check_widening<3>(), check_widening<4>();
  check_own_tiles<1>(), check_own_tiles<2>(), check_own_tiles<3>(), check_own_tiles<4>();
  check_spread<>();
  check_blocks<1, 1>(), check_blocks<1, 2>(), check_blocks<1, 3>(), check_blocks<1, 4>(),
      check_blocks<2, 1>(), check_blocks<2, 2>(), check_blocks<3, 1>(), check_blocks<4, 1>();
  return check::done(QCORE_ISA_NAME);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
