// Scaled dot product attention of floats. The lanes of all vectors are queries: scores, their
// exponentials and their products with the values are chains in the order of width and keys, each
// lane its own, and keys and values are read where they lie.
#pragma once

#include <cstdint>

#include "qcore/micro/floats.inl.h"

namespace qcore::QCORE_ISA {
namespace {

// exp(y) for y <= 0; 0 far below, where 2^n would be no normal number. NaN stays.
QCORE_INLINE F32 exp_of_negative(const F32& y) {
  const F32 bound = max(set_f32(-88.0f), y);
  const I32 n = round_i32(max(mul(bound, set_f32(1.4426950408889634f)), set_f32(-127.0f)));
  const F32 whole = to_f32(n);
  const F32 r = fma(whole, set_f32(-1.4286068203094173e-06f),
                    fma(whole, set_f32(-45426.0f / 65536.0f), bound));
  F32 series = fma(set_f32(0.0013946424f), r, set_f32(0.008366572f));
  series = fma(series, r, set_f32(0.041666284f));
  series = fma(series, r, set_f32(0.16666543f));
  series = fma(series, r, set_f32(0.5f));
  const F32 power = power_of_two(n), part = fma(mul(r, r), series, r);
  return fma(power, part, power);
}

// y (outputs, U * 16 lanes) = sums of x (depth, U * 16 lanes; steps `step` apart) times w, element
// (output, depth) of which lies at w[output * row + depth * column]. From depth `whole` on, a
// negative x takes no part.
struct LaneProducts {
  const float* x;
  int64_t step, depth, whole;
  const float* w;
  int64_t row, column;
  float* y;
};

// `finish` makes of each sum what is stored: finish.begin(u) gives what the outputs of unit u
// share, which goes by each finish.result(sum, output, unit, shared), in the order of outputs, and
// back to finish.end(u, shared).
template <int U, int N, class Finish>
__attribute__((noinline)) void lane_products(const LaneProducts& p, int64_t output,
                                             const Finish& finish) {
  F32 acc[N][U];
  const float* w[N];
  unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
    w[n.value] = p.w + (output + n.value) * p.row;
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[n.value][u.value] = set_f32(0.0f); });
  });
  const float* x = p.x;
  int64_t at = 0, k = 0;
  for (; k < p.whole; ++k, at += p.column, x += p.step) {
    F32 lanes[U];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { lanes[u.value] = load_f32(x + u.value * kLanes); });
    unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
      const F32 value = set_f32(w[n.value][at]);
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        acc[n.value][u.value] = fma(value, lanes[u.value], acc[n.value][u.value]);
      });
    });
  }
  for (; k < p.depth; ++k, at += p.column, x += p.step) {
    unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
      unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
        const F32 lanes = load_f32(x + u.value * kLanes), before = acc[n.value][u.value];
        acc[n.value][u.value] =
            where_negative(lanes, before, fma(set_f32(w[n.value][at]), lanes, before));
      });
    });
  }
  float* y = p.y + output * U * kLanes;
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    F32 shared = finish.begin(u.value);
    unroll<N>([&](auto n) QCORE_INLINE_LAMBDA {
      store_f32(y + (n.value * U + u.value) * kLanes,
                finish.result(acc[n.value][u.value], output + n.value, u.value, shared));
    });
    finish.end(u.value, shared);
  });
}

template <int U, int N, class Finish>
void lane_products(int64_t count, const LaneProducts& p, int64_t output, const Finish& finish) {
  if (count == N) return lane_products<U, N>(p, output, finish);
  if constexpr (N > 1) lane_products<U, N - 1>(count, p, output, finish);
}

template <int U, class Finish>
void all_lane_products(const LaneProducts& p, int64_t outputs, const Finish& finish) {
  constexpr int N = tile_rows(U);
  const int64_t tiles = (outputs + N - 1) / N;
  for (int64_t t = 0; t < tiles; ++t) {
    lane_products<U, N>(outputs * (t + 1) / tiles - outputs * t / tiles, p, outputs * t / tiles,
                        finish);
  }
}

// Scores of keys: scaled, with the mask. The greatest of each query is kept.
struct Scores {
  const AttentionBlock& b;
  int64_t first, rows, whole;  // queries; keys that all of them have
  F32* greatest;

  QCORE_INLINE F32 begin(int u) const { return greatest[u]; }
  QCORE_INLINE void end(int u, const F32& high) const { greatest[u] = high; }
  QCORE_INLINE F32 result(const F32& sum, int64_t key, int u, F32& high) const {
    const F32 score = fma(sum, set_f32(b.scale), b.mask.data ? mask(key, u) : set_f32(0.0f)),
              higher = max(score, high);
    high = key < whole ? higher : where_negative(ahead(key, u), high, higher);
    return score;
  }

