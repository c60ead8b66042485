// Threads that share one roll-out.
//
// A roll-out is a list of tasks, the samples. Each task is led by one thread, which runs its loops one after another. A
// thread that finds no task left helps: it takes single iterations of the loop that a leader is in. A leader waits at
// the end of a loop only for iterations that were taken and are not finished. So a helper that the system does not
// schedule costs nothing: the leader does all the work itself. With a barrier that every thread must reach, each loop
// would last until the last thread had been scheduled, which takes milliseconds on a busy machine.
#pragma once
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "nca.h"

struct Abandoned {};  // thrown in a leader when another thread has failed

// How long one thread spins before it sleeps. Waking up takes longer than most waits, so a short spin pays. A wait of
// more than a millisecond was for a thread that the system did not schedule; spinning would keep it from the processor.
class Spin {
 public:
  typedef std::chrono::steady_clock Clock;

  // Whether the condition came to hold while spinning.
  template <class F>
  bool until(F holds) {
    if (holds()) return true;
    begin_ = Clock::now();
    do
      for (int i = 0; i < 16; i++) {
        if (holds()) return true;
        pause();
      }
    while (Clock::now() - begin_ < limit_);
    return false;
  }

  // Called after the sleep that followed.
  void slept() {
    bool descheduled = Clock::now() - begin_ > std::chrono::milliseconds(1);
    limit_ = descheduled ? std::max(limit_ / 2, Clock::duration(LEAST)) : std::min(limit_ * 2, Clock::duration(MOST));
  }

 private:
  static constexpr std::chrono::microseconds LEAST{2}, MOST{50};
  Clock::duration limit_ = MOST;
  Clock::time_point begin_;

  static void pause() {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ __volatile__("yield");
#endif
  }
};

// Lets threads wait for a condition of sequentially consistent atomics. Whoever makes it true calls notify() afterwards:
// either that call sees the sleeper, or the sleeper sees that the condition holds.
class Signal {
 public:
  template <class F>
  void wait(Spin& spin, F holds) {
    if (spin.until(holds)) return;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1);
      while (!holds()) changed_.wait(lock);
      sleepers_.fetch_sub(1);
    }
    spin.slept();
  }

  void notify() {
    if (!sleepers_.load()) return;
    { std::lock_guard<std::mutex> lock(mutex_); }  // a thread that is about to sleep has checked before, or sleeps now
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int> sleepers_{0};
};

// The first exception of any thread.
class Failure {
 public:
  void set(std::exception_ptr error) {
    if (!is_set_.exchange(true)) error_ = error;
  }
  explicit operator bool() const { return is_set_.load(std::memory_order_relaxed); }
  void rethrow() const {  // once all threads have ended
    if (is_set_) std::rethrow_exception(error_);
  }

 private:
  std::atomic<bool> is_set_{false};
  std::exception_ptr error_;
};

// The parallel loops of one task.
class Loops {
 public:
  Loops(Failure& failure, bool is_alone) : failure_(failure), is_alone_(is_alone) {}

  // For the leader: calls f(i, thread) for i in [0, n), on this thread and on those that help, and returns when all calls
  // have returned.
  template <class F>
  void each(long n, F f) {
    if (is_alone_) {
      for (long i = 0; i < n; i++) f(i, leader_);
      return;
    }
    call_ = [](void* function, long i, int thread) { (*(F*)function)(i, thread); };
    function_ = &f, n_ = n;
    unfinished_.store(n);
    remaining_.store(n);
    if (n > 1) published_.notify();
    work(leader_);
    finished_.wait(spin_, [&] { return unfinished_.load() == 0; });
    if (failure_) throw Abandoned();
  }

  void lead(int thread) { leader_ = thread; }
  void end() {
    has_ended_.store(true);
    published_.notify();
  }

  void help(int thread) {
    Spin spin;
    num_helpers_.fetch_add(1);
    for (;;) {
      published_.wait(spin, [&] { return remaining_.load() > 0 || has_ended_.load(); });
      if (has_ended_.load()) break;
      work(thread);
    }
    num_helpers_.fetch_sub(1);
  }

