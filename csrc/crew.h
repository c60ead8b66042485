// Threads that live for one roll-out: nothing spins between calls, and a forked process finds none missing.
#pragma once
#include <atomic>
#include <exception>
#include <thread>
#include <vector>

struct Abandoned {};  // thrown where a thread waits for another one that has failed

class Crew {
 public:
  // Calls work(i) for i in [0, n), each on a thread of its own; an exception of any of them is thrown here.
  template <class F>
  static void run(int n, F work) {
    std::exception_ptr error;
    std::atomic<bool> failed{false};
    std::atomic<int> gate{0};  // 0: wait; 1: go; 2: go home
    auto body = [&](int i) {
      try {
        work(i);
      } catch (const Abandoned&) {
      } catch (...) {
        if (!failed.exchange(true)) error = std::current_exception();
      }
    };
    std::vector<std::thread> threads;
    try {
      for (int i = 1; i < n; i++)
        threads.emplace_back([&, i] {
          while (!gate.load(std::memory_order_acquire)) std::this_thread::yield();
          if (gate.load() == 1) body(i);
        });
    } catch (...) {
      gate.store(2);
      for (auto& t : threads) t.join();
      throw;
    }
    gate.store(1, std::memory_order_release);
    body(0);
    for (auto& t : threads) t.join();
    if (failed) std::rethrow_exception(error);
  }
};

// Hands out numbers to the threads of one loop after another; at the end of each loop all wait for the last.
class Turns {
 public:
  explicit Turns(int threads) : threads_(threads) {}

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

  // What a thread does from its first turn to its last. Where it throws, no other thread waits for it any longer.
  template <class F>
  void take_part(F f) {
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

  int threads_;
  std::atomic<long> next_{0};
  std::atomic<int> arrived_{0}, turn_{0};
  std::atomic<bool> failed_{false};
};
