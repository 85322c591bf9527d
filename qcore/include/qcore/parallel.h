// A small thread pool: chunks are handed out by a counter, and the caller works too, so that nobody waits for a preempted thread
// but for the chunk it holds. Safe after fork and for callers from several threads.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

namespace qcore {

class ThreadPool {
 public:
  static ThreadPool& instance() {
    ThreadPool* pool = current().load(std::memory_order_acquire);
    if (pool) return *pool;
    static const int registered = pthread_atfork(nullptr, nullptr, [] { current().store(nullptr); });
    (void)registered;
    auto* fresh = new ThreadPool;  // never deleted: threads may outlive static destruction
    if (current().compare_exchange_strong(pool, fresh)) return *fresh;
    delete fresh;
    return *pool;
  }

  // Call work(chunk) for each chunk in [0, chunks), on at most `threads` threads, this one included.
  template <class Work>
  void run(int threads, int64_t chunks, const Work& work) {
    const int helpers = static_cast<int>(threads < chunks ? threads : chunks) - 1;
    std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
    // A pool that is at work for somebody else leaves this caller its own thread.
    if (helpers < 1 || !turn.try_lock()) {
      for (int64_t chunk = 0; chunk < chunks; ++chunk) work(chunk);
      return;
    }
    chunks_ = chunks;
    next_.store(0, std::memory_order_relaxed);
    context_ = &work;
    call_ = [](const void* context, int64_t chunk) { (*static_cast<const Work*>(context))(chunk); };
    error_ = nullptr;
    start(helpers);
    take_chunks();
    finish();
    if (error_) std::rethrow_exception(error_);
  }

 private:
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

  void start(int helpers) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
      wanted_ = helpers;
      epoch_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
  }

  // No helper may join from here on; those at work finish their chunk.
  void finish() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      wanted_ = 0;
    }
    for (int spin = 0; active_.load(std::memory_order_acquire) != 0 && spin < kSpins; ++spin) pause();
    std::unique_lock<std::mutex> lock(mutex_);
    idle_.wait(lock, [this] { return active_.load(std::memory_order_acquire) == 0; });
  }

  void take_chunks() {
    try {
      for (int64_t chunk; (chunk = next_.fetch_add(1, std::memory_order_relaxed)) < chunks_;) call_(context_, chunk);
    } catch (...) {
      next_.store(chunks_, std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(mutex_);
      error_ = std::current_exception();
    }
  }

  void serve() {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; epoch_.load(std::memory_order_acquire) == seen && spin < kSpins; ++spin) pause();
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return epoch_.load(std::memory_order_relaxed) != seen; });
        seen = epoch_.load(std::memory_order_relaxed);
        if (wanted_ == 0) continue;
        --wanted_;
        active_.fetch_add(1, std::memory_order_relaxed);
      }
      take_chunks();
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

  std::atomic<int64_t> next_{0};
  int64_t chunks_ = 0;
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
