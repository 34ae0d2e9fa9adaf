#include "reshard/collectives.h"

#include <algorithm>
#include <map>
#include <set>

namespace troupe::reshard {
namespace {

const Held& at(const Layout& layout, std::int32_t i) {
  return layout[static_cast<std::size_t>(i)];
}

/// Groups by their members; regions with the same members join.
class GroupList {
 public:
  /// `members`: positions in `layout`, whose subgroups decide about the name.
  Group& of(std::vector<DeviceId> devices) {
    const auto [found, fresh] = index_.try_emplace(devices, groups_.size());
    if (fresh) groups_.push_back({std::move(devices), {}, {}});
    return groups_[found->second];
  }
  std::vector<Group> take() {
    for (Group& group : groups_) {
      tidy(group.reads);
      tidy(group.writes);
    }
    return std::move(groups_);
  }

 private:
  /// Merges the boxes of each member and buffer.
  static void tidy(std::vector<Part>& parts) {
    std::map<std::pair<int, int>, std::vector<Box>> boxes;
    for (Part& part : parts) {
      boxes[{part.member, part.buffer}].push_back(std::move(part.box));
    }
    parts.clear();
    for (auto& [key, list] : boxes) {
      for (Box& box : merged(std::move(list))) {
        parts.push_back({key.first, key.second, std::move(box)});
      }
    }
  }

