// Attention: by which body, and remembering it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <span>
#include <vector>

#include "kernels/cuda/attention_operands.h"
#include "kernels/cuda/attention_shape.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/state.h"

namespace troupe::kernels::cuda {
namespace {

// Pieces of one piece of memory, 256 bytes apart; without memory, how much
// they take.
class Carver {
 public:
  explicit Carver(void* at) : at_(static_cast<std::byte*>(at)) {}
  template <typename T>
  T* take(std::int64_t count) {
    const std::int64_t from = used_;
    used_ += (count * std::int64_t{sizeof(T)} + 255) / 256 * 256;
    return at_ == nullptr ? nullptr : reinterpret_cast<T*>(at_ + from);
  }
  Bytes used() const { return {used_}; }

 private:
  std::byte* at_;
  std::int64_t used_ = 0;
};

// What a call of a problem needs on the GPU beside its operands.
struct Aside {
  AttentionLengths lengths{};
  float* lse = nullptr;  ///< in cuDNN's order, or without infinities
  void* plan = nullptr;
};

Aside carve(Carver& carver, const cudnn::AttentionProblem& p,
            const AttentionSizes& s, Bytes plan) {
  Aside out;
  if (p.ragged) {
    out.lengths.count = p.sequences;
    out.lengths.q = carver.take<std::int32_t>(p.sequences);
    out.lengths.kv = carver.take<std::int32_t>(p.sequences);
    for (auto* one : {&out.lengths.q_offsets, &out.lengths.kv_offsets,
                      &out.lengths.out_offsets, &out.lengths.lse_offsets}) {
      *one = carver.take<std::int64_t>(p.sequences + 1);
    }
  }
  if (!p.ragged || (p.backward && !p.own_keys)) {
    out.lse = carver.take<float>(s.q_tokens * s.heads);
  }
  out.plan = carver.take<std::byte>(plan.v);
  return out;
}

cudnn::AttentionOperands with_lengths(const AttentionLengths& l) {
  cudnn::AttentionOperands o;
  o.q_lengths = l.q;
  o.kv_lengths = l.kv;
  o.q_offsets = l.q_offsets;
  o.kv_offsets = l.kv_offsets;
  o.out_offsets = l.out_offsets;
  o.lse_offsets = l.lse_offsets;
  return o;
}

float scale_of(const AttentionSizes& s) {
  return static_cast<float>(
      s.scale == 0 ? 1 / std::sqrt(static_cast<double>(s.head_dim)) : s.scale);
}

}  // namespace

Result<void> open_attention(Context& context) {
  FusedAttention& fused = context.state().attention;
  if (!fused.opened) {
    fused.opened = true;
    const auto opened = [&]() -> Result<void> {
      TRY(fused.library, cudnn::Library::open());
      TRY(fused.handle, cudnn::Handle::create(fused.library, context.stream()));
      return {};
    }();
    if (!opened) fused.refusal = opened.error().message;
  }
  if (fused.refusal.empty()) return {};
  return fail(Fault::unavailable, fused.refusal);
}

namespace {

Result<cudnn::AttentionPlan*> plan_for(const cudnn::AttentionProblem& problem,
                                       Context& context) {
  FusedAttention& fused = context.state().attention;
  if (const auto at = fused.plans.find(problem); at != fused.plans.end()) {
    return &at->second;
  }
  const cudnn::Target target{.handle = fused.handle->get()};
  TRY(auto plan, cudnn::AttentionPlan::make(fused.library, problem, target,
                                            fused.choice.workspace));
  return &fused.plans.emplace(problem, std::move(plan)).first->second;
}

Result<void> run_plan(const AttentionForward& call, cudnn::AttentionPlan& plan,
                      const cudnn::AttentionProblem& problem,
                      const Aside& aside, Context& context) {
  const Device& device = context.device();
  cudnn::AttentionOperands o = with_lengths(aside.lengths);
  o.q = call.q;
  o.k = call.k;
  o.v = call.v;
  o.out = call.out;
  o.lse = problem.ragged ? call.lse : aside.lse;
  TRY_DO(plan.run(context.state().attention.handle->get(), o,
                  scale_of(call.sizes), aside.plan));
  if (!problem.ragged) {
    return launch_queries_first(call.sizes, aside.lse,
                                static_cast<float*>(call.lse), device);
  }
  return problem.own_keys ? Result<void>() : launch_mend(call, device);
}

Result<void> run_plan(const AttentionBackward& call, cudnn::AttentionPlan& plan,
                      const cudnn::AttentionProblem& problem,
                      const Aside& aside, Context& context) {
  const Device& device = context.device();
  const auto* lse = static_cast<const float*>(call.lse);
  if (!problem.ragged) {
    TRY_DO(launch_heads_first(call.sizes, lse, aside.lse, device));
  } else if (!problem.own_keys) {
    TRY_DO(launch_finite(call.sizes, lse, aside.lse, device));
  }
  cudnn::AttentionOperands o = with_lengths(aside.lengths);
  o.q = call.q;
  o.k = call.k;
  o.v = call.v;
  // The graph only reads these two.
  o.out = const_cast<void*>(call.out);
  o.lse = aside.lse != nullptr ? aside.lse : const_cast<void*>(call.lse);
  o.d_out = call.d_out;
  o.dq = call.dq;
  o.dk = call.dk;
  o.dv = call.dv;
  TRY_DO(plan.run(context.state().attention.handle->get(), o,
                  scale_of(call.sizes), aside.plan));
  const bool mend = problem.ragged && !problem.own_keys;
  return mend ? launch_mend(call, device) : Result<void>();
}

template <typename C>
Result<void> run_fused(const C& call, const cudnn::AttentionProblem& problem,
                       Context& context) {
  TRY_DO(open_attention(context));
  TRY(cudnn::AttentionPlan* const plan, plan_for(problem, context));
  FusedAttention& fused = context.state().attention;
  Carver measure(nullptr);
  (void)carve(measure, problem, call.sizes, plan->workspace());
  if (fused.workspace.size() < measure.used()) {
    fused.workspace = Buffer();
    TRY(fused.workspace, context.allocate(measure.used()));
  }
  Carver carver(fused.workspace.data());
  const Aside aside = carve(carver, problem, call.sizes, plan->workspace());
  if (problem.ragged) {
    TRY_DO(launch_lengths(call.sizes, aside.lengths, context.device()));
  }
  return run_plan(call, *plan, problem, aside, context);
}

// An output of a call, with what is needed to compare two of them.
struct Output {
  void* real = nullptr;
  RowsToCompare rows{};
  Bytes size() const { return size_of(rows.dtype) * (tokens * rows.ld); }
  std::int64_t tokens = 0;
};

Output output(void* real, const AttentionSizes& s, bool of_keys,
              std::int64_t columns, std::int64_t ld, DType dtype) {
  Output o{.real = real, .tokens = of_keys ? s.kv_tokens : s.q_tokens};
  o.rows.dtype = dtype;
  o.rows.starts = of_keys ? s.kv_starts : s.q_starts;
  o.rows.sequences = s.sequences;
  o.rows.longest = of_keys ? s.max_kv : s.max_q;
  o.rows.columns = columns;
  o.rows.ld = ld == 0 ? columns : ld;
  return o;
}

std::vector<Output> outputs(const AttentionForward& c) {
  const auto& s = c.sizes;
  return {output(c.out, s, false, s.heads * s.head_dim, s.out_ld, c.dtype),
          output(c.lse, s, false, s.heads, 0, DType::fp32)};
}
std::vector<Output> outputs(const AttentionBackward& c) {
  const auto& s = c.sizes;
  const std::int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  return {output(c.dq, s, false, q, s.q_ld, c.dtype),
          output(c.dk, s, true, kv, s.kv_ld, c.dtype),
          output(c.dv, s, true, kv, s.kv_ld, c.dtype)};
}
void redirect(AttentionForward& c, std::span<const Buffer> to) {
  c.out = to[0].data();
  c.lse = to[1].data();
}
void redirect(AttentionBackward& c, std::span<const Buffer> to) {
  c.dq = to[0].data();
  c.dk = to[1].data();
  c.dv = to[2].data();
}

// The largest of the outputs' differences.
Result<double> difference(std::span<const Output> all,
                          std::span<const Buffer> others, Context& context) {
  std::vector<double> parts(2 * kDifferenceBlocks);
  const Bytes size{std::ssize(parts) * std::int64_t{sizeof(double)}};
  TRY(const Buffer sums, context.allocate(size));
  double largest = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    RowsToCompare rows = all[i].rows;
    rows.a = others[i].data();
    rows.b = all[i].real;
    TRY_DO(launch_difference(rows, static_cast<double*>(sums.data()),
                             context.device()));
    TRY_DO(context.copy_out(parts.data(), sums.data(), size));
    double apart = 0, norm = 0;
    for (std::size_t b = 0; b < parts.size(); b += 2) {
      apart += parts[b];
      norm += parts[b + 1];
    }
    const double share = apart == 0 ? 0 : std::sqrt(apart / norm);
    // Keeps NaN, too.
    if (!(share <= largest)) largest = share;
  }
  return largest;
}

// Runs both bodies: cuDNN's into memory of its own, which holds NaN before.
template <typename C>
Result<AttentionTimes> time_both(const C& call,
                                 const cudnn::AttentionProblem& problem,
                                 Context& context) {
  const std::vector<Output> all = outputs(call);
  std::vector<Buffer> others;
  C trial = call;
  AttentionTrial bodies;
  bodies.cudnn = [&]() -> Result<double> {
    TRY_DO(open_attention(context));
    TRY_DO(plan_for(problem, context));
    for (const Output& one : all) {
      TRY(Buffer other, context.allocate(one.size()));
      TRY_DO(context.fill(other.data(), 0xFF, one.size()));
      others.push_back(std::move(other));
    }
    redirect(trial, others);
    return time_of_runs([&] { return run_fused(trial, problem, context); },
                        context);
  };
  bodies.own = [&] {
    return time_of_runs([&] { return launch(call, context.device()); },
                        context);
  };
  bodies.difference = [&] { return difference(all, others, context); };
  return try_both(bodies);
}

bool rows_are_aligned(const AttentionForward& c, const AttentionShape& shape) {
  return aligned_rows(shape, {c.q, c.k, c.v, c.out});
}
bool rows_are_aligned(const AttentionBackward& c, const AttentionShape& shape) {
  return aligned_rows(shape, {c.q, c.k, c.v, c.out, c.d_out, c.dq, c.dk, c.dv});
}

cudnn::AttentionProblem problem(const AttentionForward& call,
                                const Context::State& /*state*/) {
  return cudnn::problem_of(call);
}
cudnn::AttentionProblem problem(const AttentionBackward& call,
                                const Context::State& state) {
  return cudnn::problem_of(call, state.attention.choice.deterministic,
                           state.device.major);
}

template <typename C>
Result<void> run(const C& call, Context& context) {
  auto& state = context.state();
  FusedAttention& fused = state.attention;
  const cudnn::AttentionProblem wanted = problem(call, state);
  const auto own = [&] { return launch(call, context.device()); };
  if (fused.choice.body == AttentionBody::own) return own();
  TRY(const AttentionShape shape, attention_shape(call.sizes));
  if (!open_attention(context)) return own();
  const auto supported =
      cudnn::supported(wanted, call.dtype, rows_are_aligned(call, shape),
                       state.device.major, fused.library->version());
  if (!supported) {
    fused.unsupported[{wanted, call.dtype}] = supported.error().message;
    return own();
  }
  auto at = fused.times.find(wanted);
  if (at == fused.times.end() && fused.choice.body == AttentionBody::cudnn) {
    const auto done = run_fused(call, wanted, context);
    if (done || done.error().fault != Fault::unavailable) return done;
    fused.times[wanted].refusal = done.error().message;
    return own();
  }
  if (at == fused.times.end()) {
    // Leaves the own body's result where the call wants it.
    TRY(AttentionTimes times, time_both(call, wanted, context));
    at = fused.times.emplace(wanted, std::move(times)).first;
    if (!at->second.use_cudnn(fused.choice.body)) fused.plans.erase(wanted);
    return {};
  }
  if (!at->second.use_cudnn(fused.choice.body)) return own();
  return run_fused(call, wanted, context);
}

}  // namespace

