#include "measure/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/progress.h"

namespace troupe::measure {
namespace {

using Clock = std::chrono::steady_clock;

// Rows are stored at least so often.
constexpr double kBatchSeconds = 5;
// Share of the budget that whole layers may use.
constexpr double kLayerShare = 0.25;
// Shares that links may use: of several devices, of one.
constexpr double kLinkShare = 0.3, kCopyShare = 0.1;

// Runs that timing takes for even the longest operator: cold and warm, each
// with one run to warm up.
constexpr double kRunsAtLeast = 6;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One run of the profiler.
class Run {
 public:
  Run(Machine& machine, profiles::Database& database,
      const ProfileOptions& options, const Watch& watch)
      : machine_(machine),
        database_(database),
        options_(options),
        watch_(watch),
        start_(Clock::now()) {}

  Result<ProfileReport> all();

 private:
  Result<void> remember(Sampler& sampler);
  Result<void> links(double share);
  void say_what_is_left_out();
  Result<void> computation();
  Result<void> operators(Sampler& sampler, double until_s);
  Result<void> one_operator(Sampler& sampler, std::size_t index);
  Result<void> layers(const Sampler& sampler);
  Result<void> one_layer(const WantedLayer& layer, const Sampler& sampler);
  Result<void> store();
  Result<void> store_sometimes();
  bool over(double until_s);
  void say(std::string_view what) const {
    if (watch_) watch_(std::min(since(start_) / options_.budget_s, 1.0), what);
  }

