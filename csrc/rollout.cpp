// Roll-outs forward and backward: threads, what is stored, and the C interface.
#include <math.h>

#include <algorithm>

#include "openmp.h"
#include "sample_rollout.h"

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <cpuid.h>
#endif

struct Tape {
  std::vector<std::unique_ptr<SampleTape>> samples;
  ~Tape() {
    samples.clear();
    Pool::get().settle();
  }
};

namespace {

int num_threads(const nca_job& j, const Net& n) {
  double work = (double)j.batch * (double)n.grid.cells() * (double)j.steps * (double)(n.K + j.channels) * (double)n.HID;
  if (work < 2e7) return 1;  // done before a thread has started
  return (int)std::max<int64_t>(1, std::min<int64_t>(j.threads, j.batch * SampleRollout::num_bands(n.grid, j.batch)));
}

// Calls f(rollout, number of the sample) for every sample, on all threads.
template <class F>
void for_samples(const Net& n, bool with_grad, F f) {
  const nca_job& j = n.job;
  int threads = num_threads(j, n);
  std::vector<std::unique_ptr<Tile>> tiles((size_t)threads);
  std::vector<std::unique_ptr<SampleRollout>> rollouts((size_t)threads);
  auto setup = [&](int thread) { tiles[(size_t)thread] = std::make_unique<Tile>(n); };
  auto lead = [&](long sample, int thread, Loops& loops) {
    auto& rollout = rollouts[(size_t)thread];
    if (!rollout) rollout = std::make_unique<SampleRollout>(n, tiles, with_grad);
    rollout->begin(sample, loops);
    f(*rollout, sample);
  };
  nca_usage usage = ThreadTeam::run(threads, j.batch, SampleRollout::num_bands(n.grid, j.batch), setup, lead);
  if (j.usage) *j.usage = usage;
}

std::vector<std::unique_ptr<Log>> new_logs(size_t bands) {
  std::vector<std::unique_ptr<Log>> logs;
  for (size_t i = 0; i < bands; i++) logs.push_back(std::make_unique<Log>());
  return logs;
}

float* stop_at(const nca_job& j, long done, float* const* outs) {
  for (long i = 0; i < j.num_stops; i++)
    if (j.stops[i] == done) return outs[i];
  return nullptr;
}

// Where the segments of a roll-out begin, decided step by step: everything is logged for as long as what is left of
// the budget would hold the rest in segments of the best length.
class Plan {
 public:
  Plan(const nca_job& j, const SampleRollout& sample)
      : j_(j), state_((double)sample.packed_floats() * 4), worst_((double)sample.worst_step()),
        budget_((double)j.budget / (double)j.batch) {}

  // Whether a new segment begins before this step, with so many bytes logged.
  bool begins(long done, double logged) {
    long rest = j_.steps - done;
    if (j_.segment) return done % j_.segment == 0;
    if (done == 0) return true;
    if (length_) return done >= next_ && (next_ = done + length_, true);
    if (logged + worst_ * (double)rest <= budget_) return false;
    if (logged + worst_ + 2 * sqrt((double)(rest - 1) * state_ * worst_) <= budget_) return false;
    length_ = std::max(1L, lround(sqrt((double)rest * state_ / worst_)));
    next_ = done + length_;
    return true;
  }

  // Whether the segment that begins with this step is logged at once.
  bool logs(long done) const {
    long length = j_.segment ? (long)j_.segment : length_;
    return length == 0 || done + length >= j_.steps;
  }

