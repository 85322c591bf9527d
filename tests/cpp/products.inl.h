// The products of a vocabulary, each against sums in plain loops. Included by vocabulary.inl.h, in
// the namespace of the instruction set.

template <class Own = Tiles>
constexpr int32_t subtracted() {  // from each activation
  if constexpr (std::is_void_v<Own>) {
    return 0;
  } else {
    return Own::kLayout.signed_rows ? 128 : 0;
  }
}

// Register by register, as depthwise convolutions take them.
template <class X, class W>
I32 products(I32 acc, X x, W w, bool moderate) {
  unroll<kParts>([&](auto i) {
    auto& sum = part<i.value>(acc);
    if constexpr (kModerateDot) {
      sum = moderate ? dot_moderate(sum, part<i.value>(x), part<i.value>(w))
                     : dot(sum, part<i.value>(x), part<i.value>(w));
    } else {
      sum = dot(sum, part<i.value>(x), part<i.value>(w));
    }
  });
  return acc;
}

void check_each4() {
  const AtPageEnd<uint8_t> a(16), b(16), c(16), d(16);
  const AtPageEnd<int8_t> w(64);
  const AtPageEnd<int32_t> begin(16), mine(16);
  const uint8_t* rows[] = {a.data(), b.data(), c.data(), d.data()};
  for (int round = 0; round < kRounds; ++round) {
    for (const auto* row : {&a, &b, &c, &d}) fill(*row, 16, any_byte<uint8_t>);
    fill(w, 64, any_byte<int8_t>);
    fill(begin, 16, [] { return static_cast<int32_t>(draw(-1000000, 1000000)); });
    const bool moderate = kModerateDot && draw(0, 1);
    for (int i = 0; i < 64 && moderate; ++i) w[i] = w[i] == -128 ? int8_t{-127} : w[i];
    const Each4 x = load_each4(a.data(), b.data(), c.data(), d.data());
    store_i32(mine.data(), products(load_i32(begin.data()), x, load_weights(w.data()), moderate));
    int32_t expected[16];
    for (int i = 0; i < 16; ++i) {
      expected[i] = begin[i];
      for (int j = 0; j < 4; ++j) expected[i] += (rows[j][i] - subtracted()) * w[4 * i + j];
      CHECK(mine[i] == expected[i], "dot of load_each4: lane %d gives %d, not %d", i, mine[i],
            expected[i]);
    }
    if (subtracted() == 0) {
      scalar::store_i32(mine.data(),
                        scalar::dot(scalar::load_i32(begin.data()),
                                    scalar::load_each4(a.data(), b.data(), c.data(), d.data()),
                                    scalar::load_weights(w.data())));
      CHECK(std::memcmp(mine.data(), expected, 64) == 0, "the scalar dot of load_each4");
    }
  }
}

template <class OfWidening>
void widened_row(const uint8_t* x, int16_t* to) {
  OfWidening::template row<false>(x, to, 1);
}

// Four values of a row that all lanes share, as the tiles read them: bytes, or 16 bits, which the
// weights may be as well.
template <class Byte, class Wide, class Own = Tiles>
void check_same() {
  if constexpr (std::is_void_v<Own>) {
    const AtPageEnd<Byte> x(4);
    const AtPageEnd<Wide> wide(4), pair(2), wide_w(32);
    const AtPageEnd<int8_t> w(64);
    const AtPageEnd<int32_t> begin(16), mine(16);
    for (int round = 0; round < kRounds; ++round) {
      fill(x, 4, any_byte<Byte>);
      fill(w, 64, any_byte<int8_t>);
      fill(begin, 16, [] { return static_cast<int32_t>(draw(-1000000, 1000000)); });
      const I32 acc = load_i32(begin.data());
      if constexpr (std::is_void_v<Widening>) {
        store_i32(mine.data(),
                  dot(acc, load_same(x.data(), Constant<kGroup>{}), load_weights(w.data())));
      } else {
        widened_row<Widening>(x.data(), wide.data());
        store_i32(mine.data(),
                  dot(acc, load_same(wide.data(), Constant<kGroup>{}), load_weights(w.data())));
      }
      int32_t expected[16];
      scalar::store_i32(expected, scalar::dot(scalar::load_i32(begin.data()),
                                              scalar::load_same(x.data(), Constant<kGroup>{}),
                                              scalar::load_weights(w.data())));
      CHECK(std::memcmp(mine.data(), expected, 64) == 0, "dot of load_same");
      if constexpr (!std::is_void_v<Widening>) {
        fill(pair, 2, [] { return static_cast<int16_t>(draw(-4 * 255, 4 * 255)); });
        fill(wide_w, 32, [] { return static_cast<int16_t>(draw(-4 * 128, 4 * 127)); });
        store_i32(mine.data(),
                  dot(acc, load_same(pair.data(), Constant<2>{}), load_weights(wide_w.data())));
        for (int i = 0; i < 16; ++i) {
          CHECK(mine[i] == begin[i] + pair[0] * wide_w[2 * i] + pair[1] * wide_w[2 * i + 1],
                "dot of two values of 16 bits");
        }
      }
    }
  }
}

