// troupe reshard: plans the communication from one layout of a tensor to
// another, for pairs, case files, and all tensors between two phases.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/reshard_switch.h"
#include "cli/reshard_tensors.h"
#include "cli/say.h"
#include "clusters/read.h"
#include "reshard/cases.h"
#include "reshard/hand_over.h"
#include "reshard/resolve.h"
#include "reshard/switch.h"
#include "reshard/verify.h"

namespace troupe::cli {
namespace {

using reshard::Plan;
using reshard::Resolution;
using reshard::Routes;
using reshard::Shape;

struct ReshardOptions {
  std::string source, destination, shape, dtype = "bf16", cluster;
  std::string rule = "auto", senders = "balanced";
  std::string cases, output;
  std::vector<std::string> sides;
  int case_index = -1;
  bool explain = false, json = false, hand_over = false;
  bool plans = false, clear_plans = false;
  SwitchCommand moving;
};

/// "4096x11008".
Result<Shape> parse_shape(const std::string& text) {
  Shape shape;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end || shape.empty()) {
    std::int64_t size = 0;
    const auto [next, error] = std::from_chars(at, end, size);
    const bool more = next != end;
    const bool good =
        error == std::errc{} && size >= 1 &&
        (!more || ((*next == 'x' || *next == ',') && next + 1 != end));
    if (!good) {
      return fail(Fault::input,
                  fmt::format("--shape {}: expected sizes such as 4096x11008",
                              excerpt(text)));
    }
    shape.push_back(size);
    at = more ? next + 1 : next;
  }
  return shape;
}

/// JSON text, or the path of a file with it.
Result<Json> read_side(const std::string& given, const char* option) {
  const auto first = given.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) {
    return fail(Fault::input, fmt::format("{}: expected an annotation, as "
                                          "JSON or a file",
                                          option));
  }
  if (given[first] == '{') return parse_json(given, option);
  return read_json(given);
}

Result<reshard::Options> read_options(const ReshardOptions& o) {
  reshard::Options out;
  bool known = false;
  for (const auto choice :
       {reshard::Choice::automatic, reshard::Choice::cheapest,
        reshard::Choice::reference}) {
    if (o.rule != name_of(choice)) continue;
    out.choice = choice;
    known = true;
  }
  if (!known) {
    return fail(Fault::input,
                fmt::format("--rule {}: expected auto, cheapest or reference",
                            excerpt(o.rule)));
  }
  TRY(out.senders, sender_rule(o.senders));
  return out;
}

Result<kernels::DType> read_dtype(const std::string& text) {
  const auto dtype = kernels::parse_dtype(text);
  if (dtype) return *dtype;
  return fail(Fault::input,
              fmt::format("--dtype {}: expected bf16, fp16, fp32, fp8, ...",
                          excerpt(text)));
}

/// The cluster that was named, else enough nodes of eight H100.
Result<clusters::Cluster> cluster_for(const ReshardOptions& o,
                                      const std::vector<reshard::Case>& cases) {
  if (!o.cluster.empty()) return clusters::read_cluster(o.cluster);
  std::int32_t most = 0;
  for (const reshard::Case& c : cases) {
    for (const auto* a : {&c.source, &c.destination}) {
      for (const strategy::Subgroup& group : a->groups) {
        for (const auto d : group.devices) most = std::max(most, d.v);
      }
    }
  }
  return nodes_for(clusters::DeviceId{most});
}

/// What a plan moves against what it must, for people.
std::string bytes_line(const reshard::BytesRatio& ratio, const Plan& plan) {
  const Bytes element = kernels::size_of(plan.dtype);
  return fmt::format("moves {}, at least {} must move (ratio {:.3f})",
                     human(element * ratio.moved), human(element * ratio.least),
                     ratio.ratio);
}

Json candidates_json(const Resolution& resolution) {
  Json list = Json::array();
  for (const reshard::Candidate& c : resolution.candidates) {
    list.push_back({{"name", c.name},
                    {"predicted_s", to_seconds(c.plan.predicted)},
                    {"moved_bytes", moved_bytes(c.plan).v},
                    {"by_table", c.by_table},
                    {"verdict", c.verdict}});
  }
  return list;
}

void print_candidates(const Resolution& resolution) {
  say("candidates:\n");
  for (const reshard::Candidate& c : resolution.candidates) {
    say("  {:<36}{:>10}{:>12}  {}\n", c.name + (c.by_table ? " (table)" : ""),
        human(c.plan.predicted), human(moved_bytes(c.plan)), c.verdict);
  }
}

