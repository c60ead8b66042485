// Roll-outs forward and backward: which samples make a team, what is stored, and the C interface.
#include <math.h>

#include <algorithm>
#include <atomic>

#include "team.h"

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <cpuid.h>
#endif

struct Tape {
  std::vector<std::unique_ptr<TeamTape>> teams;
  ~Tape() {
    teams.clear();
    Pool::get().settle();
  }
};

namespace {

// Samples are teams of their own where that keeps all threads at work; else all samples are one team.
long team_size(const nca_job& j, long threads) {
  return threads == 1 || j.batch % threads == 0 || j.batch >= 3 * threads ? 1 : j.batch;
}

// Whether all threads work on one team.
bool is_together(const nca_job& j, long samples_of_team) { return samples_of_team == j.batch; }

long work_threads(const nca_job& j, const Net& n, long samples_of_team) {
  long threads = std::max<int64_t>(1, j.threads);
  double work = (double)j.batch * (double)n.grid.cells() * (double)j.steps * (double)(n.K + j.channels) * (double)n.HID;
  if (work < 2e7) return 1;  // done before a thread has started
  if (!is_together(j, samples_of_team)) return std::min<long>(threads, j.batch);
  return std::min(threads, samples_of_team * Team::num_bands(n.grid, j.batch));
}

// Calls f(team, turns, tile, index of the team) for every team, with all threads that belong to it.
template <class F>
void for_teams(const Net& n, long size, long threads, bool with_grad, F f) {
  if (is_together(n.job, size)) {
    Team team(n, size, with_grad);
    Turns turns;
    Crew::run((int)threads, [&](int, int crew) {
      turns.take_part(crew, [&] {
        Tile tile(n);
        f(team, turns, tile, 0);
      });
    });
    return;
  }
  std::atomic<long> next{0};
  Crew::run((int)threads, [&](int, int) {
    Tile tile(n);
    Team team(n, 1, with_grad);
    Turns alone(1);
    for (long b; (b = next.fetch_add(1)) < n.job.batch;) {
      team.seat(b);
      f(team, alone, tile, b);
    }
  });
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
  Plan(const nca_job& j, const Team& team)
      : j_(j), state_((double)team.packed_floats() * 4), worst_((double)team.worst_step()),
        budget_((double)j.budget * (double)team.samples() / (double)j.batch) {}

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

void forward_team(const nca_job& j, Team& team, Turns& turns, Tile& tile, const float* x, float* const* outs,
                  TeamTape* tape, Plan& plan) {
  team.begin(turns, x);
  for (long done = 0; done < j.steps; done++) {
    long t = j.start + done;
    if (tape) {
      bool fresh = false;
      turns.once([&] {
        double logged = 0;
        if (!tape->segments.empty())
          for (auto& log : tape->segments.back().logs) logged += (double)log->bytes();
        if (!plan.begins(done, logged)) return;
        if (!tape->segments.empty()) tape->segments.back().to = t;
        Segment segment{t, j.start + j.steps, plan.logs(done), {}, {}};
        if (segment.logged) segment.logs = new_logs(team.bands());
        if (done || !segment.logged) segment.snapshot = Buffer<float>(team.packed_floats(), Fill::nothing);
        tape->segments.push_back(std::move(segment));
      });
      Segment& now = tape->segments.back();
      fresh = now.from == t;
      if (fresh && now.snapshot.get()) team.pack(turns, now.snapshot);
    }
    auto* logs = tape && tape->segments.back().logged ? &tape->segments.back().logs : nullptr;
    team.step(turns, tile, t, logs, stop_at(j, done + 1, outs));
  }
  if (tape) team.pack(turns, tape->end);
}

void backward_team(const nca_job& j, Team& team, Turns& turns, Tile& tile, const TeamTape& tape,
                   const float* const* grads, float* gx, std::vector<Gradients>& sums, Segment& again) {
  team.begin_backward(turns);
  team.unpack(turns, tape.end);
  for (size_t s = tape.segments.size(); s-- > 0;) {
    const Segment* segment = &tape.segments[s];
    if (!segment->logged) {
      turns.once([&] {
        again.from = segment->from, again.to = segment->to;
        again.logs = new_logs(team.bands());
      });
      team.unpack(turns, segment->snapshot);
      for (long t = again.from; t < again.to; t++) team.step(turns, tile, t, &again.logs, nullptr);
      segment = &again;
    }
    for (long t = segment->to - 1; t >= segment->from; t--) {
      for (long i = 0; i < j.num_stops; i++)
        if (j.stops[i] == t + 1 - j.start && grads[i]) team.add_gradient(turns, grads[i]);
      team.unstep(turns, tile, t, *segment, sums);
    }
    turns.once([&] { again.logs.clear(); });
  }
  if (gx) team.write_gradient(turns, gx);
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
    long size = team_size(j, std::max<int64_t>(1, j.threads)), threads = work_threads(j, net, size);
    auto tape = std::make_unique<Tape>();
    if (tape_out)
      for (long i = 0; i < j.batch / size; i++) tape->teams.push_back(std::make_unique<TeamTape>());
    std::vector<std::unique_ptr<Plan>> plans((size_t)(j.batch / size));
    for_teams(net, size, threads, false, [&](Team& team, Turns& turns, Tile& tile, long i) {
      TeamTape* mine = tape_out ? tape->teams[i].get() : nullptr;
      turns.once([&] {
        plans[i] = std::make_unique<Plan>(j, team);
        if (mine) mine->end = Buffer<float>(team.packed_floats(), Fill::nothing);
      });
      forward_team(j, team, turns, tile, x, outs, mine, *plans[i]);
    });
    if (tape_out) *tape_out = tape.release();
  });
}

int nca_backward(const nca_job* job, const void* tape_in, const float* const* grads, const nca_gradients* out) {
  return guarded([&] {
    const nca_job& j = *job;
    const Tape& tape = *(const Tape*)tape_in;
    Net net(j);
    long size = j.batch / (long)tape.teams.size(), threads = work_threads(j, net, size);
    long bands = Team::num_bands(net.grid, j.batch);
    std::vector<std::vector<Gradients>> sums(tape.teams.size());
    std::vector<Segment> again(tape.teams.size());
    for (auto& of_team : sums)
      for (long i = 0; i < size * bands; i++) of_team.emplace_back(net);
    for_teams(net, size, threads, true, [&](Team& team, Turns& turns, Tile& tile, long i) {
      backward_team(j, team, turns, tile, *tape.teams[i], grads, out->x, sums[i], again[i]);
    });
    Gradients total(net);
    for (auto& of_team : sums)
      for (auto& sum : of_team) join(total, sum);
    write_gradients(net, total, *out);
  });
}

void nca_free(void* tape) { delete (Tape*)tape; }

int64_t nca_tape_bytes(const void* tape) {
  int64_t bytes = 0;
  for (auto& team : ((const Tape*)tape)->teams) {
    bytes += (int64_t)team->end.size() * 4;
    for (auto& segment : team->segments) {
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

void nca_use_openmp(void* parallel, void* num_threads) {
  OpenMP& openmp = OpenMP::get();
  openmp.parallel = (void (*)(void (*)(void*), void*, unsigned, unsigned))parallel;
  openmp.num_threads = (int (*)(void))num_threads;
  openmp.process = OpenMP::this_process();
}

int nca_abi(void) { return 3; }
