// A small thread pool. Each thread begins with a share of the chunks, the same one whenever the
// work is the same, so that it finds in its caches what it left there, and then helps the others;
// the caller works too. Nobody waits for a preempted thread but for the chunk it holds. Safe after
// fork and for callers from several threads. Where no thread can be made, those that there are do
// the work: the caller at least.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace qcore {

constexpr int kMostThreads = 1024;

class ThreadPool {
 public:
  static ThreadPool& instance() {
    ThreadPool* pool = current().load(std::memory_order_acquire);
    if (pool) return *pool;
    static const int registered =
        pthread_atfork(nullptr, nullptr, [] { current().store(nullptr); });
    (void)registered;
    auto* fresh = new ThreadPool;  // never deleted: threads may outlive static destruction
    if (current().compare_exchange_strong(pool, fresh)) return *fresh;
    delete fresh;
    return *pool;
  }

  // Call work(chunk) for each chunk in [0, chunks), on at most `threads` threads, this one
  // included.
  template <class Work>
  void run(int threads, int64_t chunks, const Work& work) {
    const int helpers = static_cast<int>(threads < chunks ? threads : chunks) - 1;
    std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
    // A pool that is at work for somebody else leaves this caller its own thread.
    if (helpers < 1 || !turn.try_lock()) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) work(chunk);
      return;
    }
    share_out(chunks, helpers + 1);
    context_ = &work;
    call_ = [](const void* context, int64_t chunk) { (*static_cast<const Work*>(context))(chunk); };
    error_ = nullptr;
    start(helpers);
    take_chunks(0);
    finish();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  static constexpr int kSpins = 4000;  // about 20 to 50 microseconds

  static std::atomic<ThreadPool*>& current() {
    static std::atomic<ThreadPool*> pool{nullptr};
    return pool;
  }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  void share_out(int64_t chunks, int shares) {
    if (shares > room_) all_ = std::make_unique<Share[]>(static_cast<size_t>(room_ = shares));
    shares_ = shares;
    for (int i = 0; i < shares; ++i) {
      all_[static_cast<size_t>(i)].next.store(chunks * i / shares, std::memory_order_relaxed);
      all_[static_cast<size_t>(i)].end = chunks * (i + 1) / shares;
    }
  }

  void start(int helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (threads_ < helpers && add_thread(threads_ + 1)) ++threads_;
      wanted_ = std::min(helpers, threads_);
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
  }

  // False where the system has no room for another one.
  bool add_thread(int number) {
    try {
      std::thread([this, number] { serve(number); }).detach();
      return true;
    } catch (const std::system_error&) {
      return false;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  // No helper may join from here on; those at work finish their chunk.
  void finish() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      wanted_ = 0;
    }
    for (int spin = 0; active_.load(std::memory_order_acquire) != 0 && spin < kSpins; ++spin) {
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return active_.load(std::memory_order_acquire) == 0; });
  }

  void take_chunks(int own) {
    try {
      for (int i = 0; i < shares_; ++i) {
        Share& share = all_[static_cast<size_t>((own + i) % shares_)];
        for (int64_t chunk;
             (chunk = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
          call_(context_, chunk);
      }
    } catch (...) {
      for (int i = 0; i < shares_; ++i) {
        all_[static_cast<size_t>(i)].next.store(all_[static_cast<size_t>(i)].end,
                                                std::memory_order_relaxed);
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      error_ = std::current_exception();
    }
  }

  void serve(int number) {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; epoch_.load(std::memory_order_acquire) == seen && spin < kSpins; ++spin) {
        pause();
      }
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return epoch_.load(std::memory_order_relaxed) != seen; });
        seen = epoch_.load(std::memory_order_relaxed);
        if (wanted_ == 0) continue;
        --wanted_;
        active_.fetch_add(1, std::memory_order_relaxed);
      }
      take_chunks(number);
      const std::lock_guard<std::mutex> lock(mutex_);
      active_.fetch_sub(1, std::memory_order_release);
      idle_.notify_one();
    }
  }

  std::mutex turn_;  // held by the caller whose work the pool does
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<int> active_{0};
  int threads_ = 0;
  int wanted_ = 0;

  std::unique_ptr<Share[]> all_;  // the first `shares_` of `room_` are in use
  int shares_ = 0;
  int room_ = 0;
  const void* context_ = nullptr;
  void (*call_)(const void*, int64_t) = nullptr;
  std::exception_ptr error_;
};

template <class Work>
void parallel(int threads, int64_t chunks, const Work& work) {
  ThreadPool::instance().run(threads, chunks, work);
}

// [0, n) in pieces of at least `grain`, work(begin, end) for each.
template <class Work>
void parallel_ranges(int threads, int64_t n, int64_t grain, const Work& work) {
  if (n <= 0) return;
  const int64_t most = threads > 1 ? int64_t{threads} * 8 : 1;
  const int64_t wanted = (n + grain - 1) / grain;
  const int64_t pieces = wanted < most ? wanted : most;
  parallel(threads, pieces, [&](int64_t i) { work(n * i / pieces, n * (i + 1) / pieces); });
}

}  // namespace qcore
