#include "reshard/hand_over.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "base/findings.h"
#include "reshard/movement.h"

namespace troupe::reshard {
namespace {

/// Devices of one subgroup that want the same boxes.
struct Alike {
  std::vector<DeviceId> devices;
  std::vector<Box> boxes;
  int subgroup = 0;
};

std::vector<Alike> alike(const Layout& destination) {
  std::vector<Alike> out;
  std::map<std::pair<int, std::vector<Box>>, std::size_t> known;
  for (const Held& held : destination) {
    const auto [at, fresh] =
        known.try_emplace({held.subgroup, held.boxes}, out.size());
    if (fresh) out.push_back({{}, held.boxes, held.subgroup});
    out[at->second].devices.push_back(held.device);
  }
  return out;
}

/// Box `boxes[b]` cut for `devices` devices: along the rows while there are
/// enough, else along the longest dimension.
std::vector<Box> pieces_of(const Box& box, std::size_t devices) {
  const auto parts = static_cast<std::int64_t>(devices);
  if (box[0].size() < parts) return cut_in(box, parts);
  std::vector<Box> out;
  for (std::int64_t i = 0; i < parts; ++i) {
    const strategy::Span part = strategy::part_of(box[0].size(), i, parts);
    out.push_back(box);
    out.back()[0] = {box[0].first + part.first, box[0].first + part.last};
  }
  return out;
}

/// One hand-over with what every way of doing it needs.
class HandOver {
 public:
  HandOver(const Annotation& from, const Annotation& to, const Shape& shape,
           kernels::DType dtype, const Routes& routes)
      : from_(from),
        to_(to),
        shape_(shape),
        dtype_(dtype),
        routes_(routes),
        source_(layout_of(from, shape, kSource)),
        destination_(layout_of(to, shape, kDestination)),
        alike_(alike(destination_)) {}

  Result<Resolution> all() const {
    Resolution out;
    TRY(Step direct, moved(source_, destination_, SenderRule::balanced));
    std::vector<Step> steps;
    steps.push_back(std::move(direct));
    out.candidates.push_back(priced("batched", std::move(steps)));
    TRY(std::vector<Step> leader, leader_steps());
    out.candidates.push_back(priced("leader", std::move(leader)));
    TRY(std::vector<Step> scatter, scatter_steps());
    out.candidates.push_back(priced("scatter", std::move(scatter)));
    for (std::size_t i = 1; i < out.candidates.size(); ++i) {
      const Time best = out.candidates[out.chosen].plan.predicted;
      if (out.candidates[i].plan.predicted < best) out.chosen = i;
    }
    explain(out);
    return out;
  }

 private:
  Result<Step> moved(const Layout& from, const Layout& to,
                     SenderRule rule) const {
    TRY(const auto problem, Problem::of(from, to, shape_.size()));
    return move_step(*problem, rule, routes_, kernels::size_of(dtype_).v);
  }

  Candidate priced(std::string name, std::vector<Step> steps) const {
    // A wave without work is none.
    std::erase_if(steps, [&](const Step& step) {
      return steps.size() > 1 && step.copies.empty() && step.messages.empty() &&
             step.groups.empty();
    });
    Candidate out;
    out.name = std::move(name);
    out.plan = {from_, to_, shape_, dtype_, std::move(steps), {}};
    price(out.plan, routes_);
    return out;
  }

  /// The first device of each subgroup, with all that its subgroup wants.
  Result<std::vector<Step>> leader_steps() const {
    std::map<int, std::vector<const Alike*>> groups;
    for (const Alike& a : alike_) groups[a.subgroup].push_back(&a);
    Layout leaders;       // after the first wave
    Layout scattered_to;  // of subgroups whose devices want different rows
    Step casts = gather_of_wave_one();
    for (const auto& [subgroup, wanted] : groups) {
      const bool same = wanted.size() == 1;
      Held leader{wanted[0]->devices[0],
                  same ? kDestination : kFirstTemporary,
                  0,
                  subgroup,
                  {}};
      for (const Alike* a : wanted) {
        leader.boxes.insert(leader.boxes.end(), a->boxes.begin(),
                            a->boxes.end());
      }
      leaders.push_back(leader);
      if (same) {
        if (wanted[0]->devices.size() > 1) casts.groups.push_back(cast(leader));
        continue;
      }
      for (const Held& held : destination_) {
        if (held.subgroup == subgroup) scattered_to.push_back(held);
      }
    }
    std::vector<Step> steps(1);
    TRY(steps[0], moved(source_, leaders, SenderRule::first_come));
    if (!scattered_to.empty()) {
      std::erase_if(leaders,
                    [](const Held& h) { return h.buffer == kDestination; });
      TRY(Step passed, moved(leaders, scattered_to, SenderRule::first_come));
      passed.wave = 1;
      steps.push_back(std::move(passed));
    }
    if (!casts.groups.empty()) steps.push_back(std::move(casts));
    return steps;
  }

