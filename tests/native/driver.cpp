// Exercises every option of the native roll-out through its C interface, to be run under sanitizers (see sanitize.py).
//
//   driver level            prints what nca_cpu_level() says
//   driver small N          N random small roll-outs, forward and backward, in several schemes of storage
//   driver large N          N roll-outs large enough for bands, on 1 to 4 threads
//   driver faults           every allocation of a roll-out on two threads fails once
//
// small and large print a hash of all results, which must not depend on what fresh memory is filled with.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "../../csrc/nca.h"

// Memory that runs out on demand -------------------------------------------------------------------------------------

static std::atomic<long> allocations_left{-1};  // until one fails; negative: none does
static std::atomic<bool> has_failed{false};

static bool fails_now() {
  if (allocations_left.load() < 0 || allocations_left.fetch_sub(1) != 0) return false;
  has_failed = true;
  return true;
}

static void* allocate(size_t align, size_t size) {
  void* p = nullptr;
  return fails_now() || posix_memalign(&p, align, size) ? nullptr : p;
}

extern "C" void* aligned_alloc(size_t align, size_t size) { return allocate(align, size); }

void* operator new(size_t size) {
  if (void* p = allocate(16, size ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { free(p); }
void operator delete(void* p, size_t) noexcept { free(p); }

// Roll-outs ----------------------------------------------------------------------------------------------------------

static std::mt19937 source;
static long draw(long low, long high) { return low + (long)(source() % (unsigned long)(high - low + 1)); }
static bool chance(double p) { return source() < p * 4294967296.0; }
template <class T>
static T one_of(std::vector<T> values) {
  return values[(size_t)draw(0, (long)values.size() - 1)];
}

static std::vector<float> numbers(long n, double scale) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<float> out((size_t)n);
  for (auto& value : out) value = (float)normal(source);
  return out;
}

[[noreturn]] static void fail(const char* what, const nca_job& j) {
  fprintf(stderr,
          "driver: %s: batch %ld channels %ld fixed %ld shape %ld %ld %ld kernel %ld %ld %ld padding %ld filters %ld full %ld "
          "hidden %ld alive %ld (%g, %ld, %ld) steps %ld segment %ld budget %ld threads %ld bf16 %ld\n",
          what, (long)j.batch, (long)j.channels, (long)j.fixed, (long)j.shape[0], (long)j.shape[1], (long)j.shape[2],
          (long)j.kernel[0], (long)j.kernel[1], (long)j.kernel[2], (long)j.padding, (long)j.filters, (long)j.full_outputs,
          (long)j.hidden, (long)j.alive_channel, j.threshold, (long)j.before, (long)j.after, (long)j.steps, (long)j.segment,
          (long)j.budget, (long)j.threads, (long)j.bf16);
  abort();
}

// A job with all that it points to; every array is exactly as large as it has to be.
struct Case {
  nca_job job{};
  std::vector<float> x, filter, filter_bias, full, full_bias, w1, b1, w2, b2;
  std::vector<uint8_t> learned, masks;
  std::vector<int64_t> stops;
  std::vector<std::vector<float>> grads;  // empty: the stop has no gradient

  long cells() const { return (long)(job.shape[0] * job.shape[1] * job.shape[2]); }
  long floats() const { return (long)(job.batch * job.channels) * cells(); }

  explicit Case(bool large) {
    nca_job& j = job;
    long dims = large ? draw(2, 3) : draw(1, 3), k = one_of<long>({1, 3, 3, 5});
    j.batch = draw(1, 5), j.steps = large ? draw(3, 5) : draw(1, 9), j.start = one_of<long>({0, 0, 7});
    j.channels = large ? draw(4, 20) : one_of<long>({1, draw(1, 40), 16, 32}), j.hidden = large ? draw(48, 100) : draw(1, 200);
    j.fixed = chance(0.5) ? 0 : draw(0, (long)j.channels - 1);
    j.padding = draw(0, 3);
    for (int axis = 0; axis < 3; axis++) {
      bool used = axis >= 3 - dims;
      long least = j.padding == NCA_REFLECT ? k / 2 + 1 : j.padding == NCA_CIRCULAR ? std::max(k / 2, 1L) : 1;
      long most = large ? (dims == 2 ? 90 : 20) : axis < 2 ? 6 : one_of<long>({9, 66, 130});
      j.kernel[axis] = used ? k : 1;
      j.shape[axis] = used ? draw(large ? most / 2 : least, std::max(most, least)) : 1;
    }
    if (large && dims == 2) j.shape[1] = draw(60, 120);
    long taps = (long)(j.kernel[0] * j.kernel[1] * j.kernel[2]), C = (long)j.channels;
    j.filters = draw(0, 6), j.full_outputs = j.filters && chance(0.7) ? 0 : draw(1, 20);
    if (large) j.filters = draw(1, 4), j.full_outputs = chance(0.2) ? 6 : 0;
    filter = numbers(j.filters * C * taps, 0.3);
    for (long f = 0; f < j.filters; f++) {
      long kind = draw(0, 3);  // learned, identity, with holes, nothing
      learned.push_back(kind == 0);
      for (long i = 0; i < C * taps; i++) {
        float& weight = filter[(size_t)(f * C * taps + i)];
        if (kind == 1) weight = i % taps == taps / 2;
        if ((kind == 2 && i % taps % 3 == 1) || (kind == 3 && chance(0.9))) weight = 0;
      }
    }
    if (chance(0.3)) filter_bias = numbers(j.filters * C, 0.3);
    full = numbers(j.full_outputs * C * taps, 0.1), j.full_relu = chance(0.5);
    if (chance(0.5)) full_bias = numbers(j.full_outputs, 0.3);
    long seen = (long)j.filters * C + (long)j.full_outputs + (j.has_time = chance(0.3));
    j.time_scale = 0.01, j.leak = chance(0.5) ? 0.01f : 0.f, j.noise = chance(0.3) ? 0.1f : 0.f;
    w1 = numbers(j.hidden * seen, 1 / sqrt((double)seen)), w2 = numbers((C - j.fixed) * j.hidden, 0.3 / sqrt((double)j.hidden));
    if (chance(0.7)) b1 = numbers(j.hidden, 0.3);
    if (chance(0.5)) b2 = numbers(C - j.fixed, 0.1);
    j.alive_channel = chance(0.4) ? -1 : draw(0, C - 1), j.threshold = one_of<float>({-0.1f, 0.f, 0.1f, 0.5f});
    j.before = chance(0.6), j.after = !j.before || chance(0.6);
    j.fire_threshold = one_of<uint32_t>({0, 5033165, 1u << 23, 1u << 23, 1u << 24}), j.seed = (uint32_t)source();
    if (chance(0.3)) {
      masks.resize((size_t)(j.steps * j.batch * cells()));
      for (auto& fires : masks) fires = chance(0.5);
    }
    for (long t = 1; t <= j.steps; t++)
      if (t == j.steps || chance(0.3)) stops.push_back(t);
    j.bf16 = chance(0.3), j.threads = 1, j.budget = (int64_t)1 << 30;
    x = numbers(floats(), 0.5);
    if (chance(0.5))  // space without life
      for (long i = 0; i < floats(); i++)
        if (i % (long)j.shape[2] > (long)j.shape[2] / 3) x[(size_t)i] = 0;
    for (size_t i = 0; i < stops.size(); i++) grads.push_back(chance(0.8) || i + 1 == stops.size() ? numbers(floats(), 1) : std::vector<float>());
    point();
  }
  Case(const Case&) = delete;

  static const float* at(const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); }

  void point() {
    nca_job& j = job;
    j.filter = at(filter), j.learned = learned.data(), j.filter_bias = at(filter_bias), j.full = at(full), j.full_bias = at(full_bias);
    j.w1 = at(w1), j.b1 = at(b1), j.w2 = at(w2), j.b2 = at(b2), j.masks = masks.empty() ? nullptr : masks.data();
    j.num_stops = (int64_t)stops.size(), j.stops = stops.data();
  }
};

typedef std::vector<std::vector<float>> Results;  // states at the stops, and all gradients

static uint64_t hash = 14695981039346656037ull;

static void check(const Results& results, const nca_job& job) {
  for (size_t i = 0; i < results.size(); i++)
    for (float value : results[i]) {
      if (!isfinite(value)) fail(("result " + std::to_string(i) + " is not finite").c_str(), job);
      uint32_t bits;
      memcpy(&bits, &value, 4);
      hash = (hash ^ bits) * 1099511628211ull;
    }
}

static void same(const Results& a, const Results& b, const nca_job& job) {
  for (size_t i = 0; i < a.size(); i++)
    if (a[i].size() != b[i].size() || (!a[i].empty() && memcmp(a[i].data(), b[i].data(), a[i].size() * 4)))
      fail(("result " + std::to_string(i) + " has other bits").c_str(), job);
}

// Status of the first call that fails; the tape is given back in any case.
static int run(const Case& c, Results& results, int64_t& tape_bytes, bool twice = false) {
  results.clear();
  tape_bytes = 0;
  std::vector<std::vector<float>> states(c.stops.size(), std::vector<float>((size_t)c.floats()));
  std::vector<float*> outs;
  std::vector<const float*> grads;
  for (auto& state : states) outs.push_back(state.data());
  for (auto& grad : c.grads) grads.push_back(grad.empty() ? nullptr : grad.data());
  std::vector<const std::vector<float>*> shapes{&c.x, &c.filter, &c.filter_bias, &c.full, &c.full_bias, &c.w1, &c.b1, &c.w2, &c.b2};
  Results sums;
  for (auto* like : shapes) sums.emplace_back(like->size());
  auto to = [&](int i) { return sums[(size_t)i].empty() ? nullptr : sums[(size_t)i].data(); };
  nca_gradients out{to(0), to(1), to(2), to(3), to(4), to(5), to(6), to(7), to(8)};
  void* tape = nullptr;
  if (int status = nca_forward(&c.job, c.x.data(), outs.data(), &tape)) {
    if (tape) fail("a forward pass that failed left a tape", c.job);
    return status;
  }
  tape_bytes = nca_tape_bytes(tape);
  int status = nca_backward(&c.job, tape, grads.data(), &out);
  if (!status && twice) {
    Results before = sums;
    for (auto& sum : sums) std::fill(sum.begin(), sum.end(), 0.f);
    status = nca_backward(&c.job, tape, grads.data(), &out);
    if (!status) same(before, sums, c.job);
    nca_gradients none{};
    status = status ? status : nca_backward(&c.job, tape, grads.data(), &none);
  }
  nca_free(tape);
  results = std::move(states);
  for (auto& sum : sums) results.push_back(std::move(sum));
  return status;
}

static Results run_or_abort(const Case& c, int64_t& tape_bytes, bool twice = false) {
  Results results;
  if (run(c, results, tape_bytes, twice)) fail("a roll-out failed", c.job);
  return results;
}

static void walk(long count, bool large) {
  for (long i = 0; i < count; i++) {
    source.seed((unsigned)(large ? 100000 + i : i));
    Case c(large);
    int64_t everything, bytes;
    Results expected = run_or_abort(c, everything);
    check(expected, c.job);
    same(run_or_abort(c, bytes, true), expected, c.job);
    std::vector<int64_t> segments = large ? std::vector<int64_t>{0, 2} : std::vector<int64_t>{1, 2, 3, c.job.steps};
    for (c.job.threads = 1; c.job.threads <= (large ? 4 : 2); c.job.threads++) {
      c.job.budget = (int64_t)1 << 30;
      for (int64_t segment : segments) {
        c.job.segment = segment;
        same(run_or_abort(c, bytes), expected, c.job);
      }
      c.job.segment = 0;
      c.job.budget = one_of<int64_t>({0, everything / 3, everything / 2, everything * 2 / 3});
      same(run_or_abort(c, bytes), expected, c.job);
      std::vector<std::vector<float>> states(c.stops.size(), std::vector<float>((size_t)c.floats()));
      std::vector<float*> outs;
      for (auto& state : states) outs.push_back(state.data());
      if (nca_forward(&c.job, c.x.data(), outs.data(), nullptr)) fail("a forward pass without a tape failed", c.job);
      for (size_t s = 0; s < states.size(); s++)
        if (memcmp(states[s].data(), expected[s].data(), states[s].size() * 4)) fail("without a tape, states differ", c.job);
    }
  }
  printf("%016llx\n", (unsigned long long)hash);
}

static void faults() {
  for (bool together : {true, false}) {
    source.seed(1);
    Case c(true);
    c.job.budget = 1 << 20, c.job.threads = together ? c.job.batch + 1 : c.job.batch;
    Results expected, found;
    int64_t bytes;
    if (run(c, expected, bytes)) fail("a roll-out failed", c.job);
    long failures = 0;
    for (long n = 0, step = 1;; n += step, step += step > 40 ? 0 : n > 100 ? 3 : 0) {
      alarm(60);  // threads that wait for each other for ever
      has_failed = false, allocations_left = n;
      int status;
      try {
        status = run(c, found, bytes);
      } catch (const std::bad_alloc&) {  // one of the driver's own
        status = 1;
      }
      allocations_left = -1;
      if (!has_failed) {
        if (status) fail("a roll-out failed with memory left", c.job);
        same(found, expected, c.job);
        break;
      }
      if (status != 1) fail("no memory, and another status", c.job);
      failures++;
    }
    alarm(0);
    if (failures < 50) fail("hardly any allocation was seen", c.job);
    nca_pool_bytes(1);
    printf("%ld failures survived\n", failures);
  }
}

int main(int argc, char** argv) {
  std::string mode = argc > 1 ? argv[1] : "";
  long count = argc > 2 ? atol(argv[2]) : 0;
  if (mode == "level") return printf("%d\n", nca_cpu_level()), 0;
  if (mode == "small" && count) return walk(count, false), 0;
  if (mode == "large" && count) return walk(count, true), 0;
  if (mode == "faults") return faults(), 0;
  fprintf(stderr, "driver: level | small N | large N | faults\n");
  return 2;
}
