// troupe schedule: lowers a strategy to a schedule file.
// troupe check: verifies a strategy's schedule, or a schedule file.
#include "schedule/check.h"

#include <fmt/format.h>

#include <iterator>
#include <memory>
#include <set>

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

/// Whether "format" is that of a schedule, without reading it all as JSON.
bool is_schedule(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  std::size_t at = 0;
  while ((at = text.find("\"troupe.schedule/", at)) != text.npos) {
    std::string_view before = text.substr(0, at++);
    before = before.substr(0, before.find_last_not_of(kBlank) + 1);
    if (!before.ends_with(':')) continue;
    before.remove_suffix(1);
    before = before.substr(0, before.find_last_not_of(kBlank) + 1);
    if (before.ends_with("\"format\"")) return true;
  }
  return false;
}

/// A schedule file, or every phase of a strategy.
struct CheckedFile {
  std::vector<Checked> phases;
  Findings plan;  ///< of the strategy itself, said once
};

Result<Checked> check_file(const std::string& text, const std::string& name,
                           const std::string& given_cluster) {
  TRY(const Json json, parse_json(text, name));
  TRY(schedule::Schedule read, schedule::schedule_from_json(json, name));
  const std::string known =
      given_cluster.empty() ? read.cluster : given_cluster;
  const auto cluster = clusters::read_cluster(known);
  if (!cluster && !given_cluster.empty()) return fail(cluster.error());
  Findings findings =
      schedule::check_schedule(read, cluster ? &*cluster : nullptr, kReserve);
  if (!cluster) {
    findings.warning("cluster", fmt::format("'{}' is not known here, so "
                                            "memory is not checked; name it "
                                            "with --cluster",
                                            excerpt(known)));
  }
  return Checked{std::move(read), std::move(findings)};
}

constexpr Bytes kMostOfSchedule{std::int64_t{4} << 30};
constexpr Bytes kMostOfPipe{std::int64_t{256} << 20};

/// Reads the file once: it may be a pipe.
Result<CheckedFile> check_all(const CheckOptions& options) {
  TRY(const auto path, find_shipped(options.source.strategy, "examples"));
  std::error_code ignored;
  const bool regular = std::filesystem::is_regular_file(path, ignored);
  TRY(const std::string text,
      read_file(path, regular ? kMostOfSchedule : kMostOfPipe));
  CheckedFile out;
  if (is_schedule(text)) {
    TRY(Checked one, check_file(text, path.string(), options.source.cluster));
    out.phases.push_back(std::move(one));
    return out;
  }
  TRY(const strategy::Plan plan,
      load_text(text, path.string(), options.source));
  out.plan = plan.findings;
  for (std::size_t p = 0; p < plan.strategy.phases.size(); ++p) {
    TRY(schedule::Schedule lowered, lower_phase(plan, p));
    Findings findings =
        schedule::check_schedule(lowered, &plan.cluster, kReserve);
    out.phases.push_back({std::move(lowered), std::move(findings)});
  }
  return out;
}

void print_findings(const Findings& findings, std::set<std::string>& said) {
  for (const Finding& f : findings.all()) {
    const std::string line = to_line(f);
    if (!said.insert(line).second) continue;
    say("  {}: {}\n", f.severity == Severity::error ? "error" : "warning",
        line);
  }
}

void print_checked(const CheckedFile& file) {
  std::set<std::string> said;
  print_findings(file.plan, said);
  for (const Checked& c : file.phases) {
    const schedule::Schedule& s = c.schedule;
    say("{}: {} on {}, {}, {}, hash {}\n",
        s.phase.empty() ? "schedule" : s.phase,
        counted(std::ssize(s.tasks), "task"),
        counted(std::ssize(s.ranks), "GPU"),
        counted(std::ssize(s.stages), "stage"),
        counted(std::ssize(s.blocks), "block"), schedule::content_hash(s));
    print_findings(c.findings, said);
    say("  {}\n", c.findings.ok() ? "ok" : "not a valid schedule");
  }
}

/// One phase is the object itself; several are its "phases".
Json to_json(const CheckedFile& file, bool ok) {
  if (file.phases.size() == 1) {
    Checked one = file.phases.front();
    Findings all = file.plan;
    all.append(one.findings);
    one.findings = std::move(all);
    return summary(one);
  }
  Json list = Json::array();
  for (const Checked& c : file.phases) list.push_back(summary(c));
  return {{"ok", ok}, {"findings", to_json(file.plan)}, {"phases", list}};
}

Result<int> check(const CheckOptions& options) {
  TRY(const CheckedFile file, check_all(options));
  bool ok = true;
  for (const Checked& c : file.phases) ok = ok && c.findings.ok();
  if (options.json) {
    say("{}\n", to_text(to_json(file, ok)));
  } else {
    print_checked(file);
  }
  return ok ? 0 : 1;
}

Result<int> write(const CheckOptions& options) {
  TRY_DO(check_output(options.output));
  TRY(const strategy::Plan plan, load(options.source));
  print_warnings(plan);
  TRY(const auto phases, choose_phases(plan.strategy, options.phase));
  TRY(const schedule::Schedule lowered, lower_phase(plan, phases.front()));
  if (options.output.empty()) {
    say("{}\n", schedule::to_json(lowered).dump());
    return 0;
  }
  TRY_DO(schedule::write_schedule(options.output, lowered));
  fmt::print(stderr, "wrote {} ({}, hash {})\n", options.output,
             counted(std::ssize(lowered.tasks), "task"),
             schedule::content_hash(lowered));
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