  Machine& machine_;
  profiles::Database& database_;
  const ProfileOptions& options_;
  const Watch& watch_;
  Clock::time_point start_;
  Clock::time_point stored_;
  profiles::Section section_;
  ProfileReport report_;
  std::map<kernels::OpShape, OperatorTiming> timings_;
  std::map<profiles::LayerKey, bool> known_layers_;
};

Result<void> Run::store() {
  stored_ = Clock::now();
  if (section_.operators.empty() && section_.layers.empty()) return {};
  TRY_DO(database_.store({section_}));
  section_.operators.clear();
  section_.layers.clear();
  return {};
}

Result<void> Run::store_sometimes() {
  if (since(stored_) < kBatchSeconds) return {};
  return store();
}

bool Run::over(double until_s) {
  if (interrupted()) report_.interrupted = true;
  return report_.interrupted || since(start_) >= until_s;
}

Result<void> Run::remember(Sampler& sampler) {
  const std::string& device = machine_.info().device;
  TRY(const auto rows,
      database_.select<profiles::OperatorRow>(device, report_.source));
  std::map<kernels::OpShape, bool> wanted;
  for (const Wanted& w : sampler.wanted()) wanted[w.op] = true;
  for (const auto& [source, row] : rows) {
    sampler.add(row.op, row.time_s);
    timings_[row.op] = {{row.time_s, row.spread, row.samples},
                        {row.time_s, row.spread, row.samples}};
    if (wanted.contains(row.op)) ++report_.remembered;
  }
  TRY(const auto layers,
      database_.select<profiles::LayerRow>(device, report_.source));
  for (const auto& [source, row] : layers) known_layers_[row.key] = true;
  return {};
}

Result<void> Run::links(double share) {
  LinkOptions how;
  how.budget_s = share * options_.budget_s;
  how.source = report_.source;
  const double began = since(start_) / options_.budget_s;
  TRY(report_.links,
      measure_links(machine_, options_.links, database_, how,
                    [&](double part, std::string_view what) {
                      if (watch_) {
                        watch_(std::min(began + part * share, 1.0), what);
                      }
                    }));
  report_.interrupted = report_.interrupted || report_.links.interrupted;
  return {};
}

Result<void> Run::one_operator(Sampler& sampler, std::size_t index) {
  const Wanted& wanted = sampler.wanted()[index];
  const double guess = sampler.guess(wanted.op).seconds;
  // An operator that alone would use up the budget stays a guess.
  if (since(start_) + kRunsAtLeast * guess > options_.budget_s) {
    sampler.drop(index);
    ++report_.skipped;
    return {};
  }
  say(to_string(wanted.op));
  const auto timing = time_operator(machine_, wanted, {});
  if (!timing) {
    if (timing.error().fault != Fault::unavailable) return fail(timing.error());
    report_.notes.push_back(timing.error().message);
    sampler.drop(index);
    ++report_.skipped;
    return {};
  }
  const Timing& cold = timing->cold;
  profiles::OperatorRow row{.device = machine_.info().device,
                            .op = wanted.op,
                            .time_s = cold.median_s,
                            .spread = profiles::rounded(cold.spread, 3),
                            .samples = cold.samples};
  row.time_s = profiles::rounded(row.time_s, 6);
  if (const auto problem = problem_of(row)) {
    report_.notes.push_back(
        fmt::format("{}: not stored: {}", to_string(wanted.op), *problem));
    sampler.drop(index);
    return {};
  }
  sampler.add(wanted.op, row.time_s);
  timings_[wanted.op] = *timing;
  section_.operators.push_back(row);
  const Ceilings& top = sampler.ceilings();
  const bool matrix = kernels::uses_matrix_units(wanted.op.kind);
  report_.operators.push_back(
      {wanted, *timing,
       matrix ? kernels::flops(wanted.op).v / row.time_s / top.matrix_rate : 0,
       static_cast<double>(kernels::traffic(wanted.op).v) / row.time_s /
           top.bandwidth});
  return store_sometimes();
}

Result<void> Run::operators(Sampler& sampler, double until_s) {
  while (!over(until_s)) {
    const auto index = sampler.next(options_.accuracy);
    if (!index) return {};
    TRY_DO(one_operator(sampler, *index));
  }
  return {};
}

Result<void> Run::one_layer(const WantedLayer& layer, const Sampler& sampler) {
  MeasuredLayer measured{layer.model, layer.key, {}, 0, 0, 0};
  for (const Wanted& w : layer.operators) {
    const auto at = timings_.find(w.op);
    if (at == timings_.end()) ++measured.guessed;
    const double guess = sampler.guess(w.op).seconds;
    measured.cold_sum_s +=
        at == timings_.end() ? guess : at->second.cold.median_s;
    measured.warm_sum_s +=
        at == timings_.end() ? guess : at->second.warm.median_s;
  }
  if (since(start_) + kRunsAtLeast * measured.cold_sum_s > options_.budget_s) {
    return {};
  }
  say(fmt::format("{} layer {} {}x{}", layer.model,
                  layer.key.backward ? "backward" : "forward",
                  layer.key.micro_batch, layer.key.seq_len));
  Patience patience;
  patience.most = 20;
  const auto whole = time_sequence(machine_, layer.operators, patience);
  if (!whole) {
    if (whole.error().fault != Fault::unavailable) return fail(whole.error());
    report_.notes.push_back(
        fmt::format("{}: {}", layer.model, whole.error().message));
    return {};
  }
  measured.whole = *whole;
  profiles::LayerRow row{.device = machine_.info().device,
                         .key = layer.key,
                         .time_s = profiles::rounded(whole->median_s, 6),
                         .spread = profiles::rounded(whole->spread, 3),
                         .samples = whole->samples};
  if (!problem_of(row)) section_.layers.push_back(row);
  report_.layers.push_back(measured);
  return store_sometimes();
}

Result<void> Run::layers(const Sampler& sampler) {
  const double until = std::min(since(start_) + kLayerShare * options_.budget_s,
                                options_.budget_s);
  for (const WantedLayer& layer : wanted_layers(options_.range)) {
    if (over(until)) return {};
    if (known_layers_.contains(layer.key)) continue;
    TRY_DO(one_layer(layer, sampler));
  }
  return {};
}

void Run::say_what_is_left_out() {
  for (const models::Model& model : options_.range.models) {
    for (const int tp : options_.range.tp) {
      if (model.heads % tp == 0) continue;
      report_.notes.push_back(
          fmt::format("{} at tp {} is left out: {} heads do not divide",
                      model.name, tp, model.heads));
    }
  }
}

Result<void> Run::computation() {
  say("ceilings");
  TRY(report_.ceilings, measure_ceilings(machine_, options_.range.dtype));
  if (options_.copies) {
    TRY_DO(links(options_.links != nullptr ? kLinkShare : kCopyShare));
  }
  Sampler sampler(wanted_operators(options_.range), *report_.ceilings);
  TRY_DO(remember(sampler));
  const double first = options_.layers ? (1 - kLayerShare) * options_.budget_s
                                       : options_.budget_s;
  TRY_DO(operators(sampler, first));
  if (options_.layers) TRY_DO(layers(sampler));
  TRY_DO(operators(sampler, options_.budget_s));
  report_.left = sampler.left();
  report_.expected_error = sampler.expected_error();
  return {};
}

Result<ProfileReport> Run::all() {
  const MachineInfo& info = machine_.info();
  report_.machine = info;
  report_.source =
      options_.source.empty()
          ? fmt::format("profiled: {}, {}", info.full_name, info.libraries)
          : options_.source;
  section_ = section_of(
      info, report_.source,
      options_.links != nullptr ? options_.links->libraries() : std::string());
  stored_ = Clock::now();
  if (options_.operators) {
    say_what_is_left_out();
    const auto done = computation();
    TRY_DO(store());  // what was measured before a failure stays
    if (!done) return fail(done.error());
  } else {
    TRY_DO(links(1));
  }
  report_.elapsed_s = since(start_);
  return std::move(report_);
}

/// Seconds of a square product of this size.
Result<double> product_time(Machine& machine, std::int64_t size,
                            kernels::DType dtype) {
  const Wanted wanted{kernels::gemm(size, size, size, dtype), Product::forward,
                      "ceiling", 1};
  Patience patience;
  patience.limit_s = 0.05;
  patience.least = 3;
  TRY(const Timing t, time_sequence(machine, {&wanted, 1}, patience));
  return t.median_s;
}

}  // namespace

Result<Ceilings> measure_ceilings(Machine& machine, kernels::DType dtype) {
  Ceilings top;
  top.matrix_rate = 0;
  for (std::int64_t size = 256; size <= 8192; size *= 2) {
    TRY(const double t, product_time(machine, size, dtype));
    const auto n = static_cast<double>(size);
    top.matrix_rate = std::max(top.matrix_rate, 2 * n * n * n / t);
    if (8 * t > 0.1) break;  // what the next size would take
  }
  const std::int64_t large = std::clamp<std::int64_t>(
      8 * machine.info().cache.v, std::int64_t{64} << 20,
      machine.info().memory.v / 4);
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    TRY(const double t, machine.time_copy(Route::device, {large}));
    best = std::max(best, 2 * static_cast<double>(large) / t);
  }
  top.bandwidth = best;
  const Wanted tiny{
      kernels::rows_by_columns(kernels::OpKind::add, 1, 32, dtype),
      Product::forward, "launch", 1};
  TRY(const OperatorTiming t, time_operator(machine, tiny, {}));
  top.launch_s = t.warm.median_s;
  return top;
}

Result<ProfileReport> profile(Machine& machine, profiles::Database& database,
                              const ProfileOptions& options,
                              const Watch& watch) {
  return Run(machine, database, options, watch).all();
}

}  // namespace troupe::measure
