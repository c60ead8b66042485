// Threads of one roll-out: those of PyTorch's OpenMP where it has some, which would spin beside ours otherwise, or else
// threads that live for one call.
#pragma once
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

struct Abandoned {};  // thrown where a thread waits for another one that has failed

// Two functions of the GNU OpenMP library that PyTorch has loaded, and the process that they work in: a child of fork
// has none of its threads.
struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*num_threads)(void) = nullptr;
  long process = 0;

  static OpenMP& get() {
    static OpenMP openmp;
    return openmp;
  }
  static long this_process() {
#if defined(__unix__) || defined(__APPLE__)
    return (long)getpid();
#else
    return 1;
#endif
  }
  bool usable() const { return parallel && num_threads && process == this_process(); }
};

class Crew {
 public:
  // Calls work(i, threads) for i in [0, threads), each on a thread of its own, with as many threads as there are to be
  // had of n; an exception of any of them is thrown here.
  template <class F>
  static void run(int n, F work) {
    Crew crew;
    auto body = [&](int i, int threads) {
      try {
        work(i, threads);
      } catch (const Abandoned&) {
      } catch (...) {
        if (!crew.failed_.exchange(true)) crew.error_ = std::current_exception();
      }
    };
    if (n == 1)
      body(0, 1);
    else if (OpenMP::get().usable())
      on_openmp(n, body);
    else
      on_own_threads(n, body);
    if (crew.failed_) std::rethrow_exception(crew.error_);
  }

 private:
  std::exception_ptr error_;
  std::atomic<bool> failed_{false};

  template <class F>
  static void on_openmp(int n, F& body) {
    struct Call {
      F& body;
      std::atomic<int> next{0};
    } call{body};
    OpenMP::get().parallel(
        [](void* data) {
          Call& call = *(Call*)data;
          call.body(call.next.fetch_add(1), OpenMP::get().num_threads());
        },
        &call, (unsigned)n, 0);
  }

  template <class F>
  static void on_own_threads(int n, F& body) {
    std::atomic<int> gate{0};  // 0: wait; 1: go; 2: go home
    std::vector<std::thread> threads;
    try {
      for (int i = 1; i < n; i++)
        threads.emplace_back([&, i] {
          while (!gate.load(std::memory_order_acquire)) std::this_thread::yield();
          if (gate.load() == 1) body(i, n);
        });
    } catch (...) {
      gate.store(2);
      for (auto& t : threads) t.join();
      throw;
    }
    gate.store(1, std::memory_order_release);
    body(0, n);
    for (auto& t : threads) t.join();
  }
};

// Hands out numbers to the threads of one loop after another; at the end of each loop all wait for the last.
class Turns {
 public:
  explicit Turns(int threads = 1) : threads_(threads) {}

  template <class F>
  void each(long n, F f) {
    if (threads_ == 1) {
      for (long i = 0; i < n; i++) f(i);
      return;
    }
    for (long i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n;) f(i);
    wait();
  }

  template <class F>
  void once(F f) {
    each(1, [&](long) { f(); });
  }

  // What one of so many threads does from its first turn to its last. Where it throws, no other thread waits for it any
  // longer.
  template <class F>
  void take_part(int threads, F f) {
    threads_.store(threads, std::memory_order_relaxed);  // the same for all of them
    try {
      f();
    } catch (...) {
      failed_.store(true);
      throw;
    }
  }

 private:
  void wait() {
    int turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      next_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (long spins = 0; turn_.load(std::memory_order_acquire) == turn; spins++) {
      if (failed_.load(std::memory_order_relaxed)) throw Abandoned();
      if (spins > 2000) std::this_thread::yield();
    }
  }

  std::atomic<int> threads_;
  std::atomic<long> next_{0};
  std::atomic<int> arrived_{0}, turn_{0};
  std::atomic<bool> failed_{false};
};