/// The rules for senders on this one tensor, where nothing is reduced.
void print_senders(const Plan& plan, const Routes& routes) {
  const reshard::TensorChange change{"tensor", plan.source, plan.destination,
                                     plan.shape, plan.dtype};
  reshard::SwitchOptions options;
  options.compare = true;
  const auto moved = reshard::plan_switch({&change, 1}, routes, options);
  if (moved && !moved->transfers.empty()) print_rules(*moved);
}

/// One resolved pair, for printing.
struct Answer {
  const reshard::Case& pair;
  Resolution resolution;
  std::vector<std::string> wrong, differences;
  reshard::BytesRatio ratio;
};

Json answer_json(const Answer& a, bool explain) {
  Json out = reshard::to_json(a.resolution.plan());
  if (!a.pair.name.empty()) out["name"] = a.pair.name;
  out["wrong"] = a.wrong;
  out["least_bytes"] =
      (kernels::size_of(a.resolution.plan().dtype) * a.ratio.least).v;
  out["bytes_ratio"] = a.ratio.ratio;
  if (a.pair.expected.contains("expect")) out["differs"] = a.differences;
  if (explain) out["candidates"] = candidates_json(a.resolution);
  return out;
}

void print_answer(const Answer& a, const ReshardOptions& o,
                  const Routes& routes) {
  const Plan& plan = a.resolution.plan();
  if (!a.pair.name.empty()) say("{}\n", a.pair.name);
  say("{}", to_text(plan));
  say("predicted {}, {}, temporaries up to {} a device, hash {}\n",
      human(plan.predicted), bytes_line(a.ratio, plan),
      human(peak_temporary(plan)), content_hash(plan));
  for (const std::string& line : a.wrong) say("  wrong: {}\n", line);
  if (a.wrong.empty()) say("checked: every element arrives exactly once\n");
  for (const std::string& line : a.differences) {
    say("  not as the case expects: {}\n", line);
  }
  if (o.explain) {
    print_candidates(a.resolution);
    print_senders(plan, routes);
  }
}

Result<Answer> answer(const reshard::Case& c, const Shape& shape,
                      kernels::DType dtype, const Routes& routes,
                      const reshard::Options& options, bool hand_over) {
  TRY(Resolution resolution,
      hand_over
          ? reshard::hand_over(c.source, c.destination, shape, dtype, routes)
          : reshard::resolve_all(c.source, c.destination, shape, dtype, routes,
                                 options));
  TRY(auto wrong, reshard::wrong_with(resolution.plan()));
  TRY(const auto ratio, reshard::bytes_ratio(resolution.plan()));
  auto differences = reshard::differences(c, resolution.plan());
  return Answer{c, std::move(resolution), std::move(wrong),
                std::move(differences), ratio};
}

/// The pair of the command line, or those of a case file.
Result<std::vector<reshard::Case>> read_pairs(const ReshardOptions& o,
                                              const Shape& shape) {
  std::vector<reshard::Case> out;
  if (o.cases.empty()) {
    if (o.source.empty() || o.destination.empty()) {
      return fail(Fault::input, "expected SRC and DST, --cases, or --strategy");
    }
    if (o.case_index >= 0) return fail(Fault::input, "--case needs --cases");
    TRY(const Json source, read_side(o.source, "--src"));
    TRY(const Json destination, read_side(o.destination, "--dst"));
    TRY(auto pair,
        reshard::read_pair(source, destination, "command line", shape.size()));
    out.push_back(
        {"", std::move(pair.first), std::move(pair.second), Json::object()});
    return out;
  }
  if (!o.source.empty() || !o.destination.empty()) {
    return fail(Fault::input, "give either --cases or --src and --dst");
  }
  TRY(out, reshard::read_cases(o.cases, shape.size()));
  if (o.case_index < 0) return out;
  if (o.case_index >= std::ssize(out)) {
    return fail(Fault::input,
                fmt::format("--case {}: {} holds {} cases, from 0",
                            o.case_index, o.cases, out.size()));
  }
  std::vector<reshard::Case> one{out[static_cast<std::size_t>(o.case_index)]};
  return one;
}