  std::map<std::vector<DeviceId>, std::size_t> index_;
  std::vector<Group> groups_;
};

/// Whether members of some group belong to different subgroups.
bool crosses(const std::vector<Group>& groups, const Layout& layout) {
  std::map<DeviceId, int> subgroup;
  for (const Held& held : layout) subgroup[held.device] = held.subgroup;
  for (const Group& group : groups) {
    for (const DeviceId device : group.devices) {
      if (subgroup[device] != subgroup[group.devices[0]]) return true;
    }
  }
  return false;
}

int member_of(const std::vector<DeviceId>& devices, DeviceId device) {
  const auto found = std::ranges::find(devices, device);
  return found == devices.end() ? -1
                                : static_cast<int>(found - devices.begin());
}

/// Group j takes the j-th of every list, from the start again when short.
std::vector<std::vector<std::int32_t>> line_up(
    const std::vector<std::vector<std::int32_t>>& lists) {
  std::size_t groups = 0;
  for (const auto& list : lists) {
    if (list.empty()) return {};
    groups = std::max(groups, list.size());
  }
  std::vector<std::vector<std::int32_t>> out(groups);
  for (std::size_t j = 0; j < groups; ++j) {
    for (const auto& list : lists) out[j].push_back(list[j % list.size()]);
  }
  return out;
}

}  // namespace

std::vector<Copy> kept(const Problem& problem) {
  std::map<DeviceId, std::vector<const Held*>> mine;
  for (const Held& held : problem.source()) mine[held.device].push_back(&held);
  std::vector<Copy> copies;
  for (const Held& want : problem.destination()) {
    const std::vector<int>& terms = problem.terms(want.summand);
    if (terms.empty()) {
      for (const Box& box : want.boxes) {
        copies.push_back({want.device, kZeros, want.buffer, box, false});
      }
    }
    if (terms.size() != 1) continue;
    for (const Held* held : mine[want.device]) {
      if (held->summand != terms[0]) continue;
      for (Box& box : overlaps(held->boxes, want.boxes)) {
        copies.push_back(
            {want.device, held->buffer, want.buffer, std::move(box), false});
      }
    }
  }
  return copies;
}

std::optional<Step> local_step(const Problem& problem) {
  Step step;
  step.copies = kept(problem);
  std::int64_t wanted = 0;
  for (const Held& want : problem.destination()) wanted += elements(want.boxes);
  for (const Copy& copy : step.copies) {
    wanted -= strategy::elements(copy.box);
  }
  if (wanted != 0) return {};
  const bool same = same_content(problem.source(), problem.destination());
  step.operation = same ? Operation::identity : Operation::slice;
  return step;
}

std::optional<Step> send_receive_step(const Problem& problem) {
  const Layout& from = problem.source();
  const Layout& to = problem.destination();
  if (from.size() != to.size() || problem.reduces()) return {};
  Step step;
  step.operation = Operation::send_receive;
  for (std::size_t k = 0; k < from.size(); ++k) {
    if (from[k].boxes != to[k].boxes) return {};
    if (problem.terms(to[k].summand) != std::vector<int>{from[k].summand}) {
      return {};
    }
    for (const Box& box : from[k].boxes) {
      if (from[k].device == to[k].device) {
        step.copies.push_back(
            {from[k].device, from[k].buffer, to[k].buffer, box, false});
      } else {
        step.messages.push_back(
            {from[k].device, to[k].device, from[k].buffer, to[k].buffer, box});
      }
    }
  }
  return step;
}

std::optional<int> scattered_dimension(const Group& group, bool reads) {
  const auto& parts = reads ? group.reads : group.writes;
  std::optional<int> dimension;
  for (const Part& part : parts) {
    for (std::size_t d = 0; d < part.box.size(); ++d) {
      if (part.box[d] == parts[0].box[d]) continue;
      const int here = static_cast<int>(d);
      if (dimension && *dimension != here) return {};
      dimension = here;
    }
  }
  return dimension;
}

namespace {

/// The parts of a region that its needers hold: owners of each distinct
/// piece, among the needers, and the pieces.
struct Pieces {
  std::vector<std::vector<std::int32_t>> owners;
  std::vector<std::vector<Box>> boxes;
};

/// Every group gathers all pieces; every needer is served by the first group
/// it is in.
bool add_gathers(const Problem& problem, std::span<const std::int32_t> want,
                 const Pieces& pieces, GroupList& groups) {
  std::set<DeviceId> served;
  for (const auto& members : line_up(pieces.owners)) {
    std::vector<DeviceId> devices;
    for (const std::int32_t m : members) {
      const DeviceId device = at(problem.source(), m).device;
      if (member_of(devices, device) < 0) devices.push_back(device);
    }
    std::ranges::sort(devices);
    Group part{devices, {}, {}};
    for (const std::int32_t w : want) {
      const Held& needer = at(problem.destination(), w);
      const int member = member_of(devices, needer.device);
      if (member < 0 || !served.insert(needer.device).second) continue;
      for (const auto& boxes : pieces.boxes) {
        for (const Box& box : boxes) {
          part.writes.push_back({member, needer.buffer, box});
        }
      }
    }
    if (part.writes.empty()) continue;
    if (devices.size() < 2) return false;
    for (std::size_t p = 0; p < members.size(); ++p) {
      const Held& owner = at(problem.source(), members[p]);
      for (const Box& box : pieces.boxes[p]) {
        part.reads.push_back(
            {member_of(devices, owner.device), owner.buffer, box});
      }
    }
    Group& group = groups.of(std::move(devices));
    std::ranges::move(part.reads, std::back_inserter(group.reads));
    std::ranges::move(part.writes, std::back_inserter(group.writes));
  }
  return served.size() == want.size();
}

}  // namespace

std::optional<Step> gather_step(const Problem& problem) {
  if (problem.reduces()) return {};
  GroupList groups;
  // Needers with the same boxes, in the order of their first cells.
  std::map<std::vector<std::int32_t>, Pieces> by_need;
  std::vector<const std::vector<std::int32_t>*> order;
  for (const Region& region :
       regions_of(problem.cells(), problem.have(), problem.want(), By::both)) {
    if (region.want.empty()) continue;
    std::vector<std::int32_t> need(region.want.begin(), region.want.end());
    const std::vector<int>& terms =
        problem.terms(at(problem.destination(), need[0]).summand);
    if (terms.size() != 1) return {};
    std::vector<std::int32_t> owners;
    for (const std::int32_t h : region.have) {
      const Held& held = at(problem.source(), h);
      const bool needs = std::ranges::any_of(need, [&](std::int32_t w) {
        return at(problem.destination(), w).device == held.device;
      });
      if (needs && held.summand == terms[0]) owners.push_back(h);
    }
    if (owners.empty()) return {};
    const auto [found, fresh] = by_need.try_emplace(std::move(need));
    if (fresh) order.push_back(&found->first);
    found->second.owners.push_back(std::move(owners));
    found->second.boxes.push_back(region.boxes);
  }
  for (const auto* need : order) {
    for (const std::int32_t w : *need) {
      const int summand = at(problem.destination(), w).summand;
      if (summand != at(problem.destination(), need->front()).summand) {
        return {};
      }
    }
    if (!add_gathers(problem, *need, by_need[*need], groups)) return {};
  }
  Step step;
  step.groups = groups.take();
  if (step.groups.empty()) return {};
  step.operation = crosses(step.groups, problem.destination())
                       ? Operation::split_all_gather
                       : Operation::all_gather;
  step.dimension = scattered_dimension(step.groups[0], true);
  return step;
}

namespace {

/// What all members of a group need of a region, or what each needs alone.
enum class Form : std::uint8_t { none, all, one };

/// Adds the groups of one region and finds their common form.
class Reducer {
 public:
  explicit Reducer(const Problem& problem) : problem_(problem) {}

  /// False when someone who needs a sum is in no group.
  bool add(std::span<const std::int32_t> have, const std::vector<Region>& parts,
           int summand) {
    std::vector<std::vector<std::int32_t>> lists;
    for (const int term : problem_.terms(summand)) {
      lists.emplace_back();
      for (const std::int32_t h : have) {
        if (at(problem_.source(), h).summand == term) lists.back().push_back(h);
      }
    }
    std::set<std::int32_t> left;
    for (const Region& part : parts) {
      for (const std::int32_t w : part.want) {
        if (at(problem_.destination(), w).summand == summand) left.insert(w);
      }
    }
    for (const auto& members : line_up(lists)) {
      add_group(members, parts, summand, left);
    }
    return left.empty();
  }

