#include "reshard/table.h"

#include <algorithm>
#include <map>

#include "reshard/collectives.h"

namespace troupe::reshard {
namespace {

using strategy::Across;
using strategy::States;
using strategy::Subgroup;

bool same_devices(const Annotation& a, const Annotation& b) {
  return std::ranges::equal(a.groups, b.groups, {}, &Subgroup::devices,
                            &Subgroup::devices);
}

/// Counts and order without what says nothing.
bool same_states(const States& a, const States& b) {
  const auto counts = [](const States& s) {
    std::map<int, int> out;
    for (const auto& [d, parts] : s.split) {
      if (parts > 1) out[d] = parts;
    }
    if (s.duplicate > 1) out[strategy::kDuplicate] = s.duplicate;
    if (s.partial > 1) out[strategy::kPartial] = s.partial;
    return out;
  };
  const auto order = [&](const States& s) {
    const auto known = counts(s);
    std::vector<int> out;
    for (const int key : s.order) {
      if (known.contains(key)) out.push_back(key);
    }
    if (out.empty()) {
      for (const auto& [key, count] : known) out.push_back(key);
    }
    return out;
  };
  return counts(a) == counts(b) && order(a) == order(b);
}

bool same_local(const Annotation& a, const Annotation& b) {
  return std::ranges::equal(a.groups, b.groups, same_states, &Subgroup::states,
                            &Subgroup::states);
}

bool reduces(const Annotation& a) {
  return a.across == Across::partial ||
         std::ranges::any_of(
             a.groups, [](const Subgroup& g) { return g.states.partial > 1; });
}

/// Whether subgroups relate in the same way: a part of one is then the same
/// part of the other.
bool same_relation(const Annotation& a, const Annotation& b) {
  if (a.across != b.across) return false;
  if (a.across != Across::split) return true;
  return a.dimension == b.dimension && a.interleaved == b.interleaved &&
         std::ranges::equal(a.groups, b.groups, {}, &Subgroup::weight,
                            &Subgroup::weight);
}

std::vector<Step> one(Step step) {
  std::vector<Step> steps;
  steps.push_back(std::move(step));
  return steps;
}

/// Messages, also where none turns out to be needed: what the table says.
Step movement(const Change& change) {
  return move_step(change.whole, change.senders, change.routes,
                   change.element_bytes);
}

/// Steps of subgroups, those of one operation as one step.
class BySubgroup {
 public:
  void add(Step step, int subgroup) {
    for (Step& known : steps_) {
      if (known.operation != step.operation) continue;
      if (known.dimension != step.dimension) known.dimension.reset();
      known.subgroups.push_back(subgroup);
      std::ranges::move(step.copies, std::back_inserter(known.copies));
      std::ranges::move(step.messages, std::back_inserter(known.messages));
      std::ranges::move(step.groups, std::back_inserter(known.groups));
      return;
    }
    step.subgroups = {subgroup};
    steps_.push_back(std::move(step));
  }
  std::vector<Step> take() {
    if (steps_.size() == 1) steps_.front().subgroups.clear();
    return std::move(steps_);
  }

