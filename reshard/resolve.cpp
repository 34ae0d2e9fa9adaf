#include "reshard/resolve.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/findings.h"
#include "base/text.h"
#include "reshard/collectives.h"
#include "reshard/reduction.h"
#include "reshard/table.h"

namespace troupe::reshard {
namespace {

using strategy::Across;

/// Without what says nothing: a single subgroup relates to no other, and only
/// a split has a dimension and weights.
Annotation plain(Annotation annotation) {
  if (annotation.groups.size() == 1) annotation.across = Across::replicated;
  if (annotation.across == Across::split) return annotation;
  annotation.dimension = 0;
  annotation.interleaved = false;
  for (strategy::Subgroup& group : annotation.groups) group.weight = 1;
  return annotation;
}

void check_annotation(const Annotation& annotation, const char* which,
                      const Shape& shape, const clusters::Cluster& cluster,
                      Findings& findings) {
  for (const std::string& problem : strategy::problems(annotation, shape)) {
    findings.error(which, problem);
  }
  for (const strategy::Subgroup& group : annotation.groups) {
    for (const DeviceId device : group.devices) {
      if (device && device.at() < cluster.devices.size()) continue;
      findings.error(which,
                     fmt::format("device {} is not one of the cluster's {}",
                                 device.v, cluster.devices.size()));
    }
  }
}

Result<void> check_input(const Annotation& source,
                         const Annotation& destination, const Shape& shape,
                         const clusters::Cluster& cluster) {
  if (shape.empty() || shape.size() > kMostDimensions) {
    return fail(Fault::input,
                fmt::format("a tensor of {} dimensions; expected 1 to {}",
                            shape.size(), kMostDimensions));
  }
  Findings findings;
  check_annotation(source, "source", shape, cluster, findings);
  check_annotation(destination, "destination", shape, cluster, findings);
  if (!findings.ok()) return fail(findings.to_error());
  return {};
}

std::string names_of(const Plan& plan) {
  std::vector<std::string> names;
  for (const Operation operation : operations(plan)) {
    names.emplace_back(name_of(operation));
  }
  return join(names, " + ");
}

/// Gathers candidates and prices them.
class Candidates {
 public:
  Candidates(const Change& change, kernels::DType dtype)
      : change_(change), dtype_(dtype) {}

  void offer(std::string name, std::vector<Step> steps, bool by_table,
             bool merges) {
    Candidate candidate;
    candidate.plan = {change_.source, change_.destination, change_.shape,
                      dtype_,         std::move(steps),    {}};
    price(candidate.plan, change_.routes);
    candidate.name = name.empty() ? names_of(candidate.plan) : std::move(name);
    candidate.by_table = by_table;
    candidate.merges_tiers = merges;
    const bool known = std::ranges::any_of(list_, [&](const Candidate& other) {
      return other.plan.steps == candidate.plan.steps;
    });
    if (!known) list_.push_back(std::move(candidate));
  }
  void offer(std::string name, std::optional<Step> step) {
    if (!step) return;
    std::vector<Step> steps;
    steps.push_back(*std::move(step));
    offer(std::move(name), std::move(steps), false, merges_);
  }

  Result<void> gather() {
    TRY(auto table, by_table(change_));
    if (table) {
      merges_ = table->two_tiers;
      offer("", std::move(table->steps), true, false);
    }
    const Problem& whole = change_.whole;
    if (!whole.reduces()) {
      const bool local =
          !list_.empty() && moved_bytes(list_.front().plan) == Bytes{};
      if (local) return {};
      offer("", local_step(whole));
      offer("", gather_step(whole));
      offer("bsr", move_step(whole, change_.senders, change_.routes,
                             change_.element_bytes));
      offer("all_to_all", all_to_all_step(whole));
      return {};
    }
    offer("", reduce_step(whole));
    TRY_DO(general("reduce_scatter, then move", Reducing::spread));
    TRY_DO(general("reduce at who needs it, then move", Reducing::at_needer));
    return general("move summands, then add", Reducing::at_every);
  }

  std::vector<Candidate> take() { return std::move(list_); }