  int leader() const { return leader_; }
  bool has_ended() const { return has_ended_.load(); }
  int num_helpers() const { return num_helpers_.load(); }

 private:
  Failure& failure_;
  const bool is_alone_;
  int leader_ = 0;
  // Of the loop at work. A thread that has taken an iteration may read them: the loop cannot end before.
  void (*call_)(void*, long, int) = nullptr;
  void* function_ = nullptr;
  long n_ = 0;
  // Apart from each other, since threads that wait for one would slow down those that write the other.
  alignas(64) std::atomic<long> remaining_{0};   // iterations that no thread has taken
  alignas(64) std::atomic<long> unfinished_{0};  // iterations that have not returned
  std::atomic<bool> has_ended_{false};
  std::atomic<int> num_helpers_{0};
  Signal published_, finished_;
  Spin spin_;

  void work(int thread) {
    long left = remaining_.load();
    while (left > 0) {
      if (!remaining_.compare_exchange_weak(left, left - 1)) continue;
      try {
        if (!failure_) call_(function_, n_ - left, thread);
      } catch (...) {
        failure_.set(std::current_exception());
      }
      if (unfinished_.fetch_sub(1) == 1) finished_.notify();
      left = remaining_.load();
    }
  }
};

class ThreadTeam {
 public:
  // Calls lead(task, thread, loops) for task in [0, tasks), on this thread and on up to `threads` - 1 others, fewer if
  // the system has no more. setup(thread) is called first on each. `width` is the largest number of iterations of a
  // loop that can pay. Throws the first exception of any of them.
  template <class Setup, class Lead>
  static nca_usage run(int threads, long tasks, long width, Setup setup, Lead lead) {
    ThreadTeam team(threads, tasks, width);
    auto body = [&](int thread) { team.body(thread, setup, lead); };
    auto begin = Spin::Clock::now();
    std::vector<std::thread> others;
    try {
      for (int i = 1; i < threads; i++) others.emplace_back(body, i);
    } catch (const std::system_error&) {  // a limit on the number of threads
    } catch (...) {
      team.failure_.set(std::current_exception());
    }
    body(0);
    for (auto& thread : others) thread.join();
    team.failure_.rethrow();
    return {team.cpu_, std::chrono::duration<double>(Spin::Clock::now() - begin).count(), (int64_t)others.size() + 1};
  }

 private:
  long width_;
  Failure failure_;
  std::deque<Loops> tasks_;
  std::atomic<long> next_{0};
  std::mutex mutex_;
  double cpu_ = 0;

  ThreadTeam(int threads, long tasks, long width) : width_(width) {
    for (long i = 0; i < tasks; i++) tasks_.emplace_back(failure_, threads == 1);
  }

  template <class Setup, class Lead>
  void body(int thread, Setup& setup, Lead& lead) {
    struct End {
      Loops& loops;
      ~End() { loops.end(); }
    };
    double begin = cpu_seconds();
    try {
      setup(thread);
      for (long i; !failure_ && (i = next_.fetch_add(1)) < (long)tasks_.size();) {
        End end{tasks_[(size_t)i]};
        end.loops.lead(thread);
        lead(i, thread, end.loops);
      }
      for (Loops* loops; !failure_ && (loops = in_need());) loops->help(thread);
    } catch (const Abandoned&) {
    } catch (...) {
      failure_.set(std::current_exception());
    }
    std::lock_guard<std::mutex> lock(mutex_);
    cpu_ += cpu_seconds() - begin;
  }

  // The unfinished task with the fewest helpers, if it has work for one more.
  Loops* in_need() {
    Loops* found = nullptr;
    for (Loops& loops : tasks_)
      if (!loops.has_ended() && (!found || loops.num_helpers() < found->num_helpers())) found = &loops;
    return found && found->num_helpers() + 1 < width_ ? found : nullptr;
  }

  // Processor time of this thread, in seconds; 0 where it cannot be read.
  static double cpu_seconds() {
#if defined(__unix__) || defined(__APPLE__)
    timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0) return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
    return 0;
  }
};