  __attribute__((noinline)) F32 mask(int64_t key, int u) const {
    const float* m = b.mask.data + first * b.mask.row + key * b.mask.column;
    if (b.mask.row == 0) return set_f32(*m);
    Lanes<float> each;
    for (int64_t lane = 0; lane < kLanes && u * kLanes + lane < rows; ++lane) {
      each.v[lane] = m[(u * kLanes + lane) * b.mask.row];
    }
    return load_f32(each.v);
  }
  // Negative where a key comes after the query.
  QCORE_INLINE F32 ahead(int64_t key, int u) const {
    static constexpr float kNumbers[kLanes] = {0, 1, 2,  3,  4,  5,  6,  7,
                                               8, 9, 10, 11, 12, 13, 14, 15};
    return add(load_f32(kNumbers), set_f32(static_cast<float>(b.first + first + u * kLanes - key)));
  }
};

// Sums of values, each times a factor of its query.
struct Averages {
  const F32* factors;

  QCORE_INLINE F32 begin(int u) const { return factors[u]; }
  QCORE_INLINE void end(int, const F32&) const {}
  QCORE_INLINE F32 result(const F32& sum, int64_t, int, const F32& factor) const {
    return mul(sum, factor);
  }
};

// to[c][r] = from[r][c] for `rows` rows of `columns` floats.
void transpose(const FloatMatrix& from, int64_t rows, int64_t columns, float* to, int64_t to_row,
               int64_t to_column) {
  int64_t whole = 0;
  if (from.column == 1 && to_column == 1) {
    for (; whole + 4 <= rows; whole += 4) {
      int64_t c = 0;
      for (; c + 4 <= columns; c += 4) {
        transpose4(from.data + whole * from.row + c, from.row, to + c * to_row + whole, to_row);
      }
      for (; c < columns; ++c) {
        for (int64_t r = whole; r < whole + 4; ++r) {
          to[c * to_row + r] = from.data[r * from.row + c];
        }
      }
    }
  }
  for (int64_t r = whole; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      to[c * to_row + r * to_column] = from.data[r * from.row + c * from.column];
    }
  }
}

// Queries [first, first + rows) of a block, at most U * 16.
template <int U>
void attend(const AttentionBlock& b, int64_t first, int64_t rows) {
  constexpr int64_t W = U * kLanes;
  constexpr float kLowest = -3.40282347e38f;
  const int64_t position =
      b.first +
      first;  // keys up to it are there for all of the queries, those from `keys` on for none
  const int64_t keys = b.causal && position + rows < b.keys ? position + rows : b.keys;
  const int64_t whole = b.causal && position + 1 < keys ? position + 1 : keys;
  float *queries = b.scratch, *scores = queries + b.width * W, *sums = scores + keys * W;

  if (rows < W) {
    for (int64_t i = 0; i < b.width * W; ++i) queries[i] = 0.0f;
  }
  transpose({b.q.data + first * b.q.row, b.q.row, b.q.column}, rows, b.width, queries, W, 1);
  F32 greatest[U], total[U];
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    greatest[u.value] = set_f32(kLowest);
    total[u.value] = set_f32(0.0f);
  });
  const Scores finish{b, first, rows, whole, greatest};
  all_lane_products<U>({queries, W, b.width, b.width, b.k.data, b.k.row, b.k.column, scores}, keys,
                       finish);

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
      const F32 power = exp_of_negative(sub(load_f32(at), greatest[u.value])),
                behind = finish.ahead(key, u.value);
      total[u.value] = where_negative(behind, total[u.value], add(total[u.value], power));
      store_f32(at, where_negative(behind, set_f32(-1.0f), power));
    });
  }
  // Of a query with a score above -inf, the total is at least 1.
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    total[u.value] = div(set_f32(1.0f), max(set_f32(1.0f), total[u.value]));
  });
  all_lane_products<U>({scores, W, keys, whole, b.v.data, b.v.column, b.v.row, sums}, b.values,
                       Averages{total});
  transpose({sums, W, 1}, b.values, rows, b.y + first * b.y_row, b.y_row, b.y_column);
}

// Sums as they are.
struct Plain {
  QCORE_INLINE F32 begin(int) const { return set_f32(0.0f); }
  QCORE_INLINE void end(int, const F32&) const {}
  QCORE_INLINE F32 result(const F32& sum, int64_t, int, const F32&) const { return sum; }
};

template <int U>
void some_lane_products(int units, const LaneProducts& p, int64_t outputs) {
  if (units == U) return all_lane_products<U>(p, outputs, Plain{});
  if constexpr (U > 1) some_lane_products<U - 1>(units, p, outputs);
}

