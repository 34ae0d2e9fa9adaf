#include "results/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/text.h"
#include "results/charts.h"
#include "results/groups.h"
#include "results/parts.h"
#include "results/svg.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr std::size_t kMostTableRows = 256;
constexpr std::size_t kMostWarnings = 100;

std::string heading(const RunResult& run) {
  std::string out =
      fmt::format("<h1>{} on {}</h1>\n<p class=\"soft\">",
                  html(cell(run.model, 200)), html(cell(run.cluster, 200)));
  std::vector<std::string> parts;
  if (!run.name.empty()) parts.push_back(cell(run.name, 200));
  if (!run.phase.empty()) parts.push_back("phase " + cell(run.phase, 100));
  parts.push_back(fmt::format("{} step on {} of {} GPU{}",
                              cell(run.performance, 30), thousands(run.gpus),
                              thousands(run.cluster_gpus),
                              run.cluster_gpus == 1 ? "" : "s"));
  if (!run.id.empty()) parts.push_back("run " + cell(run.id, 40));
  if (!run.created.empty()) parts.push_back(cell(run.created, 40));
  return out + html(join(parts, " \xC2\xB7 ")) + "</p>\n";
}

std::string alarm(const RunResult& run) {
  if (!run.out_of_memory) return "";
  const auto over =
      std::count_if(run.stages.begin(), run.stages.end(),
                    [](const StageSummary& s) { return s.out_of_memory; });
  std::string out =
      fmt::format("<div class=\"alarm-box\"><b>Out of memory</b> in {} of {}",
                  over, counted(std::ssize(run.stages), "stage"));
  if (const StageSummary* worst = fullest_stage(run)) {
    out += fmt::format("; the fullest is pipeline {} stage {}: {} of {} on {}",
                       worst->pipeline, worst->stage, human(worst->memory.peak),
                       human(worst->memory.limit), html(cell(worst->kind, 60)));
  }
  return out + ". The times below pretend that it fits.</div>\n";
}

std::string warnings(const RunResult& run) {
  if (run.warnings.empty()) return "";
  std::string out = "<div class=\"warn-box\"><b>Warnings</b><ul>";
  const std::size_t shown = std::min(run.warnings.size(), kMostWarnings);
  for (std::size_t i = 0; i < shown; ++i) {
    out += "<li>" + html(cell(run.warnings[i], 2000)) + "</li>";
  }
  if (run.warnings.size() > shown) {
    out += fmt::format("<li>{} more</li>", run.warnings.size() - shown);
  }
  return out + "</ul></div>\n";
}

std::string card(std::string_view name, std::string_view value,
                 std::string_view meaning) {
  return fmt::format(
      "<div class=\"card\"><span class=\"name\">{}</span><b>{}</b>"
      "<span class=\"soft\">{}</span></div>\n",
      html(name), html(value), html(meaning));
}

std::string cards(const RunResult& run) {
  std::string out = "<div class=\"cards\">\n";
  out += card("Step", human(run.step_time), thousands(run.tokens) + " tokens");
  out += card("Throughput", short_count(run.tokens_per_s), "tokens per second");
  for (const Custom& custom : kCustoms) {
    out += card(custom.label, percent(run.*custom.member), custom.meaning);
  }
  if (run.model_flops > 0) {
    out += card("Model FLOPs", human_count(run.model_flops, "FLOP"),
                "of one step");
  }
  if (run.usd_per_step > 0) {
    out += card("Cost", short_count(run.usd_per_step) + " USD", "per step");
  }
  return out + "</div>\n";
}

std::string stage_row(const StageGroup& group, double step) {
  const StageSummary& s = *group.slowest;
  std::string out = fmt::format(
      "<tr><td class=\"l\">{}</td><td>{}</td><td class=\"l\">{}</td><td>{}"
      "</td><td>{}</td><td class=\"l\">{}</td><td>{}</td>",
      ranges_text(group.pipelines), s.stage, html(cell(s.kind, 40)), s.tp, s.cp,
      html(cell(s.layers, 60)), s.micro_batches);
  for (const TimePart& part : kTimeParts) {
    const double share =
        step > 0 ? seconds_of(s.breakdown.*part.member) / step : 0;
    out += "<td>" + (share == 0 ? std::string("") : percent(share)) + "</td>";
  }
  const bool over = group.out_of_memory;
  return out + fmt::format("<td{}>{}</td></tr>\n", over ? " class=\"bad\"" : "",
                           human(s.memory.peak));
}

