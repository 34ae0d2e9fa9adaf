#include "reshard/reduction.h"

#include <algorithm>
#include <map>

#include "reshard/collectives.h"

namespace troupe::reshard {
namespace {

const Held& at(const Layout& layout, std::int32_t i) {
  return layout[static_cast<std::size_t>(i)];
}

/// Sums that lie somewhere after the first wave.
class Reduced {
 public:
  void add(DeviceId device, int buffer, int summand, const Box& box) {
    const auto key = std::tuple(device, buffer, summand);
    const auto [found, fresh] = index_.try_emplace(key, layout_.size());
    if (fresh) layout_.push_back({device, buffer, summand, 0, {}});
    layout_[found->second].boxes.push_back(box);
  }
  Layout take() {
    for (Held& held : layout_) held.boxes = merged(std::move(held.boxes));
    return std::move(layout_);
  }

 private:
  std::map<std::tuple<DeviceId, int, int>, std::size_t> index_;
  Layout layout_;
};

/// The first wave of `spread` and `at_needer`.
class Scatter {
 public:
  Scatter(const Problem& problem, Reducing where)
      : problem_(problem), where_(where) {}

  /// Reduces a region for destination summand `i`.
  void add(const Region& region, int i) {
    std::vector<std::vector<std::int32_t>> lists;
    std::size_t groups = 0;
    for (const int term : problem_.terms(i)) {
      lists.emplace_back();
      for (const std::int32_t h : region.have) {
        if (at(problem_.source(), h).summand == term) lists.back().push_back(h);
      }
      groups = std::max(groups, lists.back().size());
    }
    for (const Box& whole : region.boxes) {
      const std::vector<Box> shares =
          cut_in(whole, static_cast<std::int64_t>(groups));
      for (std::size_t j = 0; j < shares.size(); ++j) {
        std::vector<std::int32_t> members;
        for (const auto& list : lists) members.push_back(list[j % list.size()]);
        add_group(region, i, members, shares[j]);
      }
    }
  }

  Step step() {
    Step step;
    step.operation = Operation::reduce_scatter;
    for (auto& [devices, group] : groups_) {
      step.groups.push_back(std::move(group));
    }
    return step;
  }
  Layout reduced() { return reduced_.take(); }

 private:
  void add_group(const Region& region, int i,
                 const std::vector<std::int32_t>& members, const Box& box) {
    std::vector<DeviceId> devices;
    for (const std::int32_t m : members) {
      devices.push_back(at(problem_.source(), m).device);
    }
    Group& group = groups_[devices];
    group.devices = devices;
    for (std::size_t m = 0; m < members.size(); ++m) {
      const Held& held = at(problem_.source(), members[m]);
      group.reads.push_back({static_cast<int>(m), held.buffer, box});
    }
    // Members that need the sum themselves, with the buffer for it.
    std::vector<std::pair<int, int>> takers;
    if (where_ == Reducing::at_needer) {
      for (std::size_t m = 0; m < devices.size(); ++m) {
        for (const std::int32_t w : region.want) {
          const Held& want = at(problem_.destination(), w);
          if (want.device != devices[m] || want.summand != i) continue;
          takers.emplace_back(static_cast<int>(m), want.buffer);
        }
      }
    }
    if (takers.empty()) {
      for (std::size_t m = 0; m < devices.size(); ++m) {
        takers.emplace_back(static_cast<int>(m), kFirstTemporary);
      }
    }
    const std::vector<Box> pieces =
        cut_in(box, static_cast<std::int64_t>(takers.size()));
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      const auto [member, buffer] = takers[p];
      group.writes.push_back({member, buffer, pieces[p]});
      reduced_.add(devices[static_cast<std::size_t>(member)], buffer, i,
                   pieces[p]);
    }
  }

