// The threads of GNU's OpenMP library, with which PyTorch works.
//
// A thread of it spins for up to 300 000 rounds (about 6 ms) wherever it waits: at the end of an operation of PyTorch for
// the other threads, and after it for the next operation. On a machine with other work, that makes an operation of 0.3 ms
// last 30 ms, and after each, the threads of a roll-out share a processor with one that spins. The environment variables
// that limit it are read when PyTorch is loaded, which is before this library. But the library spins for 100 rounds only
// while it manages more threads than there are processors. One more team of two, which sleeps for ever, makes it so
// wherever PyTorch has a thread for each processor.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>

typedef void (*OpenMPParallel)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel

// Returns once it holds.
inline void calm_openmp(OpenMPParallel parallel) {
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_calm = false;
  };
  State* state = new State;  // never destroyed: the thread outlives the end of main
  std::thread([state, parallel] {
    parallel([](void*) {}, nullptr, 2, 0);
    std::unique_lock<std::mutex> lock(state->mutex);
    state->is_calm = true;
    state->changed.notify_all();
    for (;;) state->changed.wait(lock);  // its team ends with it
  }).detach();
  std::unique_lock<std::mutex> lock(state->mutex);
  state->changed.wait(lock, [state] { return state->is_calm; });
}
