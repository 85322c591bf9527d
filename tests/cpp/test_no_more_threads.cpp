// Where no thread can be made the pool does the work on those that there are, and makes more once
// it can.
#include <pthread.h>

#include <thread>
#include <vector>

#include "check.h"
#include "qcore/base/thread_pool.h"

namespace {

void stacks_of(size_t bytes) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, bytes);
  pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

// Whether each of the chunks is done once.
bool works(int threads) {
  std::vector<int> done(1000);
  qcore::parallel(threads, static_cast<int64_t>(done.size()),
                  [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
  for (const int times : done) {
    if (times != 1) return false;
  }
  return true;
}

bool can_make_threads() {
  try {
    std::thread([] {}).join();
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace

int main() {
  constexpr size_t kBeyondMemory = size_t{1} << 46, kUsual = size_t{1} << 21;
  stacks_of(kBeyondMemory);
  CHECK(!can_make_threads(), "threads with stacks beyond memory can be made");
  CHECK(works(4) && works(4), "the caller alone");
  stacks_of(kUsual);
  CHECK(works(2), "a helper");
  stacks_of(kBeyondMemory);
  CHECK(works(4) && works(4), "the helper that there is");
  stacks_of(kUsual);
  CHECK(works(4), "all of them");
  return check::done("no more threads");
}