 private:
  Result<void> general(std::string name, Reducing where) {
    TRY(auto steps, reduce_and_move(change_.whole, where, change_.senders,
                                    change_.routes, change_.element_bytes));
    offer(std::move(name), std::move(steps), false, merges_);
    return {};
  }

  const Change& change_;
  kernels::DType dtype_;
  bool merges_ = false;
  std::vector<Candidate> list_;
};

std::size_t fastest(const std::vector<Candidate>& list, bool keep_tiers) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < list.size(); ++i) {
    if (keep_tiers && list[i].merges_tiers) continue;
    if (list[i].plan.predicted < list[best].plan.predicted) best = i;
  }
  return best;
}

std::size_t choose(const std::vector<Candidate>& list, Choice choice) {
  const bool table = list.front().by_table;
  switch (choice) {
    case Choice::reference:
      return 0;
    case Choice::cheapest:
      return fastest(list, false);
    case Choice::automatic: {
      const std::size_t best = fastest(list, true);
      const Time limit = list.front().plan.predicted * (1 - kMargin);
      return table && list[best].plan.predicted >= limit ? 0 : best;
    }
  }
  return 0;
}

void explain(Resolution& resolution, Choice choice) {
  const Plan chosen = resolution.plan();
  const std::size_t best = fastest(resolution.candidates, false);
  const bool merging = resolution.candidates[best].merges_tiers;
  for (std::size_t i = 0; i < resolution.candidates.size(); ++i) {
    Candidate& c = resolution.candidates[i];
    const double ratio =
        chosen.predicted.v > 0 ? c.plan.predicted / chosen.predicted : 1.0;
    const bool taken = i == resolution.chosen;
    if (taken && choice == Choice::reference) {
      c.verdict = c.by_table ? "taken: the first match of the table"
                             : "taken: the table has no answer";
    } else if (taken && c.by_table && merging) {
      c.verdict = "taken: the table's; only ways that merge tiers are faster";
    } else if (taken && c.by_table) {
      c.verdict = "taken: the table's, and none is clearly faster";
    } else if (taken) {
      c.verdict = "taken: the least predicted time";
    } else if (c.merges_tiers && choice == Choice::automatic) {
      c.verdict = fmt::format("{:.2f} of the time, but merges tiers", ratio);
    } else if (ratio < 1) {
      c.verdict = fmt::format("{:.2f} of the time, no clear gain", ratio);
    } else {
      c.verdict = fmt::format("{:.2f} times as long", ratio);
    }
  }
}

}  // namespace

std::string_view name_of(Choice choice) {
  switch (choice) {
    case Choice::automatic:
      return "auto";
    case Choice::cheapest:
      return "cheapest";
    case Choice::reference:
      return "reference";
  }
  return "";
}

Result<Resolution> resolve_all(const Annotation& given_source,
                               const Annotation& given_destination,
                               const Shape& shape, kernels::DType dtype,
                               const Routes& routes, const Options& options) {
  TRY_DO(check_input(given_source, given_destination, shape, routes.cluster()));
  const Annotation source = plain(given_source);
  const Annotation destination = plain(given_destination);
  TRY(const auto whole,
      Problem::of(layout_of(source, shape, kSource),
                  layout_of(destination, shape, kDestination), shape.size()));
  const Change change{source,
                      destination,
                      shape,
                      *whole,
                      options.senders,
                      routes,
                      kernels::size_of(dtype).v};
  Candidates candidates(change, dtype);
  TRY_DO(candidates.gather());
  Resolution out{candidates.take(), 0};
  check(!out.candidates.empty(), "every change has a plan");
  out.chosen = choose(out.candidates, options.choice);
  explain(out, options.choice);
  return out;
}

Result<Plan> resolve(const Annotation& source, const Annotation& destination,
                     const Shape& shape, kernels::DType dtype,
                     const clusters::Cluster& cluster, const Options& options) {
  const Rates rates = rates_of(cluster);
  const Routes routes(cluster, rates);
  TRY(Resolution resolution,
      resolve_all(source, destination, shape, dtype, routes, options));
  return std::move(resolution.candidates[resolution.chosen].plan);
}

}  // namespace troupe::reshard