// The same for so few queries that most lanes would be idle: the lanes of scores are keys, those of
// the result are values.
constexpr int64_t kFewQueries = 4;

bool is_for_few(const AttentionBlock& b) {
  return b.rows <= kFewQueries && b.v.column == 1 && b.values % kLanes == 0 && b.keys >= kLanes;
}

void attend_few(const AttentionBlock& b) {
  constexpr int64_t W = kTileUnits * kLanes;
  const int64_t keys = b.causal && b.first + b.rows < b.keys ? b.first + b.rows : b.keys,
                padded = (keys + W - 1) / W * W;
  float *scores = b.scratch, *turned = scores + b.rows * padded, *products = turned + b.width * W,
        *y = products + b.rows * W;
  const auto of = [&](int64_t row) {
    return b.causal && b.first + row + 1 < keys ? b.first + row + 1 : keys;
  };
  for (int64_t key = 0; key < keys; key += W) {
    const int64_t count = keys - key < W ? keys - key : W;
    const int units = static_cast<int>((count + kLanes - 1) / kLanes);
    if (count < W) {
      for (int64_t i = 0; i < b.width * W; ++i) turned[i] = 0.0f;
    }
    transpose({b.k.data + key * b.k.row, b.k.row, b.k.column}, count, b.width, turned, W, 1);
    some_lane_products<kTileUnits>(
        units, {turned, W, b.width, b.width, b.q.data, b.q.row, b.q.column, products}, b.rows);
    for (int64_t r = 0; r < b.rows; ++r) {
      for (int u = 0; u < units; ++u) {
        F32 mask = set_f32(0.0f);
        if (b.mask.data) {
          const float* m = b.mask.data + r * b.mask.row + (key + u * kLanes) * b.mask.column;
          Lanes<float> each;
          for (int64_t lane = 0; lane < kLanes && u * kLanes + lane < count; ++lane) {
            each.v[lane] = m[lane * b.mask.column];
          }
          mask = load_f32(each.v);
        }
        store_f32(scores + r * padded + key + u * kLanes,
                  fma(load_f32(products + (r * units + u) * kLanes), set_f32(b.scale), mask));
      }
    }
  }
  F32 factors[kFewQueries];
  for (int64_t r = 0; r < b.rows; ++r) {
    constexpr float kLowest = -3.40282347e38f;
    float* row = scores + r * padded;
    const int64_t n = of(r);
    F32 high = set_f32(kLowest);
    for (int64_t key = 0; key < n; key += kLanes) {
      high = max(load_filled(row + key, n - key, kLowest), high);
    }
    Lanes<float> lanes;
    store_f32(lanes.v, high);
    for (int i = 1; i < kLanes; ++i) lanes.v[0] = lanes.v[i] > lanes.v[0] ? lanes.v[i] : lanes.v[0];
    const F32 greatest = set_f32(lanes.v[0]);
    for (int64_t key = 0; key < n; key += kLanes) {
      store_f32(row + key, exp_of_negative(sub(load_f32(row + key), greatest)));
    }
    float total = 0.0f;
    for (int64_t key = 0; key < n; ++key) total += row[key];
    factors[r] = div(set_f32(1.0f), max(set_f32(1.0f), set_f32(total)));
  }
  for (int64_t value = 0; value < b.values; value += W) {
    const int64_t count = b.values - value < W ? b.values - value : W;
    const int units = static_cast<int>(count / kLanes);
    for (int64_t r = 0; r < b.rows; ++r) {
      some_lane_products<kTileUnits>(
          units, {b.v.data + value, b.v.row, of(r), of(r), scores + r * padded, padded, 1, y}, 1);
      for (int64_t i = 0; i < count; i += kLanes) {
        store_f32(y + i, mul(load_f32(y + i), factors[r]));
      }
      for (int64_t i = 0; i < count; ++i) b.y[r * b.y_row + (value + i) * b.y_column] = y[i];
    }
  }
}

template <int U>
void attend_rows(const AttentionBlock& b, int64_t first, int64_t rows) {
  if (rows > (U - 1) * kLanes) return attend<U>(b, first, rows);
  if constexpr (U > 1) attend_rows<U - 1>(b, first, rows);
}

void attention(const AttentionBlock& b) {
  if (is_for_few(b)) return attend_few(b);
  constexpr int64_t W = kTileUnits * kLanes;
  for (int64_t first = 0; first < b.rows; first += W) {
    attend_rows<kTileUnits>(b, first, b.rows - first < W ? b.rows - first : W);
  }
}

}  // namespace
}  // namespace qcore::QCORE_ISA
