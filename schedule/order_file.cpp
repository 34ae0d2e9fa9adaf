#include <fmt/format.h>

#include <charconv>
#include <set>

#include "base/text.h"
#include "schedule/order.h"

namespace troupe::schedule {
namespace {

bool parse_number(std::string_view text, int& out) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= 0;
}

std::optional<Slot> parse_slot(std::string_view text) {
  if (text.size() < 2) return {};
  Slot slot;
  switch (text[0]) {
    case 'F':
      slot.kind = TaskKind::forward;
      break;
    case 'B':
      slot.kind = TaskKind::backward;
      break;
    case 'I':
      slot.kind = TaskKind::backward_input;
      break;
    case 'W':
      slot.kind = TaskKind::backward_weight;
      break;
    default:
      return {};
  }
  text.remove_prefix(1);
  if (const auto dot = text.find('.'); dot != std::string_view::npos) {
    if (!parse_number(text.substr(dot + 1), slot.chunk)) return {};
    text = text.substr(0, dot);
  }
  if (!parse_number(text, slot.micro_batch)) return {};
  return slot;
}

/// Every micro-batch of every chunk: one forward, then one backward, whole
/// or in two parts with the weight part last.
void check_slots(const std::vector<Slot>& slots, int chunks, int micro_batches,
                 const std::string& where, Findings& findings) {
  std::set<Slot> seen;
  for (const Slot& s : slots) {
    if (s.chunk >= chunks || s.micro_batch >= micro_batches) {
      findings.error(where, fmt::format("{} is outside {} chunk(s) and {} "
                                        "micro-batches of this stage",
                                        to_string(s), chunks, micro_batches));
      continue;
    }
    if (!seen.insert(s).second) {
      findings.error(where, fmt::format("{} appears twice", to_string(s)));
    }
    const auto needs = [&](TaskKind kind) {
      if (seen.contains({kind, s.chunk, s.micro_batch})) return;
      findings.error(where,
                     fmt::format("{} comes before {}", to_string(s),
                                 to_string({kind, s.chunk, s.micro_batch})));
    };
    if (s.kind != TaskKind::forward) needs(TaskKind::forward);
    if (s.kind == TaskKind::backward_weight) needs(TaskKind::backward_input);
  }
  for (int c = 0; c < chunks; ++c) {
    for (int m = 0; m < micro_batches; ++m) {
      const bool whole = seen.contains({TaskKind::backward, c, m});
      const bool input = seen.contains({TaskKind::backward_input, c, m});
      const bool weight = seen.contains({TaskKind::backward_weight, c, m});
      if (!seen.contains({TaskKind::forward, c, m})) {
        findings.error(where, fmt::format("forward of micro-batch {} chunk {} "
                                          "is missing",
                                          m, c));
      }
      if (whole == input || input != weight) {
        findings.error(where,
                       fmt::format("micro-batch {} chunk {} needs either B or "
                                   "both I and W",
                                   m, c));
      }
      if (!findings.ok() && findings.all().size() > 40) return;
    }
  }
}

std::vector<Slot> parse_stage(const Json& list, const strategy::Pipeline& p,
                              std::size_t stage, const std::string& where,
                              Findings& findings) {
  std::vector<Slot> slots;
  if (!list.is_array()) {
    findings.error(where, "expected a list such as [\"F0\",\"B0\"]");
    return slots;
  }
  for (const Json& item : list) {
    const std::string text = item.is_string() ? item.get<std::string>() : "";
    const auto slot = parse_slot(text);
    if (!slot) {
      findings.error(where, fmt::format("'{}' is not a slot such as F0, B3, "
                                        "I1.2 or W1.2",
                                        excerpt(item.dump())));
      return slots;
    }
    slots.push_back(*slot);
  }
  check_slots(slots, static_cast<int>(p.stages[stage].chunks.size()),
              p.micro_batches, where, findings);
  return slots;
}

}  // namespace

Result<std::vector<std::vector<std::vector<Slot>>>> parse_order(
    const Json& json, const std::string& where, const strategy::Phase& phase) {
  Findings findings;
  std::vector<std::vector<std::vector<Slot>>> out;
  JsonObject root(json, where, findings);
  const Json* shared = root.raw("stages");
  const Json* each = root.raw("pipelines");
  root.finish();
  if ((shared == nullptr) == (each == nullptr)) {
    findings.error(where,
                   "expected either 'stages' (for all pipelines) or "
                   "'pipelines'");
    return fail(findings.to_error());
  }
  if (each && (!each->is_array() || each->size() != phase.pipelines.size())) {
    findings.error(
        root.where("pipelines"),
        fmt::format("expected a list of {} pipelines", phase.pipelines.size()));
    return fail(findings.to_error());
  }
  for (std::size_t p = 0; p < phase.pipelines.size(); ++p) {
    const strategy::Pipeline& pipeline = phase.pipelines[p];
    const std::string at =
        each ? fmt::format("{}/{}/stages", root.where("pipelines"), p)
             : root.where("stages");
    const Json* list = shared;
    if (each) {
      const Json& one = (*each)[p];
      list =
          one.is_object() && one.contains("stages") ? &one["stages"] : nullptr;
    }
    if (!list || !list->is_array() || list->size() != pipeline.stages.size()) {
      findings.error(at, fmt::format("expected a list of {} stages",
                                     pipeline.stages.size()));
      continue;
    }
    auto& stages = out.emplace_back();
    for (std::size_t s = 0; s < pipeline.stages.size(); ++s) {
      stages.push_back(parse_stage((*list)[s], pipeline, s,
                                   fmt::format("{}/{}", at, s), findings));
    }
  }
  if (!findings.ok()) return fail(findings.to_error());
  return out;
}

}  // namespace troupe::schedule
