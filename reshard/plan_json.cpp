// Plans as JSON: FORMAT.md.
#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "reshard/cells.h"
#include "reshard/plan.h"
#include "strategy/annotation_json.h"

namespace troupe::reshard {
namespace {

constexpr const char* kFormat = "troupe.reshard/1";
constexpr int kMostBuffers = 1 << 20;

Json box_json(const Box& box) {
  Json out = Json::array();
  for (const Span& span : box) out.push_back({span.first, span.last});
  return out;
}

Json part_json(const Part& part) {
  return Json::array({part.member, part.buffer, box_json(part.box)});
}

Json step_json(const Step& step) {
  Json out{{"operation", name_of(step.operation)}, {"wave", step.wave}};
  if (!step.subgroups.empty()) out["subgroups"] = step.subgroups;
  if (step.dimension) out["dimension"] = *step.dimension;
  if (step.algorithm != Algorithm::direct) {
    out["algorithm"] = name_of(step.algorithm);
  }
  for (const Copy& c : step.copies) {
    Json copy{{"device", c.device.v},
              {"from", c.from},
              {"to", c.to},
              {"box", box_json(c.box)}};
    if (c.add) copy["add"] = true;
    out["copies"].push_back(std::move(copy));
  }
  for (const Message& m : step.messages) {
    out["messages"].push_back({{"from", m.from.v},
                               {"to", m.to.v},
                               {"from_buffer", m.from_buffer},
                               {"to_buffer", m.to_buffer},
                               {"box", box_json(m.box)}});
  }
  for (const Group& g : step.groups) {
    Json group{{"devices", Json::array()},
               {"reads", Json::array()},
               {"writes", Json::array()}};
    for (const DeviceId d : g.devices) group["devices"].push_back(d.v);
    for (const Part& p : g.reads) group["reads"].push_back(part_json(p));
    for (const Part& p : g.writes) group["writes"].push_back(part_json(p));
    out["groups"].push_back(std::move(group));
  }
  return out;
}

Json body_json(const Plan& plan) {
  Json steps = Json::array();
  for (const Step& step : plan.steps) steps.push_back(step_json(step));
  return {{"format", kFormat},
          {"source", strategy::to_json(plan.source)},
          {"destination", strategy::to_json(plan.destination)},
          {"shape", plan.shape},
          {"dtype", kernels::name_of(plan.dtype)},
          {"steps", std::move(steps)}};
}

/// Reads steps of a tensor of a known shape.
class Reader {
 public:
  Reader(const Shape& shape, Findings& findings)
      : shape_(shape), findings_(findings) {}

  Step step(JsonObject& o) {
    Step out;
    const std::string name = o.text("operation");
    if (const auto operation = parse_operation(name)) {
      out.operation = *operation;
    } else {
      findings_.error(o.where("operation"), "expected a known operation");
    }
    out.wave = o.small("wave", {0, 1 << 20}, 0);
    for (const std::int64_t u : o.integers("subgroups", {0, 1 << 20}, true)) {
      out.subgroups.push_back(static_cast<int>(u));
    }
    if (o.has("dimension")) {
      out.dimension =
          o.small("dimension", {0, static_cast<std::int64_t>(kMostDimensions)});
    }
    out.algorithm = algorithm(o);
    for (JsonObject& c : o.objects("copies", true)) {
      out.copies.push_back(copy(c));
    }
    for (JsonObject& m : o.objects("messages", true)) {
      out.messages.push_back(message(m));
    }
    for (JsonObject& g : o.objects("groups", true)) {
      out.groups.push_back(group(g));
    }
    o.finish();
    return out;
  }

 private:
  Algorithm algorithm(JsonObject& o) {
    const std::string name = o.text("algorithm", "direct");
    for (const Algorithm a :
         {Algorithm::direct, Algorithm::ring, Algorithm::two_level}) {
      if (name == name_of(a)) return a;
    }
    findings_.error(o.where("algorithm"), "expected direct, ring or two_level");
    return Algorithm::direct;
  }

  DeviceId device(JsonObject& o, const char* key) {
    return {o.small(key, {0, 1 << 24})};
  }
  int buffer(JsonObject& o, const char* key, int least) {
    return o.small(key, {least, kMostBuffers});
  }

  Box box(const Json* json, const std::string& where) {
    Box out;
    const bool list = json && json->is_array() && json->size() == shape_.size();
    for (std::size_t d = 0; list && d < shape_.size(); ++d) {
      const Json& span = (*json)[d];
      if (!span.is_array() || span.size() != 2) break;
      const auto first = whole_number(span[0]);
      const auto last = whole_number(span[1]);
      const bool inside =
          first && last && *first >= 0 && *first < *last && *last <= shape_[d];
      if (!inside) break;
      out.push_back({*first, *last});
    }
    if (out.size() != shape_.size()) {
      findings_.error(where, fmt::format("expected {} pairs [first, last) "
                                         "inside the tensor",
                                         shape_.size()));
      out.assign(shape_.size(), Span{0, 1});
    }
    return out;
  }

