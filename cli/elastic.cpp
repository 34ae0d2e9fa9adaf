// troupe elastic: a run over a trace of cluster events, beside what systems
// without elasticity make of it.
#include <fmt/format.h>

#include <array>
#include <memory>

#include "base/file.h"
#include "cli/command.h"
#include "cli/elastic_machinery.h"
#include "cli/options.h"
#include "cli/say.h"
#include "cli/simulation.h"
#include "results/trace.h"
#include "runs/elastic_report.h"

namespace troupe::cli {
namespace {

struct ElasticOptions {
  std::string trace, profiles, output, timeline;
  std::vector<std::string> set;
  bool json = false, alone = false;
};

/// The segments and changes of one outcome, one after another on a track.
void add_outcome(results::TraceWriter& out, int process,
                 const runs::Outcome& outcome) {
  out.name_process(process, name_of(outcome.policy));
  out.name_track(process, 0, "run");
  for (const runs::Segment& s : outcome.segments) {
    const std::array<results::TraceArg, 3> args{
        results::TraceArg{"steps", s.steps},
        results::TraceArg{"voided", s.voided}, results::TraceArg{"mfu", s.mfu}};
    out.add({.process = process,
             .name = s.strategy,
             .category = "segment",
             .start = s.from,
             .end = s.to,
             .args = args});
  }
  for (const runs::Change& c : outcome.changes) {
    Time at = c.at;
    for (const runs::Account a :
         {runs::Account::detecting, runs::Account::restarting,
          runs::Account::loading, runs::Account::moving}) {
      if (c.wall[a].v == 0) continue;
      const std::array<results::TraceArg, 1> args{
          results::TraceArg{"event", std::string_view(c.event)}};
      out.add({.process = process,
               .name = name_of(a),
               .category = "change",
               .start = at,
               .end = at + c.wall[a],
               .args = args});
      at += c.wall[a];
    }
  }
}

Result<void> write_timeline(const std::string& path,
                            const runs::Comparison& comparison) {
  TRY(results::TraceWriter out, results::TraceWriter::open(path));
  for (std::size_t i = 0; i < comparison.outcomes.size(); ++i) {
    add_outcome(out, static_cast<int>(i), comparison.outcomes[i]);
  }
  return out.finish();
}

Result<int> elastic(const ElasticOptions& o) {
  TRY_DO(check_output(o.output));
  TRY_DO(check_output(o.timeline));
  StrategyOptions options;
  options.set = o.set;
  TRY(const strategy::LoadOptions fields, load_options(options));
  TRY(const runs::Trace trace, runs::load_trace(o.trace, fields.set));
  TRY(const auto costs, load_costs(o.profiles, trace.cluster));
  const runs::Machinery machinery = simulator(trace, *costs);
  TRY(const runs::Comparison comparison,
      runs::compare_policies(trace, machinery, !o.alone));
  const Json json = runs::to_json(trace, comparison);
  if (!o.output.empty()) TRY_DO(write_file(o.output, to_text(json) + "\n"));
  if (!o.timeline.empty()) TRY_DO(write_timeline(o.timeline, comparison));
  for (const std::string& warning : comparison.outcomes.front().warnings) {
    fmt::print(stderr, "warning: {}\n", warning);
  }
  if (const auto& why = comparison.outcomes.front().stopped; !why.empty()) {
    fmt::print(stderr, "warning: the run stopped: {}\n", why);
  }
  if (o.json) {
    say("{}\n", to_text(json));
  } else {
    say("{}", runs::to_table(trace, comparison));
  }
  return 0;
}

}  // namespace

void add_elastic(Commands& commands) {
  auto o = std::make_shared<ElasticOptions>();
  CLI::App* command = commands.add(
      "elastic", "run over a trace of devices lost, slowed and back");
  command->add_option("trace", o->trace, "trace file, or a shipped one's name")
      ->required();
  command->add_option("--profiles", o->profiles, "profile database");
  command->add_option("-o,--output", o->output, "write the answer as JSON");
  command->add_option("--trace", o->timeline,
                      "write a Chrome trace for Perfetto (.json or .json.gz)");
  command
      ->add_option("--set", o->set,
                   "override a field before reading, e.g. --set "
                   "options.peers=1")
      ->take_all();
  command->add_flag("--no-baselines", o->alone,
                    "do not run what systems without elasticity would do");
  command->add_flag("--json", o->json, "print one JSON object");
  commands.run(command, [o] { return elastic(*o); });
}

}  // namespace troupe::cli