Result<void> run_attention(const AttentionForward& call, Context& context) {
  return run(call, context);
}

Result<void> run_attention(const AttentionBackward& call, Context& context) {
  return run(call, context);
}

std::vector<AttentionReport> Context::attention_report() const {
  const FusedAttention& fused = state_->attention;
  std::vector<AttentionReport> all;
  for (const auto& [problem, times] : fused.times) {
    all.push_back({.problem = cudnn::to_string(problem),
                   .own = times.own,
                   .cudnn = times.cudnn,
                   .by_cudnn = times.use_cudnn(fused.choice.body),
                   .refusal = times.refusal});
  }
  for (const auto& [what, reason] : fused.unsupported) {
    const auto& [problem, dtype] = what;
    all.push_back({.problem = fmt::format("{} {}", cudnn::to_string(problem),
                                          name_of(dtype)),
                   .refusal = reason});
  }
  return all;
}

// A line: "attention-choice 1;GPU;version;problem;own;cuDNN;refusal".
std::string attention_choices(const Context::State& state) {
  const FusedAttention& fused = state.attention;
  std::string out;
  for (const auto& [problem, times] : fused.times) {
    out +=
        fmt::format("attention-choice 1;{};{};{};{:.9g};{:.9g};{}\n", state.gpu,
                    fused.library->version(), cudnn::to_string(problem),
                    times.own, times.cudnn, times.refusal);
  }
  return out;
}

void load_attention_choice(const std::string& line, Context::State& state) {
  FusedAttention& fused = state.attention;
  if (fused.library == nullptr) return;
  const std::string start = fmt::format("attention-choice 1;{};{};", state.gpu,
                                        fused.library->version());
  if (!line.starts_with(start)) return;
  std::array<std::string, 4> fields;
  std::size_t from = start.size();
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::size_t end = i < 3 ? line.find(';', from) : line.size();
    if (end == std::string::npos) return;
    fields[i] = line.substr(from, end - from);
    from = end + 1;
  }
  const auto problem = cudnn::parse_problem(fields[0]);
  AttentionTimes times{.refusal = fields[3]};
  if (!problem || std::sscanf(fields[1].c_str(), "%lf", &times.own) != 1 ||
      std::sscanf(fields[2].c_str(), "%lf", &times.cudnn) != 1 ||
      !(times.own > 0) || !(times.cudnn >= 0) ||
      (times.cudnn == 0 && times.refusal.empty())) {
    return;
  }
  fused.times.emplace(*problem, times);
}

}  // namespace troupe::kernels::cuda