  const Problem& problem_;
  Reducing where_;
  std::map<std::vector<DeviceId>, Group> groups_;
  Reduced reduced_;
};

/// Destination summands that a region's needers want, with several terms.
std::vector<int> sums_wanted(const Problem& problem, const Region& region) {
  std::vector<int> out;
  for (const std::int32_t w : region.want) {
    const int i = at(problem.destination(), w).summand;
    if (problem.terms(i).size() > 1) out.push_back(i);
  }
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

/// Copies of what is in its place already are not made.
void drop_in_place(Step& step) {
  std::erase_if(step.copies, [](const Copy& c) { return c.from == c.to; });
}

Result<std::vector<Step>> reduce_first(const Problem& problem, Reducing where,
                                       SenderRule rule, const Routes& routes,
                                       std::int64_t element_bytes) {
  Scatter scatter(problem, where);
  for (const Region& region :
       regions_of(problem.cells(), problem.have(), problem.want(), By::both)) {
    for (const int i : sums_wanted(problem, region)) scatter.add(region, i);
  }
  Step first = scatter.step();
  Layout middle = scatter.reduced();
  // Summands that need no reduction go under the destination's number.
  for (const Held& want : problem.destination()) {
    const std::vector<int>& terms = problem.terms(want.summand);
    if (terms.size() != 1) continue;
    const bool known = std::ranges::any_of(middle, [&](const Held& held) {
      return held.buffer == kSource && held.summand == want.summand;
    });
    if (known) continue;
    for (const Held& held : problem.source()) {
      if (held.summand != terms[0]) continue;
      middle.push_back(held);
      middle.back().summand = want.summand;
    }
  }
  const std::size_t dimensions = first.groups.front().reads.front().box.size();
  TRY(const auto rest,
      Problem::of(std::move(middle), problem.destination(), dimensions, true));
  std::optional<Step> gather;
  if (where == Reducing::spread) gather = gather_step(*rest);
  Step second = gather ? *std::move(gather)
                       : move_step(*rest, rule, routes, element_bytes);
  drop_in_place(second);
  first.wave = 0;
  second.wave = 1;
  std::vector<Step> steps{std::move(first)};
  if (!second.copies.empty() || !second.messages.empty() ||
      !second.groups.empty()) {
    steps.push_back(std::move(second));
  }
  return steps;
}

/// Moves every summand to each who needs the sum.
Result<std::vector<Step>> move_first(const Problem& problem, SenderRule rule,
                                     const Routes& routes,
                                     std::int64_t element_bytes) {
  Layout wanted;
  Step add;
  add.operation = Operation::local_sum;
  add.wave = 1;
  std::size_t dimensions = 0;
  for (const Held& want : problem.destination()) {
    const std::vector<int>& terms = problem.terms(want.summand);
    if (!want.boxes.empty()) dimensions = want.boxes.front().size();
    // The first term goes to its place at once, the others are added to it.
    for (std::size_t t = 0; t < terms.size(); ++t) {
      const int buffer =
          t == 0 ? want.buffer : kFirstTemporary + static_cast<int>(t) - 1;
      wanted.push_back(
          {want.device, buffer, terms[t], want.subgroup, want.boxes});
      for (const Box& box : want.boxes) {
        if (t == 0) continue;
        add.copies.push_back({want.device, buffer, want.buffer, box, true});
      }
    }
  }
  TRY(const auto moving,
      Problem::of(problem.source(), std::move(wanted), dimensions, true));
  Step move = move_step(*moving, rule, routes, element_bytes);
  for (const Held& want : problem.destination()) {
    if (!problem.terms(want.summand).empty()) continue;
    for (const Box& box : want.boxes) {
      move.copies.push_back({want.device, kZeros, want.buffer, box, false});
    }
  }
  std::vector<Step> steps;
  steps.push_back(std::move(move));
  steps.push_back(std::move(add));
  return steps;
}

}  // namespace

Result<std::vector<Step>> reduce_and_move(const Problem& problem,
                                          Reducing where, SenderRule rule,
                                          const Routes& routes,
                                          std::int64_t element_bytes) {
  if (where == Reducing::at_every) {
    return move_first(problem, rule, routes, element_bytes);
  }
  return reduce_first(problem, where, rule, routes, element_bytes);
}

}  // namespace troupe::reshard
