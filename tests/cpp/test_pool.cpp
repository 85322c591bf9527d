// The thread pool: each chunk is done once, for any numbers of chunks and threads, nested, from
// several callers at once, after errors and forks.
#include <sys/wait.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "qcore/base/thread_pool.h"

namespace {

using qcore::parallel;
using qcore::parallel_ranges;

struct Random {
  std::mt19937_64 generator;
  int64_t operator()(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator);
  }
};

class Counts {
 public:
  explicit Counts(int64_t n) : counts_(static_cast<size_t>(n)) {}
  void add(int64_t i) { counts_[static_cast<size_t>(i)].fetch_add(1, std::memory_order_relaxed); }
  bool all(int wanted) const {
    for (const auto& count : counts_) {
      if (count.load(std::memory_order_relaxed) != wanted) return false;
    }
    return true;
  }

 private:
  std::vector<std::atomic<int>> counts_;
};

// One call of any kind; whether each piece of it was done once and its results are there for the
// caller.
bool any_call(Random& random, int depth = 0) {
  const int threads = static_cast<int>(random(0, 3) ? random(1, 6) : random(1, 40));
  const int64_t n = random(0, 2) ? random(0, 50) : random(0, 3000);
  Counts counts(n);
  std::vector<int64_t> results(static_cast<size_t>(n),
                               -1);  // plain memory: a race if the caller does not wait for it
  const auto piece = [&](int64_t i) {
    counts.add(i);
    results[static_cast<size_t>(i)] = i;
  };
  const int64_t thrower = n > 0 && random(0, 4) == 0 ? random(0, n - 1) : -1;
  const bool all_throw = random(0, 7) == 0;
  bool nested = true, caught = false;
  switch (random(0, 2)) {
    case 0:
      parallel(threads, n, piece);
      break;
    case 1:
      parallel_ranges(threads, n, random(1, 100), [&](int64_t begin, int64_t end) {
        for (; begin < end; ++begin) piece(begin);
      });
      break;
    default: {
      std::atomic<bool> good{true};
      const auto seed = static_cast<uint64_t>(random(0, 1 << 30));
      try {
        parallel(threads, n, [&](int64_t i) {
          if (i == thrower || (thrower >= 0 && all_throw)) throw std::runtime_error("as asked");
          piece(i);
          if (depth < 2 && i % 97 == 0) {
            Random own{std::mt19937_64(seed + static_cast<uint64_t>(i))};
            if (!any_call(own, depth + 1)) good.store(false);
          }
        });
      } catch (const std::runtime_error&) {
        caught = true;
      }
      nested = good.load();
      if (thrower >= 0) return caught && nested;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    if (results[static_cast<size_t>(i)] != i) return false;
  }
  return nested && !caught && counts.all(1);
}

void calls(uint64_t seed, int count, std::atomic<int>& wrong) {
  Random random{std::mt19937_64(seed)};
  for (int i = 0; i < count; ++i) wrong += !any_call(random);
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 400;
  std::atomic<int> wrong{0};
  for (int threads = 1; threads <= 9; ++threads) {
    for (int64_t chunks = 0; chunks <= 40; ++chunks) {
      Counts counts(chunks);
      parallel(threads, chunks, [&](int64_t i) { counts.add(i); });
      CHECK(counts.all(1), "%d chunks on %d threads", static_cast<int>(chunks), threads);
    }
  }
  calls(1, count, wrong);
  CHECK(wrong == 0, "%d of %d calls from one thread", wrong.load(), count);
  for (const int callers : {2, 3, 8}) {
    std::vector<std::thread> threads;
    for (int i = 0; i < callers; ++i) {
      threads.emplace_back(
          [&, i] { calls(static_cast<uint64_t>(100 * callers + i), count, wrong); });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0, "%d calls from %d threads at once", wrong.load(), callers);
  }
#ifndef __SANITIZE_THREAD__  // which does not follow threads that are made after a fork
  const pid_t child = fork();
  if (child == 0) {
    calls(7, 50, wrong);
    _exit(wrong == 0 ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && status == 0, "after a fork");
  calls(8, 50, wrong);
  CHECK(wrong == 0, "in the parent after a fork");
#endif
  std::printf("%d calls of the pool\n", count * (1 + 2 + 3 + 8));
  return check::done("pool");
}