 private:
  std::vector<Step> steps_;
};

Result<std::unique_ptr<Problem>> part_of_problem(const Change& change, int u,
                                                 int buffer) {
  Layout to = subgroup_of(change.whole.destination(), u);
  for (Held& held : to) held.buffer = buffer;
  return Problem::of(subgroup_of(change.whole.source(), u), std::move(to),
                     change.shape.size());
}

/// Rows B1 to B3: what one subgroup does by itself; nothing when it needs
/// messages that no pattern fits.
std::optional<Step> alone(const Problem& part, const Subgroup& from,
                          const Subgroup& to) {
  const bool same_group = from.devices == to.devices;
  if (!same_group) {
    if (!same_states(from.states, to.states)) return {};
    return send_receive_step(part);
  }
  if (auto step = local_step(part)) return step;
  if (part.reduces()) {
    if (to.states.partial != 1) return {};
    return reduce_step(part);
  }
  return gather_step(part);
}

/// Subgroups that nothing fits, together by messages.
Result<Step> together(const Change& change, const std::vector<int>& rest) {
  Layout to;
  Layout from;
  for (const int u : rest) {
    std::ranges::move(subgroup_of(change.whole.destination(), u),
                      std::back_inserter(to));
    std::ranges::move(subgroup_of(change.whole.source(), u),
                      std::back_inserter(from));
  }
  // Replicas elsewhere may send as well; summands may not.
  if (change.source.across != Across::partial) from = change.whole.source();
  TRY(const auto problem,
      Problem::of(std::move(from), std::move(to), change.shape.size()));
  return move_step(*problem, change.senders, change.routes,
                   change.element_bytes);
}

/// Rows B: subgroup by subgroup.
Result<std::optional<TableAnswer>> each_subgroup(const Change& change) {
  BySubgroup steps;
  std::vector<int> rest;
  for (std::size_t u = 0; u < change.source.groups.size(); ++u) {
    const int number = static_cast<int>(u);
    const Subgroup& from = change.source.groups[u];
    const Subgroup& to = change.destination.groups[u];
    TRY(const auto part, part_of_problem(change, number, kDestination));
    if (auto step = alone(*part, from, to)) {
      steps.add(*std::move(step), number);
    } else if (from.states.partial == to.states.partial) {
      rest.push_back(number);
    } else {
      return std::nullopt;
    }
  }
  if (!rest.empty()) {
    TRY(Step step, together(change, rest));
    step.subgroups = rest;
    const bool all = rest.size() == change.source.groups.size();
    if (all) return TableAnswer{one(std::move(step)), false};
    std::vector<Step> list = steps.take();
    if (list.size() == 1 && list.front().subgroups.empty()) {
      // They are not all of them after all.
      for (int u = 0; u < static_cast<int>(change.source.groups.size()); ++u) {
        if (!std::ranges::count(rest, u)) {
          list.front().subgroups.push_back(u);
        }
      }
    }
    list.push_back(std::move(step));
    return TableAnswer{std::move(list), false};
  }
  return TableAnswer{steps.take(), false};
}

/// Row C7: every subgroup brings its local layout to the destination's, then
/// subgroups reduce or gather.
Result<std::optional<TableAnswer>> tier_by_tier(const Change& change) {
  Annotation middle = change.source;
  for (std::size_t u = 0; u < middle.groups.size(); ++u) {
    middle.groups[u].states = change.destination.groups[u].states;
  }
  if (!strategy::problems(middle, change.shape).empty()) return std::nullopt;
  Layout between = layout_of(middle, change.shape, kFirstTemporary);
  BySubgroup steps;
  Layout reached;
  for (std::size_t u = 0; u < middle.groups.size(); ++u) {
    const int number = static_cast<int>(u);
    Layout from = subgroup_of(change.whole.source(), number);
    if (same_states(change.source.groups[u].states, middle.groups[u].states)) {
      std::ranges::move(from, std::back_inserter(reached));
      continue;
    }
    Layout to = subgroup_of(between, number);
    reached.insert(reached.end(), to.begin(), to.end());
    TRY(const auto part,
        Problem::of(std::move(from), std::move(to), change.shape.size()));
    auto step = alone(*part, change.source.groups[u], middle.groups[u]);
    if (!step) return std::nullopt;
    steps.add(*std::move(step), number);
  }
  // The temporaries carry the summands of the middle annotation.
  const Layout labels = layout_of(middle, change.shape, kSource);
  for (std::size_t i = 0; i < reached.size(); ++i) {
    reached[i].summand = labels[i].summand;
  }
  TRY(const auto top,
      Problem::of(std::move(reached), change.whole.destination(),
                  change.shape.size()));
  auto last = top->reduces() ? reduce_step(*top) : gather_step(*top);
  if (!last) return std::nullopt;
  last->wave = 1;
  std::vector<Step> list = steps.take();
  const bool some = list.size() == 1 && list.front().subgroups.empty();
  if (some) {
    for (std::size_t u = 0; u < middle.groups.size(); ++u) {
      const bool changed =
          !same_states(change.source.groups[u].states, middle.groups[u].states);
      if (changed) list.front().subgroups.push_back(static_cast<int>(u));
    }
  }
  list.push_back(*std::move(last));
  return TableAnswer{std::move(list), true};
}

/// Rows C1 to C7: subgroups change how they relate, with a reduction.
Result<std::optional<TableAnswer>> across_subgroups(const Change& change) {
  if (!same_devices(change.source, change.destination)) return std::nullopt;
  const bool sums = change.source.across == Across::partial;
  const bool gathers = change.source.across == Across::split &&
                       change.destination.across == Across::replicated;
  if (!sums && !gathers) return std::nullopt;
  if (!same_local(change.source, change.destination)) {
    return tier_by_tier(change);
  }
  auto step = change.whole.reduces() ? reduce_step(change.whole)
                                     : gather_step(change.whole);
  if (!step) return std::nullopt;
  return TableAnswer{one(*std::move(step)), false};
}

}  // namespace

Result<std::optional<TableAnswer>> by_table(const Change& change) {
  const Annotation& from = change.source;
  const Annotation& to = change.destination;
  const bool sums = reduces(from) || reduces(to);
  const bool woven = from.across == Across::split && from.interleaved;
  if (from.groups.size() != to.groups.size() || woven) {
    if (sums) return std::nullopt;
    const bool zero = woven && same_devices(from, to) && same_local(from, to) &&
                      to.across == Across::replicated;
    if (zero) {
      if (auto step = gather_step(change.whole)) {
        return TableAnswer{one(*std::move(step)), false};
      }
    }
    return TableAnswer{one(movement(change)), false};
  }
  if (same_relation(from, to)) return each_subgroup(change);
  if (!sums) return TableAnswer{one(movement(change)), false};
  return across_subgroups(change);
}

}  // namespace troupe::reshard
