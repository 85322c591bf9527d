// Random lifetimes and views: no two values that live at once share memory, and a step that may
// write over its input gives the same result there.
#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "qcore/plan/memory.h"

namespace {

using Random = std::mt19937;

int64_t draw(Random& random, int64_t from, int64_t to) {
  return std::uniform_int_distribution<int64_t>(from, to)(random);
}

void lifetimes(unsigned seed) {
  Random random(seed);
  std::vector<qcore::Lifetime> lives(static_cast<size_t>(draw(random, 0, 60)));
  for (auto& life : lives) {
    life.bytes = draw(random, 0, 5) == 0 ? 0 : draw(random, 1, draw(random, 0, 1) ? 100 : 5000);
    life.first = static_cast<int>(draw(random, 0, 40));
    life.last = life.first + static_cast<int>(draw(random, 0, draw(random, 0, 3) ? 4 : 40));
  }
  const qcore::Placement found = qcore::placed(lives);
  int64_t all = 0;
  for (size_t i = 0; i < lives.size(); ++i) {
    all += (lives[i].bytes + 63) / 64 * 64;
    CHECK(found.offsets[i] >= 0 && found.offsets[i] % 64 == 0,
          "an offset is not a multiple of 64: seed %u", seed);
    CHECK(found.offsets[i] + lives[i].bytes <= found.bytes,
          "a value ends behind the arena: seed %u", seed);
    for (size_t j = 0; j < i; ++j) {
      const bool live = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
      const bool apart = found.offsets[i] + lives[i].bytes <= found.offsets[j] ||
                         found.offsets[j] + lives[j].bytes <= found.offsets[i];
      CHECK(!live || apart, "two values that live at once overlap: seed %u", seed);
    }
  }
  CHECK(found.bytes <= all, "the arena is larger than all values side by side: seed %u", seed);
}

// A view of a buffer of `bytes`, as moves and broadcasting make them.
qcore::Place view(Random& random, int buffer, int64_t bytes) {
  qcore::Place place;
  place.buffer = buffer;
  place.extent.rank = static_cast<int>(draw(random, 1, 3));
  int64_t left = bytes;
  for (size_t d = 0; d < static_cast<size_t>(place.extent.rank); ++d) {
    const int64_t size = d + 1 == static_cast<size_t>(place.extent.rank) && draw(random, 0, 2)
                             ? left
                             : draw(random, 1, std::min<int64_t>(left, 4));
    place.extent.size[d] = size;
    left /= size;
  }
  place.extent = qcore::laid_out(place.extent, draw(random, 0, 1) != 0);
  for (size_t d = 0; d < static_cast<size_t>(place.extent.rank); ++d) {
    const int64_t change = draw(random, 0, 9);
    if (change == 0) place.extent.stride[d] = 0;
    if (change == 1 && place.extent.size[d] > 1) place.extent.size[d] /= 2;
  }
  if (place.extent.rank > 1 && draw(random, 0, 4) == 0) {
    std::swap(place.extent.size[0], place.extent.size[1]);
    std::swap(place.extent.stride[0], place.extent.stride[1]);
  }
  if (draw(random, 0, 5) == 0) place.offset = draw(random, 0, bytes - place.end());
  return place;
}

int64_t at(const qcore::Place& place, int64_t index) {
  int64_t offset = place.offset;
  for (size_t d = static_cast<size_t>(place.extent.rank); d-- > 0; index /= place.extent.size[d]) {
    offset += index % place.extent.size[d] * place.extent.stride[d];
  }
  return offset;
}

// The result of a step that goes element by element, in an order of its own: of inputs of the sizes
// of the result the element of that index, of others one that has nothing to do with it.
std::vector<int> step(const std::vector<qcore::Place>& in, const qcore::Place& out,
                      std::vector<std::vector<int>>& memory, std::vector<int>* result) {
  const int64_t count = out.extent.numel();
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::shuffle(order.begin(), order.end(), Random(7));
  std::vector<int> values(order.size());
  for (const int64_t i : order) {
    int value = 1;
    for (const qcore::Place& place : in) {
      const int64_t index =
          qcore::same_sizes(place.extent, out.extent) ? i : (i * 31 + 7) % place.extent.numel();
      value = value * 1009 +
              memory[static_cast<size_t>(place.buffer)][static_cast<size_t>(at(place, index))];
    }
    (result ? *result
            : memory[static_cast<size_t>(in[0].buffer)])[static_cast<size_t>(at(out, i))] = value;
  }
  for (int64_t i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] =
        (result ? *result
                : memory[static_cast<size_t>(in[0].buffer)])[static_cast<size_t>(at(out, i))];
  }
  return values;
}

int overwriting(unsigned seed) {
  Random random(seed);
  constexpr int64_t kBytes = 24;
  std::vector<qcore::Place> in{view(random, 0, kBytes)};
  for (int64_t more = draw(random, 0, 2); more > 0; --more) {
    in.push_back(draw(random, 0, 3) ? view(random, static_cast<int>(draw(random, 0, 2)) / 2, kBytes)
                                    : in[0]);
  }
  qcore::Place out;
  out.extent =
      draw(random, 0, 3) ? in[0].extent : qcore::laid_out(in[0].extent, draw(random, 0, 1) != 0);
  if (!qcore::is_contiguous(out.extent) && !qcore::is_channels_last(out.extent)) {
    out.extent = qcore::contiguous_like(out.extent);
  }
  const auto root = [](int buffer) { return buffer; };
  if (!qcore::may_overwrite(in, out, kBytes, root)) return 0;
  std::vector<std::vector<int>> memory(2, std::vector<int>(kBytes)), same;
  for (auto& buffer : memory) {
    for (int& value : buffer) value = static_cast<int>(draw(random, 0, 255));
  }
  same = memory;
  std::vector<int> apart(kBytes);
  CHECK(step(in, out, memory, &apart) == step(in, out, same, nullptr),
        "a step that may write over its input reads what it wrote: seed %u", seed);
  return 1;
}

}  // namespace

int main() {
  int written = 0;
  for (unsigned seed = 0; seed < 2000; ++seed) lifetimes(seed);
  for (unsigned seed = 0; seed < 20000; ++seed) written += overwriting(seed);
  CHECK(written > 500, "too few steps wrote over their input: %d", written);
  return check::done("arena");
}
