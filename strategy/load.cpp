#include "strategy/load.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "clusters/read.h"
#include "clusters/short_form.h"
#include "models/read.h"
#include "strategy/foreign.h"
#include "strategy/native.h"
#include "strategy/overrides.h"
#include "strategy/validate.h"

namespace troupe::strategy {
namespace {

namespace fs = std::filesystem;

/// One of the two things that a strategy refers to.
struct Reference {
  const char* what;    ///< "model"
  const char* folder;  ///< of shipped ones
  std::string text;    ///< what the strategy remembers of it
  Json json;           ///< what is parsed
  std::string where;
};

bool looks_like_path(const std::string& text) {
  return text.find('/') != std::string::npos || text.ends_with(".json");
}

bool is_short_form(const Reference& reference, const std::string& text) {
  return std::string_view(reference.what) == "cluster" &&
         clusters::looks_like_short_form(text);
}

/// Finds and parses what `json` refers to: an object, or the name, path or
/// text of one.
Result<void> resolve(const Json& json, const fs::path& base,
                     const std::string& file, Reference& reference) {
  reference.where = fmt::format("{}: /{}", file, reference.what);
  if (json.is_object()) {
    reference.json = json;
    reference.text = to_text(json);
    return {};
  }
  const std::string text = json.is_string() ? json.get<std::string>() : "";
  if (text.empty()) {
    return fail(Fault::input, fmt::format("{}: missing; name one, or give --{}",
                                          reference.where, reference.what));
  }
  reference.text = text;
  if (text.front() == '{') {
    TRY(reference.json, parse_json(text, reference.where));
    return {};
  }
  if (is_short_form(reference, text)) {
    reference.json = text;
    return {};
  }
  fs::path path = text;
  if (looks_like_path(text)) {
    if (path.is_relative()) path = (base / path).lexically_normal();
    reference.text = path.string();
  } else {
    auto found = find_shipped(text, reference.folder);
    if (!found) {
      return fail(found.error().fault, fmt::format("{}: {}", reference.where,
                                                   found.error().message));
    }
    path = *found;
  }
  reference.where = path.string();
  TRY(reference.json, read_json(path));
  return {};
}

/// Sets the fields that are inside the reference ("model.layers").
void override_inside(const LoadOptions& options, Reference& reference,
                     Findings& findings) {
  const std::string prefix = std::string(reference.what) + ".";
  for (const auto& [path, value] : options.set) {
    if (!path.starts_with(prefix)) continue;
    apply_override(reference.json, {path.substr(prefix.size()), value},
                   reference.where, findings);
    reference.text = to_text(reference.json);
  }
}

/// Sets the other fields in the strategy file itself.
void override_strategy(const LoadOptions& options, const std::string& file,
                       Json& json, Findings& findings) {
  for (const Override& change : options.set) {
    const std::string& path = change.first;
    if (path.starts_with("model.") || path.starts_with("cluster.")) continue;
    apply_override(json, change, file, findings);
  }
}

/// Each line of an error as a finding of its own.
void add_error(Findings& findings, const Error& error) {
  std::size_t start = 0;
  while (start <= error.message.size()) {
    const std::size_t end = error.message.find('\n', start);
    findings.error("", error.message.substr(start, end - start));
    if (end == std::string::npos) return;
    start = end + 1;
  }
}

struct Surroundings {
  Reference model{"model", "models", {}, {}, {}};
  Reference cluster{"cluster", "clusters", {}, {}, {}};
};

/// Reads model and cluster; what fails stays empty and is reported.
void read_surroundings(const Json& model, const Json& cluster,
                       const std::string& file, const LoadOptions& options,
                       Surroundings& around, Plan& plan) {
  const fs::path base = fs::path(file).parent_path();
  // What the command line names is relative to the working folder.
  const auto chosen = [](const std::string& option, const Json& own) {
    return option.empty() ? own : Json(option);
  };
  const auto read = [&](Reference& reference, const std::string& option,
                        const Json& own, auto parse, auto& into) {
    const auto found =
        resolve(chosen(option, own), option.empty() ? base : fs::path(), file,
                reference);
    if (!found) return add_error(plan.findings, found.error());
    override_inside(options, reference, plan.findings);
    auto parsed = parse(reference.json, reference.where);
    if (!parsed) return add_error(plan.findings, parsed.error());
    into = *std::move(parsed);
    plan.hashes[reference.what] = content_hash(to_text(reference.json));
  };
  read(around.model, options.model, model, models::parse_model, plan.model);
  read(around.cluster, options.cluster, cluster, clusters::parse_cluster,
       plan.cluster);
}

/// The native file, or a hint at what it is instead.
Result<void> check_native(const Json& json, const std::string& file) {
  const bool has_format = json.is_object() && json.contains("format");
  if (has_format && json["format"] == kFormat) return {};
  // Foreign files may have a "format" of their own.
  const auto guess = guess_format(json);
  if (has_format && !guess) return {};
  const std::string hint =
      guess ? fmt::format(" (it looks like a file of {0}: use --from {0})",
                          name_of(*guess))
            : std::string();
  const std::string found =
      has_format
          ? fmt::format("expected \"{}\", found {}", kFormat,
                        excerpt(json["format"].dump(
                            -1, ' ', false, Json::error_handler_t::replace)))
          : fmt::format("missing; expected \"{}\"", kFormat);
  return fail(Fault::input,
              fmt::format("{}: /format: {}{}", file, found, hint));
}

Json member(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) ? json[key] : Json();
}

/// Everything but the reading of the file itself.
struct Source {
  Format format = Format::native;
  std::string file;
  Json json;
  Case chosen;
  Json model;
  Json cluster;
};

/// What fails as JSON may be Megatron-LM's arguments.
Error with_hint(Format format, std::string_view text, Error error) {
  const bool arguments =
      format == Format::native &&
      (text.find("--tensor-model-parallel-size") != std::string_view::npos ||
       text.find("--pipeline-model-parallel-size") != std::string_view::npos ||
       text.find("--micro-batch-size") != std::string_view::npos);
  if (arguments) {
    error.message +=
        " (it looks like arguments of Megatron-LM: use --from megatron)";
  }
  return error;
}

Result<Source> open_source(std::string_view text, const std::string& file,
                           const LoadOptions& options, Plan& plan) {
  Source out;
  out.file = file;
  const auto format = parse_format(options.from);
  if (!format) {
    return fail(Fault::input,
                fmt::format("unknown format '{}'; expected one of native, "
                            "hspmd, hotspa, hydraulis, hexiscale, megatron",
                            excerpt(options.from)));
  }
  out.format = *format;
  auto parsed = parse_source(out.format, text, file);
  if (!parsed) return fail(with_hint(out.format, text, parsed.error()));
  out.json = *std::move(parsed);
  plan.hashes["strategy"] = content_hash(text);
  if (out.format == Format::native) {
    if (options.case_index >= 0) {
      return fail(Fault::input,
                  fmt::format("{}: --case {}: the file holds one strategy, not "
                              "several cases",
                              file, options.case_index));
    }
    TRY_DO(check_native(out.json, file));
    override_strategy(options, file, out.json, plan.findings);
    out.model = member(out.json, "model");
    out.cluster = member(out.json, "cluster");
  } else {
    TRY(out.chosen,
        choose_case(out.format, out.json, file, options.case_index));
    override_strategy(options, file, out.chosen.json, plan.findings);
    Setting setting = setting_of(out.format, out.chosen);
    out.model = setting.model;
    out.cluster = setting.cluster;
    for (const Finding& f : setting.findings.all()) {
      const bool model = f.message.find("--model") != std::string::npos;
      const bool given =
          model ? !options.model.empty() : !options.cluster.empty();
      if (!given) plan.findings.warning(f.where, f.message);
    }
  }
  if (!options.set.empty()) {
    const Json& used =
        out.format == Format::native ? out.json : out.chosen.json;
    plan.hashes["strategy"] = content_hash(to_text(used));
  }
  return out;
}

Draft read_draft(const Source& source, const Plan& plan) {
  return source.format == Format::native
             ? read_native(source.json, source.file, plan.model, plan.cluster)
             : from_foreign(source.format, source.chosen, source.file,
                            plan.model, plan.cluster);
}

}  // namespace

