#include "cli/reshard_switch.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "base/text.h"
#include "cli/options.h"
#include "cli/reshard_tensors.h"
#include "cli/say.h"
#include "reshard/plan_cache.h"
#include "reshard/resolve.h"
#include "reshard/verify.h"

namespace troupe::cli {
namespace {

using reshard::SenderRule;

/// Which layouts a whole switch goes from and to.
struct Uses {
  strategy::Use from, to;
};
Result<Uses> uses_of(const std::string& name) {
  using strategy::Use;
  if (name == "compute") return Uses{Use::compute, Use::compute};
  if (name == "optimizer") return Uses{Use::optimizer, Use::optimizer};
  if (name == "bridge") return Uses{Use::optimizer, Use::compute};
  return fail(Fault::input,
              fmt::format("--use {}: expected compute, optimizer or bridge",
                          excerpt(name)));
}

Json makespan_json(const reshard::Makespan& m) {
  Json bytes = Json::object();
  for (std::size_t c = 0; c < m.bytes.size(); ++c) {
    const auto link_class = static_cast<clusters::LinkClass>(c);
    bytes[std::string(clusters::name_of(link_class))] = m.bytes[c];
  }
  return {{"predicted_s", to_seconds(m.total())}, {"bytes", std::move(bytes)}};
}

Json plan_json(const reshard::CachedPlan& cached) {
  const reshard::SwitchPlan& plan = cached.plan;
  Json rules = Json::object();
  for (std::size_t r = 0; r < plan.by_rule.size(); ++r) {
    rules[std::string(name_of(static_cast<SenderRule>(r)))] =
        makespan_json(plan.by_rule[r]);
  }
  Json buckets = Json::array();
  for (const reshard::Bucket& b : plan.buckets) {
    Json bucket = makespan_json(b.makespan);
    bucket["messages"] = b.messages;
    bucket["peak_bytes"] = b.peak.v;
    buckets.push_back(std::move(bucket));
  }
  return {{"tensors", plan.class_of.size()},
          {"classes", plan.classes.size()},
          {"transfers", plan.transfers.size()},
          {"moved_bytes", plan.moved.v},
          {"peak_bytes", plan.peak.v},
          {"predicted_s", to_seconds(plan.predicted)},
          {"senders", name_of(plan.senders)},
          {"hash", cached.key},
          {"plan", name_of(cached.origin)},
          {"rules", std::move(rules)},
          {"buckets", std::move(buckets)}};
}

void print_plan(const reshard::CachedPlan& cached) {
  const reshard::SwitchPlan& plan = cached.plan;
  std::int64_t messages = 0;
  for (const reshard::Bucket& b : plan.buckets) messages += b.messages;
  say("{} of {}, {} to move in {} and {}\n",
      counted(std::ssize(plan.class_of), "tensor"),
      counted(std::ssize(plan.classes), "kind"), human(plan.moved),
      counted(messages, "message"),
      counted(std::ssize(plan.buckets), "bucket"));
  say("predicted {}; packed and received on one device up to {}\n",
      human(plan.predicted), human(plan.peak));
  say("plan {}: {}\n", cached.key, name_of(cached.origin));
  print_rules(plan);
}

/// Tensors that move alike, and what one of them would take alone.
struct Kind {
  std::string name;  ///< of the first
  std::int64_t tensors = 0;
  Bytes moved;         ///< of all of them
  std::string chosen;  ///< for one alone
  Time predicted;
  std::string why;
};

Result<std::vector<Kind>> kinds_of(
    const reshard::SwitchPlan& plan,
    const std::vector<reshard::TensorChange>& changes,
    const reshard::Routes& routes) {
  std::vector<Kind> out(plan.classes.size());
  for (std::size_t t = 0; t < plan.class_of.size(); ++t) {
    ++out[static_cast<std::size_t>(plan.class_of[t])].tensors;
  }
  for (const reshard::Transfer& t : plan.transfers) {
    const auto tensor = static_cast<std::size_t>(t.tensor);
    out[static_cast<std::size_t>(plan.class_of[tensor])].moved.v += t.bytes;
  }
  for (std::size_t c = 0; c < out.size(); ++c) {
    const auto& change =
        changes[static_cast<std::size_t>(plan.classes[c].representative)];
    TRY(const reshard::Resolution alone,
        reshard::resolve_all(change.source, change.destination, change.shape,
                             change.dtype, routes));
    const reshard::Candidate& best = alone.candidates[alone.chosen];
    out[c].name = change.name;
    out[c].chosen = best.name;
    out[c].predicted = best.plan.predicted;
    out[c].why = best.verdict;
  }
  return out;
}

Json kinds_json(const std::vector<Kind>& kinds) {
  Json list = Json::array();
  for (const Kind& kind : kinds) {
    list.push_back({{"name", kind.name},
                    {"tensors", kind.tensors},
                    {"moved_bytes", kind.moved.v},
                    {"operation", kind.chosen},
                    {"predicted_s", to_seconds(kind.predicted)},
                    {"verdict", kind.why}});
  }
  return list;
}

void print_kinds(const std::vector<Kind>& kinds) {
  if (kinds.empty()) return;
  say("kinds of tensors, and one of each by itself:\n");
  for (const Kind& kind : kinds) {
    say("  {:<34}{:>5} x{:>12} {:<24}{:>10}  {}\n", kind.name, kind.tensors,
        human(kind.moved), kind.chosen, human(kind.predicted), kind.why);
  }
}

}  // namespace

Result<SenderRule> sender_rule(const std::string& name) {
  const auto rule = reshard::parse_sender_rule(name);
  if (rule) return *rule;
  std::vector<std::string> names;
  for (int r = 0; r < reshard::kSenderRules; ++r) {
    names.emplace_back(name_of(static_cast<SenderRule>(r)));
  }
  return fail(
      Fault::input,
      fmt::format("--senders {}: no such rule{}; there are {}", excerpt(name),
                  did_you_mean(name, names), join(names)));
}

void print_rules(const reshard::SwitchPlan& plan) {
  say("senders by rule (in one bucket):{:>16}{:>12}{:>12}{:>12}\n", "predicted",
      "nvlink", "pcie", "network");
  const auto bytes = [](double count) {
    return human(Bytes{static_cast<std::int64_t>(count)});
  };
  for (std::size_t r = 0; r < plan.by_rule.size(); ++r) {
    const auto rule = static_cast<SenderRule>(r);
    const reshard::Makespan& m = plan.by_rule[r];
    say("  {:<30}{:>16}{:>12}{:>12}{:>12}{}\n", name_of(rule), human(m.total()),
        bytes(m.bytes[0]), bytes(m.bytes[1]), bytes(m.bytes[3]),
        rule == plan.senders ? "  taken" : "");
  }
}

void add_switch_options(CLI::App& command, SwitchCommand& o) {
  command.add_option("--strategy", o.strategy,
                     "move all parameters between two of its phases");
  command.add_option("--from", o.spelling,
                     "spelling of the strategy: hotspa, hydraulis, ...");
  command.add_option("--model", o.model, "instead of the strategy's");
  command.add_option("--from-phase", o.from, "name or number (0)");
  command.add_option("--to-phase", o.to, "name or number (1)");
  command.add_option("--use", o.use,
                     "which layout moves: compute, optimizer, or bridge, from "
                     "the optimizer's to the compute layout (compute)");
  command.add_flag("--check", o.check,
                   "check every tensor of the switch exactly");
  command.add_flag("--no-plan-cache", o.no_plan_cache,
                   "plan anew, keep no plan");
  command
      .add_option("--bucket-bytes", o.bucket_bytes,
                  "most that a device packs and receives at a time")
      ->check(CLI::NonNegativeNumber);
}

Result<int> run_switch(const SwitchCommand& o) {
  TRY(const Uses uses, uses_of(o.use));
  TRY(const TensorSide from, tensors_of(o, o.source, o.from, "0", uses.from));
  const bool same = o.source == o.destination;
  TRY(const TensorSide to,
      tensors_of(o, o.destination, o.to, same ? "1" : "0", uses.to));
  TRY(const auto changes, changes_between(from, to, o.dtype));
  TRY(const clusters::Cluster cluster, cluster_of(o, from, to, changes));
  const reshard::Rates rates = reshard::rates_of(cluster);
  const reshard::Routes routes(cluster, rates);
  reshard::SwitchOptions options;
  options.senders = o.senders;
  options.bucket = Bytes{o.bucket_bytes};
  options.compare = true;
  const reshard::PlanCache cache(home_root() / "plans");
  TRY(const reshard::CachedPlan moved,
      reshard::switch_plan(o.no_plan_cache ? nullptr : &cache, changes, routes,
                           options));
  std::vector<std::string> wrong;
  if (o.check) {
    TRY(wrong, reshard::wrong_with(moved.plan, changes, options.bucket));
  }
  std::vector<Kind> kinds;
  if (o.explain) {
    TRY(kinds, kinds_of(moved.plan, changes, routes));
  }
  if (o.json) {
    Json json = plan_json(moved);
    if (o.check) json["wrong"] = wrong;
    if (o.explain) json["kinds"] = kinds_json(kinds);
    say("{}\n", to_text(json));
    return wrong.empty() ? 0 : 1;
  }
  print_plan(moved);
  print_kinds(kinds);
  for (const std::string& line : wrong) say("  wrong: {}\n", line);
  if (o.check && wrong.empty()) {
    say("checked: every element of every tensor arrives exactly once\n");
  }
  return wrong.empty() ? 0 : 1;
}

Result<int> run_plans(bool clear, bool json) {
  const reshard::PlanCache cache(home_root() / "plans");
  if (clear) {
    say("{} removed\n",
        counted(static_cast<std::int64_t>(cache.clear()), "plan"));
    return 0;
  }
  const auto files = cache.list();
  if (json) {
    Json list = Json::array();
    for (const reshard::PlanFile& file : files) {
      Json one = file.head;
      one["key"] = file.key;
      if (!file.problem.empty()) one["problem"] = file.problem;
      list.push_back(std::move(one));
    }
    say("{}\n", to_text(Json{{"plans", std::move(list)}}));
    return 0;
  }
  say("{:<34}{:>9}{:>11}{:>9}{:>9}{:>12}{:>12}\n", "plan", "tensors",
      "transfers", "messages", "buckets", "moved", "predicted");
  for (const reshard::PlanFile& file : files) {
    if (!file.problem.empty()) {
      say("{:<34}  damaged: {}\n", file.key, file.problem);
      continue;
    }
    const auto count = [&](const char* key) {
      return file.head.value(key, std::int64_t{0});
    };
    say("{:<34}{:>9}{:>11}{:>9}{:>9}{:>12}{:>12}\n", file.key, count("tensors"),
        count("transfers"), count("messages"), count("buckets"),
        human(Bytes{count("moved_bytes")}),
        human(seconds(file.head.value("predicted_s", 0.0))));
  }
  return 0;
}

}  // namespace troupe::cli
