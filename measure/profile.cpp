#include "measure/profile.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "measure/choices.h"

namespace troupe::measure {
namespace {

// Rows are stored at least so often.
constexpr double kBatchSeconds = 5;
// Share of the budget that whole layers may use.
constexpr double kLayerShare = 0.25;
// Shares that links may use: of several devices, of one.
constexpr double kLinkShare = 0.3, kCopyShare = 0.1;
// Share that one product of the ceilings may use.
constexpr double kCeilingShare = 0.02;
// Of each measurement: choosing it, laying out its operands, storing.
constexpr double kOverheadSeconds = 5e-4;
// How many times its guess a first run may take: on a processor the kinds lie
// up to 30 times above their ceilings' time, members of one kind 2 times
// apart.
constexpr double kBlindly = 30, kKnowingly = 2;

/// One run of the profiler.
class Run {
 public:
  Run(Machine& machine, profiles::Database& database,
      const ProfileOptions& options, const Watch& watch)
      : machine_(machine),
        database_(database),
        options_(options),
        watch_(watch),
        clock_(options.clock ? options.clock : steady_timer()),
        memory_(machine, clock_),
        start_(clock_()),
        stored_(start_) {}

  Result<ProfileReport> all();

 private:
  // Each part begins nothing when the run is over, and reports what it could
  // not do.
  void say_what_is_left_out();
  Result<void> links(double share);
  Result<void> computation();
  void sizes(Sampler& sampler);
  Result<void> remember(Sampler& sampler);
  Result<void> operators(Sampler& sampler, double until_s);
  Result<void> one_operator(Sampler& sampler, std::size_t index);
  Result<void> keep(Sampler& sampler, std::size_t index,
                    const OperatorTiming& timing);
  Result<void> layers(const Sampler& sampler);
  Result<bool> one_layer(const WantedLayer& layer, const Sampler& sampler,
                         double until_s);
  void compare_layers(const Sampler& sampler);
  void count(const Sampler& sampler);
  void shares();
  void note(const Result<void>& done, std::string_view what);
  Result<void> store();
  Result<void> store_sometimes();

  /// The reason why something cannot be measured, or nothing: the run is over
  /// then.
  std::optional<std::string> refusal(const Error& error);
  std::optional<double> price(std::size_t index, const Guess& guess,
                              double until_s) const;
  double since_start() const { return clock_() - start_; }
  bool over(double until_s);
  Patience patience(double until_s) const {
    Patience p;
    p.left = [this, until_s] { return until_s - since_start(); };
    return p;
  }
  void say(std::string_view what) const {
    if (watch_) watch_(std::min(since_start() / options_.budget_s, 1.0), what);
  }