Result<Plan> load_plan_text(std::string_view text, const std::string& name,
                            const LoadOptions& options) {
  Plan plan;
  TRY(const Source source, open_source(text, name, options, plan));
  Surroundings around;
  read_surroundings(source.model, source.cluster, name, options, around, plan);
  const bool complete = plan.model.layers > 0 && !plan.cluster.devices.empty();
  // A foreign file cannot be understood without its surroundings; a native
  // one is still looked at for problems of its own.
  if (!complete && source.format != Format::native) {
    return fail(plan.findings.to_error());
  }
  Draft draft = read_draft(source, plan);
  plan.findings.append(draft.findings);
  plan.strategy = std::move(draft.strategy);
  plan.strategy.model = around.model.text;
  plan.strategy.cluster = around.cluster.text;
  if (!plan.strategy.order_file.empty()) {
    const fs::path order = plan.strategy.order_file;
    if (order.is_relative()) {
      plan.strategy.order_file =
          (fs::path(name).parent_path() / order).lexically_normal().string();
    }
  }
  if (plan.strategy.name.empty()) {
    plan.strategy.name = fs::path(name).stem().string();
    if (options.case_index >= 0) {
      plan.strategy.name += fmt::format("-case{}", options.case_index);
    }
  }
  if (complete) {
    plan.findings.append(
        validate(plan.strategy, plan.model, plan.cluster, draft.places));
  }
  if (!plan.findings.ok()) return fail(plan.findings.to_error());
  return plan;
}

Result<Plan> load_plan(std::string_view path_or_name,
                       const LoadOptions& options) {
  TRY(const fs::path path, find_shipped(path_or_name, "examples"));
  TRY(const std::string text, read_file(path));
  return load_plan_text(text, path.string(), options);
}

}  // namespace troupe::strategy
