#include "cli/validation_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/file.h"
#include "base/findings.h"

namespace troupe::cli {
namespace {

constexpr const char* kFormat = "troupe.validation/1";
constexpr const char* kStrategyFormat = "troupe.strategy/1";

enum class Outcome : std::uint8_t { ran, failed };
constexpr std::array<std::pair<const char*, Outcome>, 2> kOutcomes{
    {{"ran", Outcome::ran}, {"failed", Outcome::failed}}};
constexpr std::array<std::pair<const char*, bool>, 1> kMetrics{
    {{"step_time_s", true}}};
constexpr std::array<std::pair<const char*, char>, 3> kQualities{
    {{"A", 'A'}, {"B", 'B'}, {"C", 'C'}}};

std::string all_errors(const Findings& findings) {
  std::string out;
  for (const Finding& f : findings.all()) {
    if (f.severity != Severity::error) continue;
    out += (out.empty() ? "" : "\n") + to_line(f);
  }
  return out;
}

/// What the cases of a file share.
struct Shared {
  std::string file, source, library, attention;
  const Json* models = nullptr;
  const Json* clusters = nullptr;
};

/// A name of the file's own table is replaced by its object.
void put(JsonObject& o, const char* key, const Json* table, Json& strategy) {
  const Json* value = o.raw(key);
  if (!value) {
    o.findings().error(o.where(key), "missing");
    return;
  }
  if (strategy.contains(key)) {
    o.findings().error(o.where("strategy"),
                       fmt::format("give {} beside the strategy", key));
    return;
  }
  const bool own = value->is_string() && table && table->is_object() &&
                   table->contains(value->get<std::string>());
  strategy[key] = own ? (*table)[value->get<std::string>()] : *value;
}

ValidationCase read_case(const Json& json, const Shared& shared,
                         std::size_t index) {
  Findings findings;
  const std::string where = fmt::format("{}: /cases/{}", shared.file, index);
  JsonObject o(json, where, findings);
  ValidationCase out;
  out.file = shared.file;
  out.id = o.text("id");
  out.source = o.text("source", shared.source);
  out.library = o.text("library", shared.library);
  out.attention = o.text("attention", shared.attention);
  out.quality = std::string(1, o.choice<char>("quality", kQualities));
  out.note = o.text("note", "");
  out.held_out = o.boolean("held_out", false);
  out.memory_gib = o.real("memory_gib", kPositiveReal, 0.0);
  const Outcome outcome = o.choice<Outcome>("outcome", kOutcomes, Outcome::ran);
  o.choice<bool>("metric", kMetrics);
  if (outcome == Outcome::ran) {
    out.seconds = o.real("measured", kPositiveReal);
  } else if (o.has("measured")) {
    findings.error(o.where("measured"), "a run that failed has none");
    o.raw("measured");
  }
  if (const Json* strategy = o.raw("strategy");
      strategy && strategy->is_object()) {
    out.strategy = *strategy;
  } else {
    findings.error(o.where("strategy"), "expected an object");
    out.strategy = Json::object();
  }
  if (out.attention == "unfused" && !out.strategy.contains("cp")) {
    out.strategy["flash_attention"] = false;
  }
  if (out.attention == "flash1" || out.attention == "flash2") {
    out.strategy["attention_kernel"] = out.attention;
  }
  put(o, "model", shared.models, out.strategy);
  put(o, "cluster", shared.clusters, out.strategy);
  out.strategy["format"] = kStrategyFormat;
  o.finish();
  out.error = all_errors(findings);
  if (out.id.empty()) out.id = fmt::format("case {}", index);
  return out;
}

ValidationCase unreadable(const std::string& file, std::string error) {
  ValidationCase out;
  out.file = out.source = file;
  out.id = "(file)";
  out.error = std::move(error);
  return out;
}

}  // namespace

Result<std::vector<std::filesystem::path>> validation_files(
    const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> out;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      if (!std::filesystem::exists(path, error)) {
        return fail(Fault::input,
                    fmt::format("{}: no such file or folder", path));
      }
      out.emplace_back(path);
      continue;
    }
    std::vector<std::filesystem::path> found;
    std::filesystem::directory_iterator it(path, error);
    for (; !error && it != std::filesystem::directory_iterator{};
         it.increment(error)) {
      if (it->path().extension() == ".json") found.push_back(it->path());
    }
    if (error) {
      return fail(Fault::io, fmt::format("{}: {}", path, error.message()));
    }
    if (found.empty()) {
      return fail(Fault::input, fmt::format("{}: no .json files", path));
    }
    std::sort(found.begin(), found.end());
    out.insert(out.end(), found.begin(), found.end());
  }
  return out;
}

std::vector<ValidationCase> read_validation_file(
    const std::filesystem::path& path) {
  const auto json = read_json(path);
  if (!json) return {unreadable(path.string(), json.error().message)};
  Findings findings;
  JsonObject o(*json, path.string(), findings);
  Shared shared;
  shared.file = path.string();
  if (const std::string format = o.text("format"); format != kFormat) {
    findings.error(o.where("format"), fmt::format("expected \"{}\"", kFormat));
  }
  shared.source = o.text("source");
  shared.library = o.text("library", "");
  shared.attention = o.text("attention", "");
  o.text("citation", "");
  o.raw("notes");
  shared.models = o.raw("models");
  shared.clusters = o.raw("clusters");
  const Json* cases = o.raw("cases");
  if (!cases || !cases->is_array() || cases->empty()) {
    findings.error(o.where("cases"), "expected a list of cases");
  }
  o.finish();
  if (const std::string wrong = all_errors(findings); !wrong.empty()) {
    return {unreadable(path.string(), wrong)};
  }
  std::vector<ValidationCase> out;
  for (const Json& one : *cases) {
    out.push_back(read_case(one, shared, out.size()));
  }
  return out;
}

Result<strategy::Plan> load_case(const ValidationCase& one) {
  if (!one.error.empty()) return fail(Fault::input, one.error);
  TRY(strategy::Plan plan,
      strategy::load_plan_text(to_text(one.strategy), one.file + "#" + one.id));
  if (plan.strategy.phases.size() != 1) {
    return fail(Fault::input,
                fmt::format("{}#{}: {} phases; a measured step "
                            "has one",
                            one.file, one.id, plan.strategy.phases.size()));
  }
  return plan;
}

Result<std::map<std::string, Time>> read_libraries(
    const std::filesystem::path& path) {
  TRY(const Json json, read_json(path));
  Findings findings;
  JsonObject o(json, path.string(), findings);
  o.text("format");
  std::map<std::string, Time> out;
  for (JsonObject& one : o.objects("libraries")) {
    const std::string name = one.text("name");
    out[name] =
        seconds(1e-6 * one.real("host_us_per_operator", kNotNegativeReal));
    one.text("source");
    one.finish();
  }
  o.finish();
  if (!findings.ok()) return fail(findings.to_error());
  return out;
}

}  // namespace troupe::cli