  Machine& machine_;
  profiles::Database& database_;
  const ProfileOptions& options_;
  const Watch& watch_;
  Timer clock_;
  Memory memory_;
  double start_, stored_;
  profiles::Section section_;
  ProfileReport report_;
  std::map<kernels::OpShape, OperatorTiming> timings_;
  std::map<profiles::LayerKey, Timing> known_layers_;
  /// Of the wanted operators: bytes of a set, and that one was cut off.
  std::vector<Bytes> sizes_;
  std::vector<bool> cut_;
  /// Seconds that measurements took and were expected to take.
  double took_ = 0, expected_ = 0;
};

void Run::note(const Result<void>& done, std::string_view what) {
  if (done) return;
  const std::string text = fmt::format("{}: {}", what, done.error().message);
  if (report_.notes.empty() || report_.notes.back() != text) {
    report_.notes.push_back(text);
  }
}

Result<void> Run::store() {
  stored_ = clock_();
  note(save_choices(options_.choices, machine_), "choices are not kept");
  if (section_.operators.empty() && section_.layers.empty()) return {};
  section_.source.note = note_of(machine_.info(), machine_.clocks());
  TRY_DO(database_.store({section_}, profiles::OnInterrupt::finish));
  section_.operators.clear();
  section_.layers.clear();
  return {};
}

Result<void> Run::store_sometimes() {
  if (clock_() - stored_ < kBatchSeconds) return {};
  return store();
}

bool Run::over(double until_s) {
  if (interrupted()) report_.interrupted = true;
  return report_.interrupted || !report_.failure.empty() ||
         since_start() >= until_s;
}

std::optional<std::string> Run::refusal(const Error& error) {
  if (error.fault == Fault::interrupted) {
    report_.interrupted = true;
    return {};
  }
  if (error.fault != Fault::io) return error.message;
  // What went wrong on the device may be the call's affair or the end of all.
  const auto settled = machine_.settle();
  if (settled) return error.message;
  report_.failure = error.message;
  if (settled.error().message != error.message) {
    report_.failure += "; then " + settled.error().message;
  }
  return {};
}

void Run::sizes(Sampler& sampler) {
  const auto& wanted = sampler.wanted();
  cut_.assign(wanted.size(), false);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto plan = plan_call(wanted[i]);
    sizes_.push_back(plan ? Memory::size_of(*plan) : Bytes{});
    if (!plan) {
      sampler.drop(i, State::refused);
      report_.refused.push_back(
          {to_string(wanted[i].op), plan.error().message});
    } else if (sizes_[i] > machine_.info().memory) {
      sampler.drop(i, State::too_large);
    }
  }
}

Result<void> Run::remember(Sampler& sampler) {
  const std::string& device = machine_.info().device;
  TRY(const auto rows,
      database_.select<profiles::OperatorRow>(device, report_.source));
  std::map<kernels::OpShape, const Wanted*> wanted;
  for (const Wanted& w : sampler.wanted()) wanted[w.op] = &w;
  for (const auto& [source, row] : rows) {
    sampler.add(row.op, row.time_s);
    OperatorTiming timing;
    timing.cold = {row.time_s, row.spread, row.samples};
    timings_[row.op] = timing;
    const auto at = wanted.find(row.op);
    if (at != wanted.end()) ++report_.remembered;
    report_.operators.push_back({at != wanted.end()
                                     ? *at->second
                                     : Wanted{row.op, Product::forward, "", 0},
                                 timing, true});
  }
  TRY(const auto layers,
      database_.select<profiles::LayerRow>(device, report_.source));
  for (const auto& [source, row] : layers) {
    known_layers_[row.key] = {row.time_s, row.spread, row.samples};
  }
  return {};
}

Result<void> Run::links(double share) {
  LinkOptions how;
  how.budget_s = std::min(share * options_.budget_s,
                          std::max(options_.budget_s - since_start(), 0.0));
  how.source = report_.source;
  how.clock = clock_;
  const double began = since_start() / options_.budget_s;
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

std::optional<double> Run::price(std::size_t index, const Guess& guess,
                                 double until_s) const {
  if (cut_[index]) return {};
  const int sets = sets_of(machine_.info(), sizes_[index]);
  const double place = memory_.expected_s(sizes_[index] * sets);
  const double runs =
      measure::expected_s(machine_.info(), guess.seconds, sets, {});
  const double scale =
      expected_ > 0 ? std::clamp(took_ / expected_, 0.5, 4.0) : 1;
  const double cost = scale * (place + runs + kOverheadSeconds);
  const double first = (guess.blind ? kBlindly : kKnowingly) * guess.seconds;
  if (std::max(cost, place + first) > until_s - since_start()) return {};
  return cost;
}

Result<void> Run::keep(Sampler& sampler, std::size_t index,
                       const OperatorTiming& timing) {
  const Wanted& wanted = sampler.wanted()[index];
  const Timing& cold = timing.cold;
  profiles::OperatorRow row{.device = machine_.info().device,
                            .op = wanted.op,
                            .time_s = profiles::rounded(cold.median_s, 6),
                            .spread = profiles::rounded(cold.spread, 3),
                            .samples = cold.samples};
  if (const auto problem = problem_of(row)) {
    report_.refused.push_back(
        {to_string(wanted.op), "not stored: " + *problem});
    sampler.drop(index, State::refused);
    return {};
  }
  sampler.add(wanted.op, row.time_s);
  timings_[wanted.op] = timing;
  section_.operators.push_back(row);
  report_.operators.push_back({wanted, timing});
  ++report_.measured;
  return store_sometimes();
}

Result<void> Run::one_operator(Sampler& sampler, std::size_t index) {
  const Wanted& wanted = sampler.wanted()[index];
  say(to_string(wanted.op));
  const int sets = sets_of(machine_.info(), sizes_[index]);
  const double expected =
      memory_.expected_s(sizes_[index] * sets) +
      measure::expected_s(machine_.info(), sampler.guess(wanted.op).seconds,
                          sets, {}) +
      kOverheadSeconds;
  const double began = clock_();
  const auto timing =
      time_operator(machine_, memory_, wanted, patience(options_.budget_s));
  if (!timing) {
    if (const auto reason = refusal(timing.error())) {
      sampler.drop(index, State::refused);
      report_.refused.push_back({to_string(wanted.op), *reason});
    }
    return {};
  }
  took_ += clock_() - began;
  expected_ += expected;
  if (timing->cold.samples == 0) {
    cut_[index] = true;
    return {};
  }
  return keep(sampler, index, *timing);
}

Result<void> Run::operators(Sampler& sampler, double until_s) {
  while (!over(until_s)) {
    const auto index =
        sampler.next(options_.accuracy, [&](std::size_t i, const Guess& guess) {
          return price(i, guess, options_.budget_s);
        });
    if (!index) return {};
    TRY_DO(one_operator(sampler, *index));
  }
  return {};
}

/// Whether there was time for it.
Result<bool> Run::one_layer(const WantedLayer& layer, const Sampler& sampler,
                            double until_s) {
  double sum = 0;
  bool guessed = false;
  Bytes size;
  for (const Wanted& w : layer.operators) {
    const Guess guess = sampler.guess(w.op);
    sum += guess.seconds;
    guessed = guessed || !guess.measured;
    if (const auto plan = plan_call(w)) size += Memory::size_of(*plan);
  }
  Patience patient = patience(until_s);
  patient.most = 20;
  const double least =
      memory_.expected_s(size) +
      (guessed ? kKnowingly : 1) *
          measure::expected_s(machine_.info(), sum, 1, patient);
  if (least > until_s - since_start()) return false;
  say(fmt::format("{} layer {} {}x{}", layer.model,
                  layer.key.backward ? "backward" : "forward",
                  layer.key.micro_batch, layer.key.seq_len));
  const auto whole = time_sequence(machine_, memory_, layer.operators, patient);
  if (!whole) {
    if (const auto reason = refusal(whole.error())) {
      report_.notes.push_back(
          fmt::format("{} layer: {}", layer.model, *reason));
    }
    return true;
  }
  if (whole->samples == 0) return false;
  profiles::LayerRow row{.device = machine_.info().device,
                         .key = layer.key,
                         .time_s = profiles::rounded(whole->median_s, 6),
                         .spread = profiles::rounded(whole->spread, 3),
                         .samples = whole->samples};
  if (!problem_of(row)) section_.layers.push_back(row);
  report_.layers.push_back({layer.model, layer.key, *whole});
  TRY_DO(store_sometimes());
  return true;
}

Result<void> Run::layers(const Sampler& sampler) {
  const double until = std::min(since_start() + kLayerShare * options_.budget_s,
                                options_.budget_s);
  for (const WantedLayer& layer : wanted_layers(options_.range)) {
    if (known_layers_.contains(layer.key)) continue;
    bool done = false;
    if (!over(until)) {
      TRY(done, one_layer(layer, sampler, until));
    }
    if (!done) ++report_.layers_left;
  }
  return {};
}

void Run::compare_layers(const Sampler& sampler) {
  std::map<profiles::LayerKey, Timing> here;
  for (const MeasuredLayer& l : report_.layers) here[l.key] = l.whole;
  std::vector<MeasuredLayer> all[2];
  for (const WantedLayer& layer : wanted_layers(options_.range)) {
    const auto known = known_layers_.find(layer.key);
    const auto fresh = here.find(layer.key);
    const bool read_back = known != known_layers_.end();
    if (!read_back && fresh == here.end()) continue;
    MeasuredLayer m{layer.model, layer.key,
                    read_back ? known->second : fresh->second, read_back};
    m.warm_sum_s = 0;
    for (const Wanted& w : layer.operators) {
      const auto at = timings_.find(w.op);
      const bool measured = at != timings_.end();
      if (!measured) ++m.guessed;
      m.cold_sum_s +=
          measured ? at->second.cold.median_s : sampler.guess(w.op).seconds;
      if (!measured || !at->second.warm) m.warm_sum_s.reset();
      if (m.warm_sum_s) *m.warm_sum_s += at->second.warm->median_s;
    }
    all[read_back ? 0 : 1].push_back(std::move(m));
  }
  report_.layers = std::move(all[0]);
  std::ranges::move(all[1], std::back_inserter(report_.layers));
  if (report_.layers.empty() && report_.layers_left > 0) {
    report_.notes.push_back(fmt::format(
        "no layer was run as a whole: none of {} fits into a quarter of the "
        "budget",
        report_.layers_left));
  }
}

void Run::count(const Sampler& sampler) {
  report_.wanted = sampler.wanted().size();
  report_.too_large = sampler.count(State::too_large);
  report_.within_accuracy = sampler.resting(options_.accuracy);
  report_.not_reached = sampler.count(State::open) - report_.within_accuracy;
  report_.expected_error = sampler.expected_error();
}

void Run::shares() {
  const MachineInfo& info = machine_.info();
  for (MeasuredOperator& op : report_.operators) {
    if (op.known) {
      const auto plan = plan_call(op.wanted);
      const Bytes size = plan ? Memory::size_of(*plan) : Bytes{};
      op.timing.from_memory = comes_from_memory(info, size);
    }
    if (op.timing.from_memory) {
      report_.ceilings->raise(op.wanted.op, op.timing.cold.median_s);
    }
  }
  const Ceilings& top = *report_.ceilings;
  for (MeasuredOperator& op : report_.operators) {
    const kernels::OpShape& shape = op.wanted.op;
    const double seconds = op.timing.cold.median_s;
    if (kernels::uses_matrix_units(shape.kind)) {
      op.matrix_share = kernels::flops(shape).v / seconds / top.matrix_rate;
    }
    if (op.timing.from_memory) {
      op.memory_share = static_cast<double>(kernels::traffic(shape).v) /
                        seconds / top.bandwidth;
    }
  }
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
  note(load_choices(options_.choices, machine_), "choices are made anew");
  say("ceilings");
  TRY_DO(memory_.learn());
  TRY(report_.ceilings,
      measure_ceilings(machine_, memory_, options_.range.dtype,
                       std::min(0.1, kCeilingShare * options_.budget_s)));
  machine_.release_copies();
  if (options_.copies) {
    TRY_DO(links(options_.links != nullptr ? kLinkShare : kCopyShare));
  }
  Sampler sampler(wanted_operators(options_.range), *report_.ceilings);
  sizes(sampler);
  TRY_DO(remember(sampler));
  const double first = options_.layers ? (1 - kLayerShare) * options_.budget_s
                                       : options_.budget_s;
  TRY_DO(operators(sampler, first));
  if (options_.layers) TRY_DO(layers(sampler));
  TRY_DO(operators(sampler, options_.budget_s));
  TRY_DO(store());
  compare_layers(sampler);
  count(sampler);
  shares();
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
  if (options_.operators) {
    say_what_is_left_out();
    const auto done = computation();
    if (!done) {
      TRY_DO(store());  // what was measured before a failure stays
      if (done.error().fault != Fault::interrupted) return fail(done.error());
      report_.interrupted = true;
    }
  } else {
    TRY_DO(links(1));
  }
  report_.clocks = machine_.clocks();
  report_.elapsed_s = since_start();
  return std::move(report_);
}

}  // namespace

Result<ProfileReport> profile(Machine& machine, profiles::Database& database,
                              const ProfileOptions& options,
                              const Watch& watch) {
  return Run(machine, database, options, watch).all();
}

}  // namespace troupe::measure