Result<int> resolve_pairs(const ReshardOptions& o) {
  TRY_DO(check_output(o.output));
  TRY(const Shape shape,
      parse_shape(o.shape.empty() && !o.cases.empty() ? "4096x4096" : o.shape));
  TRY(const kernels::DType dtype, read_dtype(o.dtype));
  TRY(const reshard::Options options, read_options(o));
  TRY(const auto pairs, read_pairs(o, shape));
  TRY(const clusters::Cluster cluster, cluster_for(o, pairs));
  const reshard::Rates rates = reshard::rates_of(cluster);
  const Routes routes(cluster, rates);
  Json list = Json::array();
  bool good = true;
  for (const reshard::Case& pair : pairs) {
    TRY(const Answer a,
        answer(pair, shape, dtype, routes, options, o.hand_over));
    good = good && a.wrong.empty();
    if (!o.output.empty() && pairs.size() == 1) {
      TRY_DO(
          write_file(o.output, to_text(reshard::to_json(a.resolution.plan()))));
    }
    if (o.json) {
      list.push_back(answer_json(a, o.explain));
    } else {
      print_answer(a, o, routes);
    }
  }
  if (o.json) say("{}\n", to_text(pairs.size() == 1 ? list[0] : list));
  return good ? 0 : 1;
}

/// `SRC DST`: one tensor's layouts are --src and --dst, else all tensors'.
Result<ReshardOptions> with_sides(ReshardOptions o) {
  if (o.sides.empty()) return o;
  const bool other = !o.cases.empty() || !o.source.empty() ||
                     !o.destination.empty() || !o.moving.strategy.empty();
  if (o.sides.size() != 2 || other) {
    return fail(Fault::input,
                "expected SRC and DST, or options in their place");
  }
  TRY(const SideKind source, kind_of_side(o.sides[0]));
  TRY(const SideKind destination, kind_of_side(o.sides[1]));
  const bool one =
      source == SideKind::tensor && destination == SideKind::tensor;
  (one ? o.source : o.moving.source) = o.sides[0];
  (one ? o.destination : o.moving.destination) = o.sides[1];
  return o;
}

Result<int> run(const ReshardOptions& given) {
  if (given.plans || given.clear_plans) {
    return run_plans(given.clear_plans, given.json);
  }
  TRY(const ReshardOptions o, with_sides(given));
  SwitchCommand command = o.moving;
  if (!command.strategy.empty()) {
    command.source = command.destination = command.strategy;
  }
  if (command.source.empty()) return resolve_pairs(o);
  const bool both = !o.cases.empty() || !o.source.empty() ||
                    !o.destination.empty() || o.hand_over;
  if (both) {
    return fail(Fault::input,
                "all tensors of a model move; --src, --dst, --cases and "
                "--hand-over are of a single one");
  }
  TRY(const kernels::DType dtype, read_dtype(o.dtype));
  TRY(const reshard::Options options, read_options(o));
  command.senders = options.senders;
  command.dtype = dtype;
  command.cluster = o.cluster;
  command.case_index = o.case_index;
  command.json = o.json;
  command.explain = o.explain;
  return run_switch(command);
}

}  // namespace

void add_reshard(Commands& commands) {
  auto o = std::make_shared<ReshardOptions>();
  CLI::App* command = commands.add(
      "reshard", "plan the communication from one tensor layout to another");
  command
      ->add_option("sides", o->sides,
                   "SRC DST: files of troupe annotate, strategies, or single "
                   "layouts (with --shape)")
      ->expected(0, 2);
  command->add_option("--src", o->source, "annotation (JSON or file)");
  command->add_option("--dst", o->destination, "annotation (JSON or file)");
  command->add_option("--shape", o->shape, "of the tensor, e.g. 4096x11008");
  command->add_option("--dtype", o->dtype, "bf16, fp32, ... (bf16)");
  command->add_option("--cluster", o->cluster,
                      "file, name or short form (nodes of 8 H100)");
  command->add_option("--rule", o->rule, "auto, cheapest or reference (auto)");
  command->add_option("--senders", o->senders,
                      "who sends: balanced, min-idx, fcfs, round-robin, "
                      "multi-node-round-robin, greedy or new-greedy");
  command->add_option("--cases", o->cases, "file of pairs, instead of --src");
  command
      ->add_option("--case", o->case_index,
                   "only this pair (or strategy) of the file, from 0")
      ->check(CLI::NonNegativeNumber);
  command->add_option("-o,--output", o->output, "file for the plan");
  command->add_flag("--hand-over", o->hand_over,
                    "activations between pipeline stages: batched, leader and "
                    "broadcast, or scatter and all-gather");
  command->add_flag("--explain", o->explain,
                    "all candidates with predicted times");
  command->add_flag("--plans", o->plans, "list the kept plans of switches");
  command->add_flag("--clear-plans", o->clear_plans, "remove them");
  command->add_flag("--json", o->json, "print JSON");
  add_switch_options(*command, o->moving);
  commands.run(command, [o] { return run(*o); });
}

}  // namespace troupe::cli