  Copy copy(JsonObject& o) {
    Copy out{device(o, "device"), buffer(o, "from", kZeros),
             buffer(o, "to", kSource), box(o.raw("box"), o.where("box")),
             o.boolean("add", false)};
    o.finish();
    return out;
  }

  Message message(JsonObject& o) {
    Message out{
        device(o, "from"), device(o, "to"), buffer(o, "from_buffer", kSource),
        buffer(o, "to_buffer", kSource), box(o.raw("box"), o.where("box"))};
    o.finish();
    return out;
  }

  std::vector<Part> parts(JsonObject& o, const char* key, std::size_t members) {
    std::vector<Part> out;
    const Json* list = o.raw(key);
    if (!list || !list->is_array()) {
      findings_.error(o.where(key), "expected a list");
      return out;
    }
    for (std::size_t i = 0; i < list->size(); ++i) {
      const Json& part = (*list)[i];
      const std::string where = fmt::format("{}/{}", o.where(key), i);
      const bool triple = part.is_array() && part.size() == 3;
      const auto member = triple ? whole_number(part[0]) : std::nullopt;
      const auto number = triple ? whole_number(part[1]) : std::nullopt;
      const bool good = member && number && *member >= 0 &&
                        *member < static_cast<std::int64_t>(members) &&
                        *number >= 0 && *number <= kMostBuffers;
      if (!good) {
        findings_.error(where, "expected [member, buffer, box]");
        continue;
      }
      out.push_back({static_cast<int>(*member), static_cast<int>(*number),
                     box(&part[2], where)});
    }
    return out;
  }

  Group group(JsonObject& o) {
    Group out;
    for (const std::int64_t d : o.integers("devices", {0, 1 << 24})) {
      out.devices.push_back(DeviceId{static_cast<std::int32_t>(d)});
    }
    out.reads = parts(o, "reads", out.devices.size());
    out.writes = parts(o, "writes", out.devices.size());
    o.finish();
    return out;
  }

  const Shape& shape_;
  Findings& findings_;
};

Result<void> read_head(JsonObject& o, Plan& plan) {
  const std::string format = o.text("format");
  if (format != kFormat) {
    o.findings().error(o.where("format"),
                       fmt::format("expected \"{}\"", kFormat));
  }
  plan.shape = o.integers("shape", {1, strategy::kMostExtent});
  if (plan.shape.empty() || plan.shape.size() > kMostDimensions) {
    o.findings().error(o.where("shape"), "expected 1 to 8 sizes");
  }
  const auto dtype = kernels::parse_dtype(o.text("dtype"));
  if (!dtype) o.findings().error(o.where("dtype"), "expected a known dtype");
  if (!o.findings().ok()) return fail(o.findings().to_error());
  plan.dtype = *dtype;
  for (const char* key : {"source", "destination"}) {
    const Json* given = o.raw(key);
    const Json none = Json::object();
    TRY(Annotation annotation,
        strategy::read_annotation(given ? *given : none, o.where(key),
                                  plan.shape.size()));
    const auto problems = strategy::problems(annotation, plan.shape);
    if (!problems.empty()) {
      return fail(Fault::input,
                  fmt::format("{}: {}", o.where(key), problems.front()));
    }
    (key[0] == 's' ? plan.source : plan.destination) = std::move(annotation);
  }
  return {};
}

}  // namespace

std::string content_hash(const Plan& plan) {
  return troupe::content_hash(body_json(plan).dump());
}

Json to_json(const Plan& plan) {
  Json out = body_json(plan);
  out["hash"] = troupe::content_hash(out.dump());
  Json names = Json::array();
  for (const Operation operation : operations(plan)) {
    names.push_back(name_of(operation));
  }
  out["operations"] = std::move(names);
  out["predicted_s"] = to_seconds(plan.predicted);
  out["moved_bytes"] = moved_bytes(plan).v;
  out["temporary_bytes"] = peak_temporary(plan).v;
  return out;
}

Result<Plan> plan_from_json(const Json& json, const std::string& where) {
  Findings findings;
  JsonObject o(json, where, findings);
  if (!findings.ok()) return fail(findings.to_error());
  Plan plan;
  TRY_DO(read_head(o, plan));
  Reader reader(plan.shape, findings);
  for (JsonObject& step : o.objects("steps")) {
    plan.steps.push_back(reader.step(step));
  }
  const bool ordered = std::ranges::is_sorted(plan.steps, {}, &Step::wave);
  if (!ordered) findings.error(o.where("steps"), "waves are out of order");
  plan.predicted = seconds(o.real("predicted_s", kNotNegativeReal, 0.0));
  const std::string hash = o.text("hash", "");
  for (const char* key : {"operations", "moved_bytes", "temporary_bytes"}) {
    o.raw(key);
  }
  o.finish();
  if (findings.ok() && !hash.empty() && hash != content_hash(plan)) {
    findings.error(o.where("hash"), "does not fit the content");
  }
  if (!findings.ok()) return fail(findings.to_error());
  return plan;
}

}  // namespace troupe::reshard
