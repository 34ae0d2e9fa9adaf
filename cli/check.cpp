// troupe schedule: lowers a strategy to a schedule file.
// troupe check: verifies a strategy's schedule, or a schedule file.
#include "schedule/check.h"

#include <fmt/format.h>

#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/say.h"
#include "cli/simulation.h"
#include "clusters/read.h"
#include "schedule/file.h"

namespace troupe::cli {
namespace {

struct CheckOptions {
  StrategyOptions source;
  bool json = false;
  std::string phase;
  std::string output;
};

Json to_json(const Findings& findings) {
  Json list = Json::array();
  for (const Finding& f : findings.all()) {
    list.push_back(
        {{"severity", f.severity == Severity::error ? "error" : "warning"},
         {"where", f.where},
         {"message", f.message}});
  }
  return list;
}

/// A schedule and what is wrong with it.
struct Checked {
  schedule::Schedule schedule;
  Findings findings;
};

Json summary(const Checked& c) {
  return {{"schedule", schedule::content_hash(c.schedule)},
          {"phase", c.schedule.phase},
          {"ok", c.findings.ok()},
          {"gpus", c.schedule.ranks.size()},
          {"stages", c.schedule.stages.size()},
          {"tasks", c.schedule.tasks.size()},
          {"blocks", c.schedule.blocks.size()},
          {"findings", to_json(c.findings)}};
}

bool is_schedule_file(const std::string& path) {
  const auto text = read_file(path, Bytes{std::int64_t{4} << 30});
  return text && text->find("\"troupe.schedule/") != std::string::npos;
}

Result<std::vector<Checked>> check_all(const CheckOptions& options) {
  std::vector<Checked> out;
  if (is_schedule_file(options.source.strategy)) {
    TRY(schedule::Schedule read,
        schedule::read_schedule(options.source.strategy));
    const std::string name =
        options.source.cluster.empty() ? read.cluster : options.source.cluster;
    const auto cluster = clusters::read_cluster(name);
    Findings findings =
        schedule::check_schedule(read, cluster ? &*cluster : nullptr, kReserve);
    if (!cluster) {
      findings.warning("cluster", fmt::format("'{}' is not known here, so "
                                              "memory is not checked; name it "
                                              "with --cluster",
                                              name));
    }
    out.push_back({std::move(read), std::move(findings)});
    return out;
  }
  TRY(const strategy::Plan plan, load(options.source));
  for (std::size_t p = 0; p < plan.strategy.phases.size(); ++p) {
    TRY(schedule::Schedule lowered, lower_phase(plan, p));
    Findings findings = plan.findings;
    findings.append(schedule::check_schedule(lowered, &plan.cluster, kReserve));
    out.push_back({std::move(lowered), std::move(findings)});
  }
  return out;
}

Result<int> check(const CheckOptions& options) {
  TRY(const auto all, check_all(options));
  bool ok = true;
  Json list = Json::array();
  for (const Checked& c : all) {
    ok = ok && c.findings.ok();
    list.push_back(summary(c));
    if (options.json) continue;
    say("{}: {} tasks on {} GPUs, {} stages, {} blocks, hash {}\n",
        c.schedule.phase.empty() ? "schedule" : c.schedule.phase,
        c.schedule.tasks.size(), c.schedule.ranks.size(),
        c.schedule.stages.size(), c.schedule.blocks.size(),
        schedule::content_hash(c.schedule));
    for (const Finding& f : c.findings.all()) {
      say("  {}: {}\n", f.severity == Severity::error ? "error" : "warning",
          to_line(f));
    }
    say("  {}\n", c.findings.ok() ? "ok" : "not a valid schedule");
  }
  if (options.json) {
    Json out = list.size() == 1 ? list[0] : Json{{"ok", ok}};
    if (list.size() > 1) out["phases"] = list;
    say("{}\n", to_text(out));
  }
  return ok ? 0 : 1;
}

Result<int> write(const CheckOptions& options) {
  TRY(const strategy::Plan plan, load(options.source));
  print_warnings(plan);
  TRY(const auto phases, choose_phases(plan.strategy, options.phase));
  TRY(const schedule::Schedule lowered, lower_phase(plan, phases.front()));
  if (options.output.empty()) {
    say("{}\n", schedule::to_json(lowered).dump());
    return 0;
  }
  TRY_DO(schedule::write_schedule(options.output, lowered));
  fmt::print(stderr, "wrote {} ({} tasks, hash {})\n", options.output,
             lowered.tasks.size(), schedule::content_hash(lowered));
  return 0;
}

}  // namespace

void add_schedule(Commands& commands) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command =
      commands.add("schedule", "lower a strategy to a schedule file");
  add_strategy_options(*command, options->source);
  command->add_option("--phase", options->phase, "which phase (the first)");
  command->add_option("-o,--output", options->output,
                      "file to write (standard output)");
  commands.run(command, [options] { return write(*options); });
}

void add_check(Commands& commands) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = commands.add(
      "check", "verify a strategy or a schedule file without running it");
  add_strategy_options(*command, options->source);
  command->add_flag("--json", options->json, "print one JSON object");
  commands.run(command, [options] { return check(*options); });
}

}  // namespace troupe::cli