// Rows and weights of many groups, widened: their products, half as many, are those of the bytes.
template <int kRows, class Wide = Widening>
void check_widening() {
  if constexpr (!std::is_void_v<Wide>) {
    for (int64_t groups = 1; groups <= 150; groups += groups < 20 ? 1 : 13) {
      const int64_t k = groups * kGroup;
      const AtPageEnd<uint8_t> x(kRows * k);
      const AtPageEnd<int8_t> w(groups * kUnit);
      const AtPageEnd<int16_t> wide_x(kRows * k), wide_w(groups * kUnit);
      fill(x, kRows * k, any_byte<uint8_t>);
      fill(w, groups * kUnit, any_byte<int8_t>);
      I32 excess = set_i32(0);
      for (int64_t g = 0; g < groups; ++g) {
        Wide::weights(w.data() + g * kUnit, wide_w.data() + g * kUnit, excess);
      }
      const int16_t* rows[kRows];
      I32 sums[kRows];
      for (int r = 0; r < kRows; ++r) {
        rows[r] = wide_x.data() + r * k;
        sums[r] =
            add(excess,
                set_i32(Wide::template row<true>(x.data() + r * k, wide_x.data() + r * k, groups)));
      }
      Wide::template accumulate<kRows>(rows, wide_w.data(), groups, sums);
      for (int r = 0; r < kRows; ++r) {
        int32_t mine[16];
        store_i32(mine, sums[r]);
        for (int64_t c = 0; c < 16; ++c) {
          int32_t expected = 0;
          for (int64_t i = 0; i < k; ++i) {
            expected += x[r * k + i] * w[i / 4 * kUnit + 4 * c + i % 4];
          }
          CHECK(mine[c] == expected, "widened products of %d groups give %d, not %d",
                static_cast<int>(groups), mine[c], expected);
        }
      }
    }
  }
}

// Weights [16 columns][k] as an instruction set's own GEMM has them.
struct Packed {
  int64_t k;
  std::vector<int8_t> weight;
  PackedWeights packed;
  Packed(const Layout& layout, int64_t units, int64_t k_, bool moderate) : k(k_) {
    for (int64_t i = 0; i < units * 16 * k; ++i) {
      weight.push_back(moderate ? static_cast<int8_t>(draw(-127, 127)) : any_byte<int8_t>());
    }
    const auto n = static_cast<size_t>(units * 16);
    const WeightQuantization quantization{std::vector<float>(n, 1.0f), std::vector<int32_t>(n, 0),
                                          false};
    const auto at = [&](int64_t, int64_t c, int64_t i) {
      return weight[static_cast<size_t>(c * k + i)];
    };
    packed.pack(layout, {1, units * 16, k, quantization, nullptr, units}, at);
  }
  int32_t product(const uint8_t* x, int64_t column, int32_t less) const {
    int32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) {
      sum += (x[i] - less) * weight[static_cast<size_t>(column * k + i)];
    }
    return sum;
  }
};

template <int kRows, class Own = Tiles>
void check_own_tiles() {
  if constexpr (!std::is_void_v<Own>) {
    for (const int64_t groups : {1, 2, 3, 4, 5, 7, 16, 33}) {
      for (const bool moderate : {false, true}) {
        const int64_t k = groups * Own::kLayout.group, stride = k + draw(0, 1) * 5;
        const Packed w(Own::kLayout, 1, k, moderate);
        const AtPageEnd<uint8_t> x((kRows - 1) * stride + k);
        fill(x, (kRows - 1) * stride + k, any_byte<uint8_t>);
        const AtPageEnd<int32_t> first(16);
        fill(first, 16, [] { return static_cast<int32_t>(draw(-1000000, 1000000)); });
        GemmInput in{x.data(), stride, kRows, groups, nullptr};
        std::vector<int16_t> prepared(
            static_cast<size_t>((kRows + 1) * (k + kGroup)));  // as gemm_input reserves it
        Own::prepare(in, prepared.data());
        in.prepared = prepared.data();
        I32 sums[kRows + 1];
        Own::template accumulate<kRows>(in, w.packed.data.data(), w.packed.panels[0].extreme, 0,
                                        first.data(), sums);
        for (int r = 0; r < kRows; ++r) {
          int32_t mine[16];
          store_i32(mine, sums[r]);
          for (int c = 0; c < 16; ++c) {
            CHECK(mine[c] == first[c] + w.product(x.data() + r * stride, c, subtracted()),
                  "products of %d rows, %d groups", kRows, static_cast<int>(groups));
          }
        }
      }
    }
  }
}