  /// A part each for devices that want the same, then all-gathers.
  Result<std::vector<Step>> scatter_steps() const {
    Layout parts;
    Step gathers = gather_of_wave_one();
    for (const Alike& a : alike_) {
      const std::size_t n = a.devices.size();
      std::vector<Held> own(n);
      for (std::size_t j = 0; j < n; ++j) {
        own[j] = {a.devices[j], kDestination, 0, a.subgroup, {}};
      }
      for (const Box& box : a.boxes) {
        auto pieces = pieces_of(box, n);
        for (std::size_t j = 0; j < pieces.size(); ++j) {
          own[j].boxes.push_back(std::move(pieces[j]));
        }
      }
      if (n > 1 && !a.boxes.empty()) gathers.groups.push_back(gather(own));
      for (Held& held : own) parts.push_back(std::move(held));
    }
    std::vector<Step> steps(1);
    TRY(steps[0], moved(source_, parts, SenderRule::balanced));
    if (!gathers.groups.empty()) steps.push_back(std::move(gathers));
    return steps;
  }

  static Step gather_of_wave_one() {
    Step step;
    step.operation = Operation::all_gather;
    step.wave = 1;
    step.dimension = 0;
    return step;
  }

  static Group gather(const std::vector<Held>& own) {
    Group group;
    for (const Held& held : own) group.devices.push_back(held.device);
    for (std::size_t j = 0; j < own.size(); ++j) {
      for (const Box& box : own[j].boxes) {
        group.reads.push_back({static_cast<int>(j), kDestination, box});
        for (std::size_t i = 0; i < own.size(); ++i) {
          if (i == j) continue;
          group.writes.push_back({static_cast<int>(i), kDestination, box});
        }
      }
    }
    return group;
  }

  /// The leader's boxes to the others of its subgroup.
  Group cast(const Held& leader) const {
    std::vector<Held> own{leader};
    for (const Held& held : destination_) {
      if (held.subgroup != leader.subgroup) continue;
      if (held.device == leader.device) continue;
      own.push_back({held.device, kDestination, 0, held.subgroup, {}});
    }
    return gather(own);
  }

  static void explain(Resolution& out) {
    const Plan chosen = out.plan();
    for (std::size_t i = 0; i < out.candidates.size(); ++i) {
      Candidate& c = out.candidates[i];
      const double ratio =
          chosen.predicted.v > 0 ? c.plan.predicted / chosen.predicted : 1.0;
      if (i == out.chosen) {
        c.verdict = "taken: the least predicted time";
      } else if (c.plan.steps == chosen.steps) {
        c.verdict = "the same messages as " + out.candidates[out.chosen].name;
      } else {
        c.verdict = fmt::format("{:.2f} times as long", ratio);
      }
    }
  }