  std::optional<Step> finish() {
    if (mixed_ || form_ == Form::none) return {};
    Step step;
    step.groups = groups_.take();
    const bool split = crosses(step.groups, problem_.source());
    if (form_ == Form::all) {
      step.operation =
          split ? Operation::split_all_reduce : Operation::all_reduce;
      step.dimension = scattered_between(step.groups);
    } else {
      step.operation =
          split ? Operation::split_reduce_scatter : Operation::reduce_scatter;
      step.dimension = scattered_dimension(step.groups[0], false);
    }
    return step;
  }

 private:
  void add_group(const std::vector<std::int32_t>& members,
                 const std::vector<Region>& parts, int summand,
                 std::set<std::int32_t>& left) {
    std::vector<DeviceId> devices;
    for (const std::int32_t m : members) {
      devices.push_back(at(problem_.source(), m).device);
    }
    Group made{devices, {}, {}};
    std::set<std::int32_t> served;
    for (const Region& part : parts) {
      std::size_t needers = 0;
      for (const std::int32_t w : part.want) {
        const Held& needer = at(problem_.destination(), w);
        const int member = member_of(devices, needer.device);
        if (needer.summand != summand || member < 0) continue;
        ++needers;
        if (!left.contains(w)) continue;
        served.insert(w);
        for (const Box& box : part.boxes) {
          made.writes.push_back({member, needer.buffer, box});
        }
      }
      if (needers == 0) continue;
      note(needers == devices.size() ? Form::all
           : needers == 1            ? Form::one
                                     : Form::none);
      for (std::size_t m = 0; m < members.size(); ++m) {
        const Held& held = at(problem_.source(), members[m]);
        for (const Box& box : part.boxes) {
          made.reads.push_back({static_cast<int>(m), held.buffer, box});
        }
      }
    }
    for (const std::int32_t w : served) left.erase(w);
    if (made.writes.empty()) return;
    Group& group = groups_.of(std::move(devices));
    std::ranges::move(made.reads, std::back_inserter(group.reads));
    std::ranges::move(made.writes, std::back_inserter(group.writes));
  }

  void note(Form form) {
    if (form == Form::none || (form_ != Form::none && form != form_)) {
      mixed_ = true;
    }
    form_ = form;
  }

  /// The dimension by which the groups' blocks differ.
  static std::optional<int> scattered_between(
      const std::vector<Group>& groups) {
    Group blocks;
    for (const Group& group : groups) {
      blocks.reads.push_back(group.reads.front());
    }
    return scattered_dimension(blocks, true);
  }

  const Problem& problem_;
  GroupList groups_;
  Form form_ = Form::none;
  bool mixed_ = false;
};

}  // namespace

std::optional<Step> reduce_step(const Problem& problem) {
  if (!problem.reduces()) return {};
  Reducer reducer(problem);
  // Blocks by who has them; inside, parts by who needs them.
  std::map<std::vector<std::int32_t>, std::vector<Region>> blocks;
  std::vector<const std::vector<std::int32_t>*> order;
  for (Region& region :
       regions_of(problem.cells(), problem.have(), problem.want(), By::both)) {
    if (region.want.empty()) continue;
    std::vector<std::int32_t> have(region.have.begin(), region.have.end());
    const auto [found, fresh] = blocks.try_emplace(std::move(have));
    if (fresh) order.push_back(&found->first);
    found->second.push_back(std::move(region));
  }
  for (const auto* have : order) {
    std::set<int> summands;
    for (const Region& part : blocks[*have]) {
      for (const std::int32_t w : part.want) {
        summands.insert(at(problem.destination(), w).summand);
      }
    }
    for (const int summand : summands) {
      if (problem.terms(summand).size() < 2) return {};
      if (!reducer.add(*have, blocks[*have], summand)) return {};
    }
  }
  return reducer.finish();
}

std::optional<Step> all_to_all_step(const Problem& problem) {
  if (problem.reduces()) return {};
  Group group;
  for (const Held& held : problem.source()) {
    if (!held.boxes.empty()) group.devices.push_back(held.device);
  }
  std::ranges::sort(group.devices);
  std::size_t needers = 0;
  for (const Held& want : problem.destination()) {
    if (want.boxes.empty()) continue;
    ++needers;
    if (member_of(group.devices, want.device) < 0) return {};
  }
  if (needers != group.devices.size() || needers < 2) return {};
  for (std::size_t cell = 0; cell < problem.cells().size(); ++cell) {
    if (problem.have().at(cell).size() != 1) return {};
  }
  for (const Held& held : problem.source()) {
    for (const Box& box : held.boxes) {
      group.reads.push_back(
          {member_of(group.devices, held.device), held.buffer, box});
    }
  }
  for (const Held& want : problem.destination()) {
    if (problem.terms(want.summand).size() != 1) return {};
    for (const Box& box : want.boxes) {
      group.writes.push_back(
          {member_of(group.devices, want.device), want.buffer, box});
    }
  }
  Step step;
  step.operation = Operation::all_to_all;
  step.groups.push_back(std::move(group));
  return step;
}

}  // namespace troupe::reshard