std::string stage_table(const RunResult& run) {
  const std::vector<StageGroup> groups = group_stages(run);
  std::string out =
      "<div class=\"scroll\"><table><thead><tr><th class=\"l\">pipelines</th>"
      "<th>stage</th><th class=\"l\">kind</th><th>tp</th><th>cp</th>"
      "<th class=\"l\">layers</th><th>micro-batches</th>";
  for (const TimePart& part : kTimeParts) {
    out += fmt::format("<th>{}</th>", part.key);
  }
  out += "<th>memory</th></tr></thead><tbody>\n";
  const std::size_t shown = std::min(groups.size(), kMostTableRows);
  for (std::size_t i = 0; i < shown; ++i) {
    out += stage_row(groups[i], seconds_of(run.step_time));
  }
  out += "</tbody></table></div>\n";
  if (groups.size() > shown) {
    out += fmt::format(
        "<p class=\"soft\">{} in the run's JSON.</p>\n",
        counted(static_cast<std::int64_t>(groups.size() - shown), "more row"));
  }
  return out;
}

std::string fact(std::string_view name, std::string_view value) {
  return fmt::format(
      "<tr><th class=\"l\">{}</th><td class=\"l wrap\"><code>{}</code></td>"
      "</tr>\n",
      html(name), html(value));
}

/// The command as one line for a shell.
std::string command_line(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += ' ';
    const bool plain =
        !word.empty() && word.find_first_not_of(
                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRS"
                             "TUVWXYZ0123456789_-./=:,@%+") == word.npos;
    if (plain) {
      out += word;
      continue;
    }
    out += '\'';
    for (const char c : word) {
      out += c == '\'' ? "'\\''" : std::string(1, c);
    }
    out += '\'';
  }
  return out;
}

std::string inputs(const RunResult& run) {
  std::string out = "<table>\n" + fact("schedule", run.schedule);
  for (const auto& [role, hash] : run.inputs) {
    out += fact(cell(role, 60), cell(hash, 200));
  }
  out += "</table>\n";
  if (!run.command.empty()) {
    out += "<p>To run it again:</p>\n<pre><code>" +
           html(command_line(run.command)) + "</code></pre>\n";
  }
  if (run.events > 0) {
    out += fmt::format("<p class=\"soft\">{} events in {}.</p>\n",
                       thousands(run.events), human(seconds(run.wall_time_s)));
  }
  return out;
}

std::string section(std::string_view title, std::string_view explanation,
                    const std::string& body) {
  return fmt::format(
      "<section>\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n{}"
      "</section>\n",
      title, explanation, body);
}

}  // namespace

std::string html_report(const RunResult& run) {
  std::string body = heading(run) + alarm(run) + cards(run) + warnings(run);
  body += section("Where the step goes",
                  fmt::format("The critical device: pipeline {} stage {}.",
                              run.critical_pipeline, run.critical_stage),
                  breakdown_chart(run));
  body += section("Pipelines over time",
                  "Numbers are micro-batches; what runs beside computation "
                  "shows as a strip below it.",
                  timeline_chart(run));
  body += section("Memory", "Of one device of each stage, at its peak.",
                  memory_chart(run));
  body += section("Cluster",
                  "Boxes are nodes, tinted by kind; squares are devices, "
                  "coloured by pipeline.",
                  cluster_chart(run));
  body += section("Stages", "Equal pipelines together; shares of the step.",
                  stage_table(run));
  body += section("How the costs are known", "Shares of the critical path.",
                  provenance_chart(run));
  body += section("Inputs", "Content hashes of what went in.", inputs(run));
  return html_page(cell(run.model, 100) + " on " + cell(run.cluster, 100),
                   body);
}

Result<void> write_report(const std::filesystem::path& path,
                          const RunResult& run) {
  return write_file(path, html_report(run));
}

}  // namespace troupe::results
