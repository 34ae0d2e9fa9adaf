// troupe results: the runs that were kept. troupe compare: two of them.
#include <fmt/format.h>

#include <map>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/say.h"
#include "cli/simulate.h"
#include "results/compare.h"
#include "results/report.h"
#include "results/store.h"
#include "results/table.h"

namespace troupe::cli {
namespace {

struct ResultsOptions {
  std::string results, id, other, report;
  results::RunFilter filter;
  bool json = false;
};

Result<results::Store> open_store(const std::string& given) {
  return results::Store::open(
      given.empty() ? home_root() / "results.db" : std::filesystem::path(given),
      {.create = false});
}

Json to_json(const results::StoredRun& run) {
  return {{"id", run.id},
          {"created", run.created},
          {"performance", run.performance},
          {"name", run.name},
          {"model", run.model},
          {"cluster", run.cluster},
          {"schedule", run.schedule},
          {"gpus", run.gpus},
          {"step_time_s", to_seconds(run.step_time)},
          {"tokens_per_s", run.tokens_per_s},
          {"mfu", run.mfu},
          {"out_of_memory", run.out_of_memory}};
}

Result<int> list(const ResultsOptions& o) {
  TRY(const results::Store store, open_store(o.results));
  TRY(const auto runs, store.list(o.filter));
  if (!o.json) {
    say("{}\n", results::to_table(runs));
    return 0;
  }
  Json out{{"runs", Json::array()}};
  for (const auto& run : runs) out["runs"].push_back(to_json(run));
  say("{}\n", to_text(out));
  return 0;
}

Result<int> show(const ResultsOptions& o) {
  TRY_DO(check_output(o.report));
  TRY(const results::Store store, open_store(o.results));
  TRY(const results::RunResult run, store.get(o.id));
  if (!o.report.empty()) TRY_DO(results::write_report(o.report, run));
  if (o.json) {
    say("{}\n", to_text(results::to_json(run)));
    return 0;
  }
  say("{}\n", results::to_table(run));
  say("again: {}\n", fmt::join(run.command, " "));
  return 0;
}

/// A kept run beside its repetition.
struct Rerun {
  results::RunResult then, now;

