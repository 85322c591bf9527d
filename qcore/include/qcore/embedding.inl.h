// Sums of rows of integer tables, 16 columns to a vector. Included once per ISA, after elementwise.inl.h.

namespace qcore::QCORE_ISA {
namespace {

constexpr int kAhead = 16;  // rows fetched into the cache before they are needed

struct Bytes {
  static QCORE_INLINE I32 load(const uint8_t* row, int64_t column, int count) {
    return count >= kLanes ? load_bytes(row + column) : load_bytes(some(row + column, count).v);
  }
  static constexpr int kPerByte = 1;
};

struct Nibbles {
  static QCORE_INLINE I32 load(const uint8_t* row, int64_t column, int /*count*/) { return load_nibbles(row + column / 2); }
  static constexpr int kPerByte = 2;
};

// The sums of U vectors of columns, from `column` on; the last vector, at `last`, may overlap the one before it.
template <class Values, int U>
void bag_columns(const Table& t, const Bag& bag, int64_t column, int64_t last) {
  const auto at = [&](int u) QCORE_INLINE_LAMBDA { return u == U - 1 ? last : column + u * kLanes; };
  const int count = static_cast<int>(t.dim - last);
  F32 acc[U];
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA { acc[u.value] = set_f32(0.0f); });
  for (int64_t i = 0; i < bag.count; ++i) {
    if (i + kAhead < bag.available) {
      const int64_t next = bag.rows[i + kAhead];
      const uint8_t* row = t.rows + next * t.stride;
      __builtin_prefetch(row + column / Values::kPerByte);
      __builtin_prefetch(row + (last + count - 1) / Values::kPerByte);
      if (column == 0) __builtin_prefetch(t.parameters + 2 * next);
    }
    const uint8_t* row = t.rows + bag.rows[i] * t.stride;
    float scale = t.parameters[2 * bag.rows[i]], offset = t.parameters[2 * bag.rows[i] + 1];
    if (bag.weights) scale *= bag.weights[i], offset *= bag.weights[i];
    unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
      const F32 q = to_f32(Values::load(row, at(u.value), u.value == U - 1 ? count : kLanes));
      acc[u.value] = fma(set_f32(scale), q, add(acc[u.value], set_f32(offset)));
    });
  }
  unroll<U>([&](auto u) QCORE_INLINE_LAMBDA {
    if (bag.divisor != 1.0f) acc[u.value] = div(acc[u.value], set_f32(bag.divisor));
    store_f32(bag.y + at(u.value), acc[u.value], u.value == U - 1 ? count : kLanes);
  });
}

template <class Values, int U>
void bag_vectors(int vectors, const Table& t, const Bag& bag, int64_t column, int64_t last) {
  if (vectors == U) return bag_columns<Values, U>(t, bag, column, last);
  if constexpr (U > 1) bag_vectors<Values, U - 1>(vectors, t, bag, column, last);
}

template <class Values>
void bag_of(const Table& t, const Bag& bag) {
  constexpr int kVectors = 4;
  // Whole vectors only, where the row has one: the last one then ends with the row. Packed nibbles are padded instead.
  const int64_t end = Values::kPerByte == 1 && t.dim >= kLanes ? t.dim - kLanes : (t.dim - 1) / kLanes * kLanes;
  for (int64_t column = 0; column < t.dim; column += kVectors * kLanes) {
    const int64_t left = (t.dim - column + kLanes - 1) / kLanes;
    const int vectors = static_cast<int>(left < kVectors ? left : kVectors);
    const int64_t last = column + (vectors - 1) * kLanes;
    bag_vectors<Values, kVectors>(vectors, t, bag, column, last < end ? last : end);
  }
}

void bag(const Table& t, const Bag& bag) { t.nibbles ? bag_of<Nibbles>(t, bag) : bag_of<Bytes>(t, bag); }

}  // namespace
}  // namespace qcore::QCORE_ISA
