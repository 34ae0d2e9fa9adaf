#include "cli/validation_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/text.h"
#include "results/text.h"

namespace troupe::cli {
namespace {

using results::left;
using results::right;

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

using Cases = std::vector<const Validated*>;

Cases chosen(const std::vector<Validated>& all,
             const std::function<bool(const Validated&)>& wanted) {
  Cases out;
  for (const Validated& v : all) {
    if (wanted(v)) out.push_back(&v);
  }
  return out;
}

/// Sources in the order in which they come first.
std::vector<std::string> sources_of(const std::vector<Validated>& all) {
  std::vector<std::string> out;
  for (const Validated& v : all) {
    if (std::find(out.begin(), out.end(), v.one.source) == out.end()) {
      out.push_back(v.one.source);
    }
  }
  return out;
}

/// Mean of the middle two of an even number.
double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

std::vector<double> sizes_of(std::vector<double> values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

std::string signed_percent(double share) {
  return fmt::format("{:+.1f} %", share * 100);
}

std::string source_line(const ErrorSummary& s) {
  std::string out = "  " + left(results::cell(s.name, 30), 32) +
                    right(fmt::format("{}", s.timed), 5);
  if (s.timed > 0) {
    out += right(results::percent(s.median), 11) +
           right(signed_percent(s.mean_signed), 11) +
           right(signed_percent(s.worst), 11) + "  " +
           results::cell(s.worst_id, 24);
  }
  return out + "\n";
}

std::string case_line(const Validated& v) {
  std::string out = "  " + left(results::cell(v.one.id, 30), 32);
  if (!v.simulated()) return out + "not simulated: " + v.error + "\n";
  out += right(fmt::format("{:.4g} s", to_seconds(v.run.step_time)), 12);
  if (!v.timed()) {
    return out + right("failed", 12) + right("", 11) + "  " +
           (v.run.out_of_memory ? "out of memory" : "FITS") + "\n";
  }
  out += right(fmt::format("{:.4g} s", *v.one.seconds), 12) +
         right(signed_percent(v.time_error()), 11);
  if (v.one.memory_gib > 0) {
    out +=
        fmt::format("  {:.1f} of {:.1f} GiB", v.peak_gib(), v.one.memory_gib);
  }
  if (v.one.quality != "A") out += "  " + v.one.quality;
  if (v.run.out_of_memory) out += "  OUT OF MEMORY";
  return out + "\n";
}

std::string cases_text(const std::vector<Validated>& all) {
  std::string out;
  for (const std::string& source : sources_of(all)) {
    out += left(results::cell(source), 34) + right("simulated", 12) +
           right("measured", 12) + right("error", 11) + "\n";
    for (const Validated& v : all) {
      if (v.one.source == source) out += case_line(v);
    }
    out += "\n";
  }
  return out;
}

std::string memory_text(const ErrorSummary& s) {
  std::string out;
  if (s.memory > 0) {
    out += fmt::format(
        "Memory: {}, median |error| {}, mean {}\n", counted(s.memory, "case"),
        results::percent(s.memory_median), signed_percent(s.memory_mean));
  }
  out += fmt::format(
      "Fits: {} of {} that ran are simulated to fit, {} of {} that failed to "
      "run out of memory\n",
      s.ran_fits, s.ran_fits + s.ran_over, s.failed_over,
      s.failed_over + s.failed_fits);
  return out;
}

/// The named sets that both outputs end with.
std::vector<ErrorSummary> overall(const std::vector<Validated>& all) {
  const auto set = [&](const char* name, auto&& wanted) {
    return summarise_errors(name, chosen(all, wanted));
  };
  return {
      set("all", [](const Validated&) { return true; }),
      set("quality A", [](const Validated& v) { return v.one.quality == "A"; }),
      set("held out", [](const Validated& v) { return v.one.held_out; }),
      set("not held out", [](const Validated& v) { return !v.one.held_out; })};
}

Json to_json(const ErrorSummary& s) {
  return {{"name", s.name},
          {"cases", s.cases},
          {"not_simulated", s.broken},
          {"timed", s.timed},
          {"median_abs_error", s.median},
          {"mean_signed_error", s.mean_signed},
          {"worst_error", s.worst},
          {"worst_case", s.worst_id},
          {"memory_cases", s.memory},
          {"memory_median_abs_error", s.memory_median},
          {"memory_mean_signed_error", s.memory_mean},
          {"ran_and_fits", s.ran_fits},
          {"ran_but_simulated_out_of_memory", s.ran_over},
          {"failed_and_out_of_memory", s.failed_over},
          {"failed_but_simulated_to_fit", s.failed_fits}};
}

Json parts_json(const results::Breakdown& b) {
  return {{"compute", to_seconds(b.compute)},
          {"tp", to_seconds(b.tp)},
          {"cp", to_seconds(b.cp)},
          {"pp", to_seconds(b.pp)},
          {"bubble", to_seconds(b.bubble)},
          {"dp", to_seconds(b.dp)},
          {"optimizer", to_seconds(b.optimizer)},
          {"other", to_seconds(b.other)}};
}

Json to_json(const Validated& v) {
  Json out = {{"id", v.one.id},           {"source", v.one.source},
              {"quality", v.one.quality}, {"held_out", v.one.held_out},
              {"note", v.one.note},       {"attention", v.one.attention}};
  if (v.one.seconds) out["measured_s"] = *v.one.seconds;
  if (v.one.memory_gib > 0) out["measured_gib"] = v.one.memory_gib;
  if (!v.simulated()) {
    out["not_simulated"] = v.error;
    return out;
  }
  out["simulated_s"] = to_seconds(v.run.step_time);
  if (v.timed()) out["error"] = v.time_error();
  out["simulated_gib"] = v.peak_gib();
  out["out_of_memory"] = v.run.out_of_memory;
  out["gpus"] = v.run.gpus;
  out["mfu"] = v.run.mfu;
  out["parts_s"] = parts_json(v.run.breakdown);
  out["roofline_share"] = v.run.provenance.back();
  return out;
}

}  // namespace

double Validated::time_error() const {
  return to_seconds(run.step_time) / *one.seconds - 1;
}

double Validated::peak_gib() const {
  std::int64_t most = 0;
  for (const results::StageSummary& stage : run.stages) {
    most = std::max(most, stage.memory.peak.v - stage.memory.reserve.v);
  }
  return static_cast<double>(most) / kGib;
}

ErrorSummary summarise_errors(const std::string& name,
                              std::span<const Validated* const> cases) {
  ErrorSummary out;
  out.name = name;
  std::vector<double> errors, memory;
  for (const Validated* v : cases) {
    ++out.cases;
    if (!v->simulated()) {
      ++out.broken;
      continue;
    }
    const bool over = v->run.out_of_memory;
    if (v->one.memory_gib > 0) {
      memory.push_back(v->peak_gib() / v->one.memory_gib - 1);
    }
    if (!v->timed()) {
      ++(over ? out.failed_over : out.failed_fits);
      continue;
    }
    ++(over ? out.ran_over : out.ran_fits);
    errors.push_back(v->time_error());
    if (out.worst_id.empty() || std::abs(errors.back()) > std::abs(out.worst)) {
      out.worst = errors.back();
      out.worst_id = v->one.id;
    }
  }
  out.timed = static_cast<int>(errors.size());
  out.mean_signed = mean_of(errors);
  out.median = median_of(sizes_of(errors));
  out.memory = static_cast<int>(memory.size());
  out.memory_mean = mean_of(memory);
  out.memory_median = median_of(sizes_of(memory));
  return out;
}

std::string validation_text(const std::vector<Validated>& all, bool brief) {
  std::string out = brief ? "" : cases_text(all);
  out += left("Source", 34) + right("cases", 5) + right("median |e|", 11) +
         right("mean e", 11) + right("worst", 11) + "\n";
  for (const std::string& source : sources_of(all)) {
    out += source_line(
        summarise_errors(source, chosen(all, [&](const Validated& v) {
                           return v.one.source == source;
                         })));
  }
  out += "\n";
  const std::vector<ErrorSummary> sets = overall(all);
  for (const ErrorSummary& set : sets) out += source_line(set);
  out += "\n" + memory_text(sets.front());
  for (const Validated& v : all) {
    if (v.simulated()) continue;
    out += fmt::format("NOT SIMULATED {} ({}): {}\n", v.one.id, v.one.source,
                       v.error);
  }
  return out;
}

Json validation_json(const std::vector<Validated>& all) {
  Json cases = Json::array();
  for (const Validated& v : all) cases.push_back(to_json(v));
  Json sources = Json::array();
  for (const std::string& source : sources_of(all)) {
    sources.push_back(
        to_json(summarise_errors(source, chosen(all, [&](const Validated& v) {
                                   return v.one.source == source;
                                 }))));
  }
  Json sets = Json::array();
  for (const ErrorSummary& set : overall(all)) sets.push_back(to_json(set));
  return {{"format", "troupe.validation-result/1"},
          {"cases", std::move(cases)},
          {"sources", std::move(sources)},
          {"overall", std::move(sets)}};
}

}  // namespace troupe::cli