  /// Inputs by role, with the hashes of both; empty where one has none.
  std::map<std::string, std::pair<std::string, std::string>> inputs() const {
    std::map<std::string, std::pair<std::string, std::string>> out;
    for (const auto& [role, hash] : then.inputs) out[role].first = hash;
    for (const auto& [role, hash] : now.inputs) out[role].second = hash;
    return out;
  }
  std::vector<std::string> changed() const {
    std::vector<std::string> out;
    for (const auto& [role, hashes] : inputs()) {
      if (hashes.first != hashes.second) out.push_back(role);
    }
    return out;
  }
  bool same_schedule() const { return then.schedule == now.schedule; }
  bool same_step() const { return then.step_time == now.step_time; }
  double step_change() const {
    return to_seconds(now.step_time) / to_seconds(then.step_time) - 1;
  }
};

Json to_json(const Rerun& r) {
  Json inputs = Json::object();
  for (const auto& [role, hashes] : r.inputs()) {
    inputs[role] = {{"then", hashes.first},
                    {"now", hashes.second},
                    {"changed", hashes.first != hashes.second}};
  }
  return {{"id", r.then.id},
          {"created", r.then.created},
          {"command", r.then.command},
          {"phase", r.then.phase},
          {"inputs", std::move(inputs)},
          {"inputs_changed", !r.changed().empty()},
          {"step_time_s",
           {{"then", to_seconds(r.then.step_time)},
            {"now", to_seconds(r.now.step_time)},
            {"equal", r.same_step()}}},
          {"schedule",
           {{"then", r.then.schedule},
            {"now", r.now.schedule},
            {"equal", r.same_schedule()}}}};
}

std::string rerun_text(const Rerun& r) {
  const auto changed = r.changed();
  std::string out = fmt::format("run {} of {}: {}\n", r.then.id, r.then.created,
                                join(r.then.command, " "));
  out += fmt::format("  inputs    {}\n",
                     changed.empty()
                         ? std::string("unchanged since")
                         : fmt::format("changed since: {}", join(changed)));
  out += fmt::format("  step      {} then, {} now: {}\n",
                     human(r.then.step_time), human(r.now.step_time),
                     r.same_step()
                         ? std::string("equal")
                         : fmt::format("{:+.3g} %", 100 * r.step_change()));
  out += fmt::format("  schedule  {}\n",
                     r.same_schedule()
                         ? std::string("equal")
                         : fmt::format("differs: {} then, {} now",
                                       r.then.schedule, r.now.schedule));
  return out;
}

Result<int> rerun(const ResultsOptions& o) {
  TRY(const results::Store store,
      results::Store::open(o.results.empty() ? home_root() / "results.db"
                                             : std::filesystem::path(o.results),
                           {.create = false}));
  Rerun r;
  TRY(r.then, store.get(o.id));
  TRY(const std::string folder, store.folder(o.id));
  auto now = simulate_again(r.then.command, r.then.phase, folder);
  if (!now) {
    return fail(now.error().fault,
                fmt::format("run {}: {}{}", r.then.id, now.error().message,
                            folder.empty()
                                ? std::string()
                                : fmt::format(" (it was run in {})", folder)));
  }
  r.now = *std::move(now);
  if (o.json) {
    say("{}\n", to_text(to_json(r)));
  } else {
    say("{}", rerun_text(r));
  }
  return 0;
}

Result<int> remove(const ResultsOptions& o) {
  TRY(results::Store store, open_store(o.results));
  TRY_DO(store.remove(o.id));
  return 0;
}

bool is_file(const std::string& what) {
  return what.ends_with(".json") || what.find('/') != what.npos;
}

/// A run of the store by its id, or of a file that `--json` printed.
Result<results::RunResult> find_run(const std::string& what,
                                    const std::string& database) {
  if (is_file(what)) {
    TRY(const Json json, read_json(what));
    return results::run_from_json(json, what);
  }
  TRY(const results::Store store, open_store(database));
  return store.get(what);
}

/// Tasks and operators of both runs; null when one of them has none.
Result<Json> compare_timelines(const ResultsOptions& o) {
  if (is_file(o.id) || is_file(o.other)) return Json();
  TRY(const results::Store store, open_store(o.results));
  TRY(const auto a, store.timeline(o.id));
  TRY(const auto b, store.timeline(o.other));
  if (!a || !b) return Json();
  return results::compare(*a, *b);
}

Result<int> compare(const ResultsOptions& o) {
  TRY(const results::RunResult a, find_run(o.id, o.results));
  TRY(const results::RunResult b, find_run(o.other, o.results));
  TRY(const Json timelines, compare_timelines(o));
  if (o.json) {
    Json out = results::compare(a, b);
    if (!timelines.is_null()) out["timelines"] = timelines;
    say("{}\n", to_text(out));
  } else {
    say("{}{}\n", results::compare_table(a, b),
        timelines.is_null() ? std::string()
                            : results::timeline_text(timelines));
  }
  return 0;
}

}  // namespace

void add_results(Commands& commands) {
  CLI::App* parent = commands.add("results", "the runs that were kept");
  parent->require_subcommand(1);
  const auto add = [&](const std::string& name, const std::string& help,
                       bool with_id) {
    auto o = std::make_shared<ResultsOptions>();
    CLI::App* command = parent->add_subcommand(name, help);
    command->add_option("--results", o->results, "run store");
    command->add_flag("--json", o->json, "print one JSON object");
    if (with_id) {
      command->add_option("id", o->id, "which run, or 'last'")->required();
    }
    return std::make_pair(command, o);
  };
  const auto [list_command, l] =
      add("list", "one line each, newest first", false);
  list_command->add_option("--filter", l->filter.text,
                           "within name, model or cluster");
  list_command->add_option("--hash", l->filter.hash,
                           "of the schedule or an input");
  list_command->add_option("--most", l->filter.most, "how many")
      ->check(CLI::PositiveNumber);
  commands.run(list_command, [o = l] { return list(*o); });
  const auto [show_command, s] = add("show", "one run again", true);
  show_command->add_option("--report", s->report, "write its HTML report");
  commands.run(show_command, [o = s] { return show(*o); });
  const auto [rerun_command, a] =
      add("rerun", "repeat one run: inputs, step time, schedule then and now",
          true);
  commands.run(rerun_command, [o = a] { return rerun(*o); });
  const auto [remove_command, r] = add("remove", "forget one run", true);
  commands.run(remove_command, [o = r] { return remove(*o); });
}

void add_compare(Commands& commands) {
  auto o = std::make_shared<ResultsOptions>();
  CLI::App* command =
      commands.add("compare", "two runs side by side: step, MFU, parts");
  command->add_option("a", o->id, "id of a kept run, or a --json file")
      ->required();
  command->add_option("b", o->other, "the other one")->required();
  command->add_option("--results", o->results, "run store");
  command->add_flag("--json", o->json, "print one JSON object");
  commands.run(command, [o] { return compare(*o); });
}

}  // namespace troupe::cli
