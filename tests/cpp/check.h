// What the tests here are made of: CHECK, random numbers, and memory between pages that may not be
// touched. A test is one program, whose exit status is 0 where all holds, 77 where this CPU cannot
// run it, and else the failure.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace check {

constexpr int kNotRun = 77;

inline int& failures() {
  static int count = 0;
  return count;
}

inline long& checks() {
  static long count = 0;
  return count;
}

#define CHECK(condition, ...)                                              \
  do {                                                                     \
    ++check::checks();                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fputc('\n', stderr);                                            \
      if (++check::failures() >= 20) std::exit(1);                         \
    }                                                                      \
  } while (false)

inline int done(const char* name) {
  std::printf("%s: %ld checks, %d failures\n", name, checks(), failures());
  return failures() ? 1 : 0;
}

inline std::mt19937_64& generator() {
  static std::mt19937_64 random(20240607);
  return random;
}

// A whole number in [low, high].
inline int64_t draw(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(generator());
}

// `count` values whose last byte lies in front of a page that may not be touched; the page in front
// of the first one may not be either.
template <class T>
class AtPageEnd {
 public:
  explicit AtPageEnd(int64_t count) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE)),
               bytes = static_cast<size_t>(count) * sizeof(T);
    room_ = (bytes + page - 1) / page * page;
    void* all = mmap(nullptr, room_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED ||
        mprotect(static_cast<char*>(all) + page, room_, PROT_READ | PROT_WRITE) != 0) {
      std::abort();
    }
    all_ = static_cast<char*>(all);
    begin_ = all_ + page;
    std::memset(begin_, kCanary, room_);
    data_ = reinterpret_cast<T*>(begin_ + (room_ - bytes));
    page_ = page;
  }
  ~AtPageEnd() {
    for (const char* p = begin_; p < reinterpret_cast<const char*>(data_); ++p) {
      if (*p != kCanary) {
        CHECK(false, "bytes in front of the memory were written");
        break;
      }
    }
    munmap(all_, room_ + 2 * page_);
  }
  AtPageEnd(const AtPageEnd&) = delete;
  AtPageEnd& operator=(const AtPageEnd&) = delete;

  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr char kCanary = 0x5A;
  size_t room_, page_;
  char *all_, *begin_;
  T* data_;
};

}  // namespace check
