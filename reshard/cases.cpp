#include "reshard/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "strategy/annotation_json.h"

namespace troupe::reshard {
namespace {

using strategy::Across;

bool says_interleaved(const Json& json) {
  return json.is_object() && json.contains("interleaved");
}

bool same_devices(const Annotation& a, const Annotation& b) {
  return std::ranges::equal(a.groups, b.groups, {},
                            &strategy::Subgroup::devices,
                            &strategy::Subgroup::devices);
}

/// Weaves the split of ZeRO where the file leaves it open.
void weave(Annotation& split, const Annotation& other, bool partial_too) {
  const bool zero = split.across == Across::split && split.groups.size() > 1 &&
                    same_devices(split, other) &&
                    (other.across == Across::replicated ||
                     (partial_too && other.across == Across::partial));
  if (zero) split.interleaved = true;
}

using Sets = std::set<std::vector<int>>;

Sets groups_of(const Step& step) {
  Sets out;
  for (const Group& group : step.groups) {
    std::vector<int> ids;
    for (const DeviceId d : group.devices) ids.push_back(d.v);
    std::ranges::sort(ids);
    out.insert(std::move(ids));
  }
  return out;
}

Sets pairs_of(const Plan& plan) {
  Sets out;
  for (const Step& step : plan.steps) {
    if (step.operation != Operation::send_receive) continue;
    for (const Message& m : step.messages) out.insert({m.from.v, m.to.v});
  }
  return out;
}

/// Lists of integers; nothing when it is of another form.
std::optional<Sets> sets_of(const Json& json, bool sorted) {
  Sets out;
  if (!json.is_array()) return {};
  for (const Json& list : json) {
    std::vector<int> ids;
    if (!list.is_array()) return {};
    for (const Json& id : list) {
      if (!id.is_number_integer()) return {};
      ids.push_back(id.get<int>());
    }
    if (sorted) std::ranges::sort(ids);
    out.insert(std::move(ids));
  }
  return out;
}

/// The steps that are not identity.
std::vector<const Step*> working(const Plan& plan) {
  std::vector<const Step*> out;
  for (const Step& step : plan.steps) {
    if (step.operation != Operation::identity) out.push_back(&step);
  }
  return out;
}

std::string joined(const std::vector<Operation>& list) {
  std::vector<std::string> names;
  for (const Operation o : list) names.emplace_back(name_of(o));
  return join(names, " + ");
}

void compare_operations(const Json& expect, const Plan& plan,
                        std::vector<std::string>& out) {
  std::vector<std::string> wanted;
  if (expect.is_string()) {
    wanted.push_back(expect.get<std::string>());
  } else {
    for (const Json& name : expect) {
      if (name.is_string()) wanted.push_back(name.get<std::string>());
    }
  }
  const std::string got = joined(operations(plan));
  if (join(wanted, " + ") != got) {
    out.push_back(
        fmt::format("operation {}, expected {}", got, join(wanted, " + ")));
  }
}

/// "subgroup_0": "send_recv".
void compare_subgroups(const Json& expect, const Plan& plan,
                       std::vector<std::string>& out) {
  for (const auto& [key, name] : expect.items()) {
    std::vector<std::string> got;
    for (const Step& step : plan.steps) {
      for (const int u : step.subgroups) {
        if (fmt::format("subgroup_{}", u) != key) continue;
        got.emplace_back(name_of(step.operation));
      }
      if (step.subgroups.empty()) got.emplace_back(name_of(step.operation));
    }
    if (!name.is_string() || join(got, " + ") != name.get<std::string>()) {
      out.push_back(fmt::format("{}: operation {}, expected {}", key,
                                join(got, " + "), name.dump()));
    }
  }
}

void compare_groups(const Json& groups, const Plan& plan,
                    std::vector<std::string>& out) {
  const auto steps = working(plan);
  // One list of groups, or one for each operation.
  const bool nested = groups.is_array() && !groups.empty() &&
                      groups[0].is_array() && !groups[0].empty() &&
                      groups[0][0].is_array();
  const std::size_t count = nested ? groups.size() : 1;
  if (steps.size() != count) {
    out.push_back(fmt::format("{} steps, expected {}", steps.size(), count));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto wanted = sets_of(nested ? groups[i] : groups, true);
    if (!wanted || *wanted != groups_of(*steps[i])) {
      out.push_back(fmt::format("groups of step {} differ from {}", i,
                                (nested ? groups[i] : groups).dump()));
    }
  }
}

void compare_pairs(const Json& pairs, const Plan& plan,
                   std::vector<std::string>& out) {
  Sets wanted;
  if (pairs.is_object()) {
    for (const auto& [key, list] : pairs.items()) {
      if (const auto some = sets_of(list, false)) {
        wanted.insert(some->begin(), some->end());
      }
    }
  } else if (const auto some = sets_of(pairs, false)) {
    wanted = *some;
  }
  if (wanted != pairs_of(plan)) {
    out.push_back(fmt::format("pairs differ from {}", pairs.dump()));
  }
}

}  // namespace

Result<std::pair<Annotation, Annotation>> read_pair(const Json& source,
                                                    const Json& destination,
                                                    const std::string& where,
                                                    std::size_t dimensions) {
  TRY(Annotation from,
      strategy::read_annotation(source, where + "/src", dimensions));
  TRY(Annotation to,
      strategy::read_annotation(destination, where + "/dst", dimensions));
  const Annotation given = from;
  if (!says_interleaved(source)) weave(from, to, false);
  if (!says_interleaved(destination) && given.across == Across::partial) {
    weave(to, given, true);
  }
  return std::pair(std::move(from), std::move(to));
}

Result<std::vector<Case>> read_cases(const std::filesystem::path& path,
                                     std::size_t dimensions) {
  TRY(const Json json, read_json(path));
  const bool list =
      json.is_object() && json.contains("cases") && json["cases"].is_array();
  if (!list) {
    return fail(Fault::input,
                fmt::format("{}: /cases: expected a list", path.string()));
  }
  std::vector<Case> out;
  for (std::size_t i = 0; i < json["cases"].size(); ++i) {
    const Json& one = json["cases"][i];
    const std::string where = fmt::format("{}: /cases/{}", path.string(), i);
    const bool both =
        one.is_object() && one.contains("src") && one.contains("dst");
    if (!both) {
      return fail(Fault::input, where + ": expected \"src\" and \"dst\"");
    }
    TRY(auto pair, read_pair(one["src"], one["dst"], where, dimensions));
    const bool named = one.contains("name") && one["name"].is_string();
    out.push_back({named ? one["name"].get<std::string>() : "",
                   std::move(pair.first), std::move(pair.second), one});
  }
  return out;
}

std::vector<std::string> differences(const Case& c, const Plan& plan) {
  std::vector<std::string> out;
  const auto expect = c.expected.find("expect");
  if (expect == c.expected.end()) return out;
  if (expect->is_string() && expect->get<std::string>() == "plan") return out;
  if (expect->is_object()) {
    compare_subgroups(*expect, plan, out);
  } else {
    compare_operations(*expect, plan, out);
  }
  const auto groups = c.expected.find("groups");
  if (groups != c.expected.end()) compare_groups(*groups, plan, out);
  const auto pairs = c.expected.find("pairs");
  if (pairs != c.expected.end()) compare_pairs(*pairs, plan, out);
  const auto dim = c.expected.find("dim");
  if (dim != c.expected.end() && dim->is_number_integer()) {
    const auto steps = working(plan);
    const bool same = !steps.empty() && steps.back()->dimension &&
                      *steps.back()->dimension == dim->get<int>();
    if (!same) out.push_back(fmt::format("dimension is not {}", dim->dump()));
  }
  return out;
}

}  // namespace troupe::reshard