template <class OfSpread = Spread>
void check_spread() {
  if constexpr (!std::is_void_v<OfSpread>) {
    const Four four;
    const AtPageEnd<uint8_t> x[4] = {AtPageEnd<uint8_t>(64), AtPageEnd<uint8_t>(64),
                                     AtPageEnd<uint8_t>(64), AtPageEnd<uint8_t>(64)};
    const AtPageEnd<int32_t> begin(64);
    for (int round = 0; round < 500; ++round) {
      const int64_t step = draw(1, 4) * kUnit;
      const AtPageEnd<int8_t> w(3 * step + kUnit);
      for (const auto& row : x) fill(row, 64, any_byte<uint8_t>);
      fill(w, 3 * step + kUnit, any_byte<int8_t>);
      fill(begin, 64, [] { return static_cast<int32_t>(draw(-40000, 40000)); });
      Each4 values[4];
      OfSpread::load(x[0].data(), x[1].data(), x[2].data(), x[3].data(), values);
      F32 sums[4];
      for (int v = 0; v < 4; ++v) {
        sums[v] = to_f32(dot(OfSpread::lanes(begin.data() + 4 * v), values[v],
                             OfSpread::lanes(w.data() + 16 * v, step)));
      }
      for (int64_t c = 0; c < 64; ++c) {
        int32_t sum = begin[c];
        for (int64_t j = 0; j < 4; ++j) sum += x[j][c] * w[c / 16 * step + c % 16 * 4 + j];
        four.x[c] = static_cast<float>(sum);
      }
      for (int v = 0; v < 4; ++v) {
        float mine[16], expected[16];
        store_f32(mine, sums[v]);
        store_f32(expected, OfSpread::lanes(four.x.data() + 4 * v));
        CHECK(std::memcmp(mine, expected, 64) == 0, "products of 64 channels, vector %d", v);
      }
      const Bounds bounds = any_bounds();
      const int count = draw(0, 1) ? 64 : static_cast<int>(draw(0, 64));
      const AtPageEnd<uint8_t> mine(count);
      uint8_t expected[64];
      const auto halved = [&](int v) { return mul(sums[v], set_f32(0.0078125f)); };
      for (int i = 0; i < 64; ++i) four.x[i] *= 0.0078125f;
      four.expect(bounds, expected);
      OfSpread::store(mine.data(), count, halved(0), halved(1), halved(2), halved(3),
                      rounding(bounds.low, bounds.high, bounds.zero));
      CHECK(std::memcmp(mine.data(), expected, static_cast<size_t>(count)) == 0,
            "%d channels of 64 stored", count);
    }
  }
}

// Blocks of rows of sums by instructions for matrices.
template <int T, int U, class OfBlocks = Blocks>
void check_blocks() {
  if constexpr (!std::is_void_v<OfBlocks>) {
    constexpr int kTile = OfBlocks::kTileRows;
    for (int round = 0; round < 60; ++round) {
      const int64_t groups = draw(1, OfBlocks::kGroups), steps = draw(1, 4),
                    k = groups * steps * kGroup;
      const int64_t rows = draw(kTile * (T - 1) + 1, kTile * T),
                    stride = k + draw(0, 1) * draw(0, 70);
      Layout layout;
      const Packed w(layout, U, k, false);
      const AtPageEnd<int8_t> weights(U * 16 * k);
      std::memcpy(weights.data(), w.packed.data.data(), static_cast<size_t>(U * 16 * k));
      const AtPageEnd<uint8_t> x((rows - 1) * stride + k);
      fill(x, (rows - 1) * stride + k, any_byte<uint8_t>);
      GemmInput in{x.data(), stride, rows, groups * steps, nullptr};
      in.piece_groups = groups;
      std::vector<int64_t> pieces;
      for (int64_t i = 0; i < steps; ++i) pieces.push_back(i * groups * kGroup);
      if (draw(0, 1)) in.pieces = pieces.data();
      const AtPageEnd<int32_t> room((kTile + rows) * U *
                                    16);  // tiles may begin before the first of their rows
      auto* sums = reinterpret_cast<I32*>(room.data() + kTile * U * 16);
      const auto compare = [&](const char* name, int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) {
          for (int64_t c = 0; c < U * 16; ++c) {
            const int32_t mine = room[((kTile + r - from) * U + c / 16) * 16 + c % 16],
                          expected = w.product(x.data() + r * stride, c, 0);
            CHECK(mine == expected,
                  "%s: %d rows, %d groups, %d steps, row %d, column %d: %d, not %d", name,
                  int(rows), int(groups), int(steps), int(r), int(c), mine, expected);
          }
        }
      };
      const int64_t step = U * kUnit;
      OfBlocks::hold(draw(0, 1));
      OfBlocks::begin(in);
      OfBlocks::template multiply<T, U>(in, weights.data(), step, 0);
      OfBlocks::template store<T, U>(in, 0, sums);
      compare("multiply", 0, rows);
      const int64_t row = rows < kTile ? 0 : draw(0, rows - kTile), middle = draw(0, steps);
      if (middle) {
        OfBlocks::template add_products<U>(
            in, {weights.data(), step, row, 0, middle, false, weights.data(), 64}, sums);
      }
      if (middle < steps) {
        OfBlocks::template add_products<U>(
            in, {weights.data(), step, row, middle, steps, middle > 0, weights.data(), 64}, sums);
      }
      compare("add_products", row, std::min(rows, row + kTile));
      OfBlocks::end();
      OfBlocks::hold(false);
    }
  }
}
