// Scaled dot product attention of floats. The lanes of all vectors are queries: scores, their exponentials and their products with the values
// are chains in the order of width and keys, each lane its own, and keys and values are read where they lie. Included once per ISA, after gates.inl.h.

namespace qcore::QCORE_ISA {
namespace {

// exp(y) for y <= 0; 0 far below, where 2^n would be no normal number. NaN stays.
QCORE_INLINE F32 exp_of_negative(const F32& y) {
  const F32 bound = max(set_f32(-88.0f), y);
  const I32 n = round_i32(max(mul(bound, set_f32(1.4426950408889634f)), set_f32(-127.0f)));
  const F32 whole = to_f32(n);
  const F32 r = fma(whole, set_f32(-1.4286068203094173e-06f), fma(whole, set_f32(-45426.0f / 65536.0f), bound));
  F32 series = fma(set_f32(0.0013946424f), r, set_f32(0.008366572f));
  series = fma(series, r, set_f32(0.041666284f));
  series = fma(series, r, set_f32(0.16666543f));
  series = fma(series, r, set_f32(0.5f));
  const F32 power = power_of_two(n), part = fma(mul(r, r), series, r);
  return fma(power, part, power);
}

// y (outputs, U * 16 lanes) = sums of x (depth, U * 16 lanes) times w, element (output, depth) of which lies at w[output * row + depth * column].
// From depth `whole` on, a negative x takes no part.
struct LaneProducts {
  const float* x;
  int64_t depth, whole;
  const float* w;
  int64_t row, column;
  float* y;
};

template <int U, int N>
__attribute__((noinline)) void lane_products(const LaneProducts& p, int64_t output) {
  F32 acc[N][U];
  const float* w[N];
  unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
    w[n.value] = p.w + (output + n.value) * p.row;
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[n.value][u.value] = set_f32(0.0f); });
  });
  const float* x = p.x;
  int64_t at = 0, k = 0;
  for (; k < p.whole; ++k, at += p.column, x += U * kLanes) {
    F32 lanes[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { lanes[u.value] = load_f32(x + u.value * kLanes); });
    unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
      const F32 value = set_f32(w[n.value][at]);
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[n.value][u.value] = fma(value, lanes[u.value], acc[n.value][u.value]); });
    });
  }
  for (; k < p.depth; ++k, at += p.column, x += U * kLanes) {
    unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        const F32 lanes = load_f32(x + u.value * kLanes), before = acc[n.value][u.value];
        acc[n.value][u.value] = where_negative(lanes, before, fma(set_f32(w[n.value][at]), lanes, before));
      });
    });
  }
  float* y = p.y + output * U * kLanes;
  unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { store_f32(y + (n.value * U + u.value) * kLanes, acc[n.value][u.value]); });
  });
}

template <int U, int N>
void lane_products(int64_t count, const LaneProducts& p, int64_t output) {
  if (count == N) return lane_products<U, N>(p, output);
  if constexpr (N > 1) lane_products<U, N - 1>(count, p, output);
}

template <int U>
void all_lane_products(const LaneProducts& p, int64_t outputs) {
  constexpr int N = tile_rows(U);
  const int64_t tiles = (outputs + N - 1) / N;
  for (int64_t t = 0; t < tiles; ++t) lane_products<U, N>(outputs * (t + 1) / tiles - outputs * t / tiles, p, outputs * t / tiles);
}

// Queries [first, first + rows) of a block, at most U * 16.
template <int U>
void attend(const AttentionBlock& b, int64_t first, int64_t rows) {
  constexpr int64_t W = U * kLanes;
  constexpr float kLowest = -3.40282347e38f;
  static constexpr float kNumbers[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const int64_t position = b.first + first;  // keys up to it are there for all of the queries, those from `keys` on for none
  const int64_t keys = b.causal && position + rows < b.keys ? position + rows : b.keys;
  const int64_t whole = b.causal && position + 1 < keys ? position + 1 : keys;
  float *queries = b.scratch, *scores = queries + b.width * W, *sums = scores + keys * W;

  for (int64_t r = 0; r < W; ++r) {
    const float* q = b.q.data + (first + r) * b.q.row;
    for (int64_t d = 0; d < b.width; ++d) queries[d * W + r] = r < rows ? q[d * b.q.column] : 0.0f;
  }
  all_lane_products<U>({queries, b.width, b.width, b.k.data, b.k.row, b.k.column, scores}, keys);

  const auto mask = [&](int64_t key, int u) QCORE_INLINE_LAMBDA {
    const float* m = b.mask.data;
    if (!m) return set_f32(0.0f);
    m += first * b.mask.row + key * b.mask.column;
    if (b.mask.row == 0) return set_f32(*m);
    Lanes<float> each;
    for (int64_t lane = 0; lane < kLanes && u * kLanes + lane < rows; ++lane) each.v[lane] = m[(u * kLanes + lane) * b.mask.row];
    return load_f32(each.v);
  };
  const auto ahead = [&](int64_t key, int u) QCORE_INLINE_LAMBDA { return add(load_f32(kNumbers), set_f32(static_cast<float>(position + u * kLanes - key))); };

  F32 greatest[U], total[U];
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { greatest[u.value] = set_f32(kLowest), total[u.value] = set_f32(0.0f); });
  for (int64_t key = 0; key < keys; ++key) {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      float* at = scores + key * W + u.value * kLanes;
      const F32 score = fma(load_f32(at), set_f32(b.scale), mask(key, u.value)), high = max(score, greatest[u.value]);
      greatest[u.value] = key < whole ? high : where_negative(ahead(key, u.value), greatest[u.value], high);
      store_f32(at, score);
    });
  }
  for (int64_t key = 0; key < whole; ++key) {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      float* at = scores + key * W + u.value * kLanes;
      const F32 power = exp_of_negative(sub(load_f32(at), greatest[u.value]));
      total[u.value] = add(total[u.value], power);
      store_f32(at, power);
    });
  }
  for (int64_t key = whole; key < keys; ++key) {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      float* at = scores + key * W + u.value * kLanes;
      const F32 power = exp_of_negative(sub(load_f32(at), greatest[u.value])), behind = ahead(key, u.value);
      total[u.value] = where_negative(behind, total[u.value], add(total[u.value], power));
      store_f32(at, where_negative(behind, set_f32(-1.0f), power));
    });
  }
  all_lane_products<U>({scores, keys, whole, b.v.data, b.v.column, b.v.row, sums}, b.values);

  // Of a query with a score above -inf, the total is at least 1.
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { total[u.value] = div(set_f32(1.0f), max(set_f32(1.0f), total[u.value])); });
  for (int64_t e = 0; e < b.values; ++e) {
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      float* at = sums + e * W + u.value * kLanes;
      store_f32(at, mul(load_f32(at), total[u.value]));
    });
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* y = b.y + (first + r) * b.y_row;
    for (int64_t e = 0; e < b.values; ++e) y[e * b.y_column] = sums[e * W + r];
  }
}

template <int U>
void attend_rows(const AttentionBlock& b, int64_t first, int64_t rows) {
  if (rows > (U - 1) * kLanes) return attend<U>(b, first, rows);
  if constexpr (U > 1) attend_rows<U - 1>(b, first, rows);
}

void attention(const AttentionBlock& b) {
  constexpr int64_t W = kTileUnits * kLanes;
  for (int64_t first = 0; first < b.rows; first += W) attend_rows<kTileUnits>(b, first, b.rows - first < W ? b.rows - first : W);
}

}  // namespace
}  // namespace qcore::QCORE_ISA