 private:
  const nca_job& j_;
  double state_, worst_, budget_;
  long length_ = 0, next_ = 0;
};

// Begins a new segment where the plan says so.
void begin_segment(SampleRollout& sample, SampleTape& tape, Plan& plan, long t, const nca_job& j) {
  double logged = 0;
  if (!tape.segments.empty())
    for (auto& log : tape.segments.back().logs) logged += (double)log->bytes();
  long done = t - j.start;
  if (!plan.begins(done, logged)) return;
  if (!tape.segments.empty()) tape.segments.back().to = t;
  Segment segment{t, j.start + j.steps, plan.logs(done), {}, {}};
  if (segment.logged) segment.logs = new_logs(sample.bands());
  if (done || !segment.logged) {
    segment.snapshot = Buffer<float>(sample.packed_floats(), Fill::nothing);
    sample.pack(segment.snapshot);
  }
  tape.segments.push_back(std::move(segment));
}

void forward(const nca_job& j, SampleRollout& sample, const float* x, float* const* outs, SampleTape* tape) {
  Plan plan(j, sample);
  sample.read(x);
  for (long done = 0; done < j.steps; done++) {
    long t = j.start + done;
    if (tape) begin_segment(sample, *tape, plan, t, j);
    auto* logs = tape && tape->segments.back().logged ? &tape->segments.back().logs : nullptr;
    sample.step(t, logs, stop_at(j, done + 1, outs));
  }
  if (!tape) return;
  tape->end = Buffer<float>(sample.packed_floats(), Fill::nothing);
  sample.pack(tape->end);
}

void backward(const nca_job& j, SampleRollout& sample, const SampleTape& tape, const float* const* grads, float* gx,
              std::vector<Gradients>& sums) {
  sample.begin_backward();
  sample.unpack(tape.end);
  Segment again;
  for (size_t s = tape.segments.size(); s-- > 0;) {
    const Segment* segment = &tape.segments[s];
    if (!segment->logged) {
      again = Segment{segment->from, segment->to, true, new_logs(sample.bands()), {}};
      sample.unpack(segment->snapshot);
      for (long t = again.from; t < again.to; t++) sample.step(t, &again.logs, nullptr);
      segment = &again;
    }
    for (long t = segment->to - 1; t >= segment->from; t--) {
      for (long i = 0; i < j.num_stops; i++)
        if (j.stops[i] == t + 1 - j.start && grads[i]) sample.add_gradient(grads[i]);
      sample.unstep(t, *segment, sums);
    }
    again.logs.clear();
  }
  if (gx) sample.write_gradient(gx);
}

// Adds b to a, element by element.
void join(Gradients& a, const Gradients& b) {
  auto add = [](Buffer<float>& to, const Buffer<float>& from) {
    for (size_t i = 0; i < to.size(); i++) to[i] += from[i];
  };
  add(a.filter, b.filter), add(a.filter_bias, b.filter_bias), add(a.full, b.full), add(a.full_bias, b.full_bias);
  add(a.w1, b.w1), add(a.w2_t, b.w2_t), add(a.b1, b.b1), add(a.b2, b.b2), add(a.time, b.time);
}

// Brings the sums into the order of the parameters.
void write_gradients(const Net& n, const Gradients& s, const nca_gradients& out) {
  const nca_job& j = n.job;
  long C = n.grid.C, fixed = n.grid.fixed, columns = n.K + (j.has_time ? 1 : 0);
  if (out.w1)
    for (long h = 0; h < n.HID; h++) {
      for (long k = 0; k < n.K; k++) out.w1[h * columns + k] = s.w1[k * n.HP + h];
      if (j.has_time) out.w1[h * columns + n.K] = s.time[h];
    }
  if (out.b1) std::copy(s.b1.get(), s.b1 + n.HID, out.b1);
  if (out.w2)
    for (long c = fixed; c < C; c++) std::copy(s.w2_t + c * n.HP, s.w2_t + c * n.HP + n.HID, out.w2 + (c - fixed) * n.HID);
  if (out.b2) std::copy(s.b2 + fixed, s.b2 + C, out.b2);
  if (out.filter_bias) std::copy(s.filter_bias.get(), s.filter_bias + n.F * C, out.filter_bias);
  if (out.filter)
    for (const Group& group : n.groups)
      for (size_t t = 0; group.learned && t < group.taps.size(); t++)
        for (int f = 0; f < group.filters; f++)
          for (long c = 0; c < C; c++)
            out.filter[((group.first + f) * C + c) * n.taps + group.taps[t]] =
                s.filter[group.gradient + (t * group.filters + f) * n.grid.CS + c];
  if (out.full)
    for (long o = 0; o < n.O; o++)
      for (long c = 0; c < C; c++)
        for (long t = 0; t < n.taps; t++) out.full[(o * C + c) * n.taps + t] = s.full[(t * C + c) * n.OP + o];
  if (out.full_bias) std::copy(s.full_bias.get(), s.full_bias + n.O, out.full_bias);
}

template <class F>
int guarded(F f) {
  try {
    f();
    return NCA_OK;
  } catch (const std::bad_alloc&) {
    return NCA_NO_MEMORY;
  } catch (...) {
    return NCA_FAILED;
  }
}

}  // namespace

int nca_forward(const nca_job* job, const float* x, float* const* outs, void** tape_out) {
  return guarded([&] {
    const nca_job& j = *job;
    Net net(j);
    auto tape = std::make_unique<Tape>();
    if (tape_out)
      for (long i = 0; i < j.batch; i++) tape->samples.push_back(std::make_unique<SampleTape>());
    for_samples(net, false, [&](SampleRollout& sample, long i) {
      forward(j, sample, x, outs, tape_out ? tape->samples[(size_t)i].get() : nullptr);
    });
    if (tape_out) *tape_out = tape.release();
  });
}

int nca_backward(const nca_job* job, const void* tape_in, const float* const* grads, const nca_gradients* out) {
  return guarded([&] {
    const nca_job& j = *job;
    const Tape& tape = *(const Tape*)tape_in;
    Net net(j);
    long bands = SampleRollout::num_bands(net.grid, j.batch);
    std::vector<std::vector<Gradients>> sums((size_t)j.batch);
    for (auto& of_sample : sums)
      for (long i = 0; i < bands; i++) of_sample.emplace_back(net);
    for_samples(net, true, [&](SampleRollout& sample, long i) {
      backward(j, sample, *tape.samples[(size_t)i], grads, out->x, sums[(size_t)i]);
    });
    Gradients total(net);
    for (auto& of_sample : sums)
      for (auto& sum : of_sample) join(total, sum);
    write_gradients(net, total, *out);
  });
}

void nca_free(void* tape) { delete (Tape*)tape; }

int64_t nca_tape_bytes(const void* tape) {
  int64_t bytes = 0;
  for (auto& sample : ((const Tape*)tape)->samples) {
    bytes += (int64_t)sample->end.size() * 4;
    for (auto& segment : sample->segments) {
      bytes += (int64_t)segment.snapshot.size() * 4;
      for (auto& log : segment.logs) bytes += (int64_t)log->bytes();
    }
  }
  return bytes;
}

int64_t nca_pool_bytes(int trim) { return Pool::get().bytes(trim != 0); }

int nca_cpu_level(void) {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq"))
    return 1;
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 5 & 1 ? 3 : 2;
#else
  return 0;
#endif
}

void nca_calm_openmp(void* parallel) {
  guarded([&] { calm_openmp((OpenMPParallel)parallel); });  // without a thread for it, nothing changes
}

int nca_abi(void) { return 4; }