  const Annotation& from_;
  const Annotation& to_;
  const Shape& shape_;
  kernels::DType dtype_;
  const Routes& routes_;
  Layout source_, destination_;
  std::vector<Alike> alike_;
};

void check_side(const Annotation& annotation, const char* which,
                const Shape& shape, const clusters::Cluster& cluster,
                Findings& findings) {
  const auto problems = strategy::problems(annotation, shape);
  for (const std::string& problem : problems) findings.error(which, problem);
  for (const strategy::Subgroup& group : annotation.groups) {
    for (const DeviceId d : group.devices) {
      if (d && d.at() < cluster.devices.size()) continue;
      findings.error(which, fmt::format("device {} is not one of the "
                                        "cluster's {}",
                                        d.v, cluster.devices.size()));
    }
  }
  if (problems.empty() && strategy::summands(annotation) > 1) {
    findings.error(which,
                   "holds summands; a hand-over only moves, so reduce "
                   "them first");
  }
}

Result<std::int64_t> rows_of_side(std::span<const GroupRows> groups,
                                  const char* which) {
  std::int64_t rows = 0;
  for (const GroupRows& group : groups) {
    if (group.devices.empty()) {
      return fail(Fault::input,
                  fmt::format("{}: a group without devices", which));
    }
    if (group.rows < 0 || group.rows > strategy::kMostExtent - rows) {
      return fail(Fault::input,
                  fmt::format("{}: a group of {} rows; expected 0 to {} in "
                              "all",
                              which, group.rows, strategy::kMostExtent));
    }
    rows += group.rows;
  }
  if (rows == 0) return fail(Fault::input, fmt::format("{}: no rows", which));
  return rows;
}

}  // namespace

Annotation activations_of(std::span<const GroupRows> groups) {
  Annotation out;
  std::int64_t common = 0;
  for (const GroupRows& group : groups) common = std::gcd(common, group.rows);
  for (const GroupRows& group : groups) {
    if (group.rows <= 0) continue;
    const int devices = static_cast<int>(group.devices.size());
    strategy::States states;
    if (devices > 1 && group.sliced) states.split = {{0, devices}};
    if (devices > 1 && !group.sliced) states.duplicate = devices;
    out.groups.push_back({group.devices, states, group.rows / common});
  }
  if (out.groups.size() > 1) {
    out.across = strategy::Across::split;
  } else if (!out.groups.empty()) {
    out.groups.front().weight = 1;
  }
  return out;
}

Result<Resolution> hand_over(const Annotation& from, const Annotation& to,
                             const Shape& shape, kernels::DType dtype,
                             const Routes& routes) {
  if (shape.empty() || shape.size() > kMostDimensions) {
    return fail(Fault::input,
                fmt::format("a tensor of {} dimensions; expected 1 to {}",
                            shape.size(), kMostDimensions));
  }
  Findings findings;
  check_side(from, "sender", shape, routes.cluster(), findings);
  check_side(to, "receiver", shape, routes.cluster(), findings);
  if (!findings.ok()) return fail(findings.to_error());
  return HandOver(from, to, shape, dtype, routes).all();
}

Result<Resolution> hand_over(std::span<const GroupRows> from,
                             std::span<const GroupRows> to, std::int64_t hidden,
                             kernels::DType dtype, const Routes& routes) {
  TRY(const std::int64_t sent, rows_of_side(from, "sender"));
  TRY(const std::int64_t received, rows_of_side(to, "receiver"));
  if (sent != received) {
    return fail(Fault::input,
                fmt::format("the sender holds {} rows, the receiver wants {}; "
                            "expected as many",
                            sent, received));
  }
  return hand_over(activations_of(from), activations_of(to), {sent, hidden},
                   dtype, routes);
}

std::vector<WaveTraffic> traffic_of(const Plan& plan) {
  std::vector<WaveTraffic> out;
  const Bytes element = kernels::size_of(plan.dtype);
  for (const Step& step : plan.steps) {
    const auto wave = static_cast<std::size_t>(std::max(step.wave, 0));
    if (out.size() <= wave) out.resize(wave + 1);
    std::map<std::pair<DeviceId, DeviceId>, std::int64_t> pairs;
    for (const Message& m : step.messages) {
      pairs[{m.from, m.to}] += strategy::elements(m.box);
    }
    for (const auto& [pair, count] : pairs) {
      out[wave].messages.push_back({pair.first, pair.second, element * count});
    }
    for (const Group& group : step.groups) {
      WaveTraffic::Gathered gathered{group.devices, {}, {}};
      int root = group.reads.empty() ? 0 : group.reads.front().member;
      for (const Part& part : group.reads) {
        gathered.bytes += element * strategy::elements(part.box);
        if (part.member != root) root = -1;
      }
      if (root >= 0) {
        gathered.root = group.devices[static_cast<std::size_t>(root)];
      }
      out[wave].gathers.push_back(std::move(gathered));
    }
  }
  return out;
}

}  // namespace troupe::reshard
