// Breakdown, memory and provenance: stacked horizontal bars.
#include "results/charts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "results/groups.h"
#include "results/parts.h"
#include "results/svg.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr double kWidth = 1200;
constexpr double kLabels = 250;  ///< width of the words at the left
constexpr double kValues = 130;  ///< and of the numbers at the right
constexpr double kBars = kWidth - kLabels - kValues;
constexpr double kRow = 24;
constexpr double kBar = 16;
constexpr std::size_t kMostRows = 64;

/// "16 x stage 3, h100-sxm, layers 0-7".
std::string row_label(const StageGroup& group) {
  const StageSummary& s = *group.slowest;
  const std::string count = group.pipelines.size() > 1
                                ? fmt::format("{} x ", group.pipelines.size())
                                : fmt::format("p{} ", group.pipelines.front());
  return count + fmt::format("stage {}, {}, layers {}", s.stage,
                             cell(s.kind, 14), cell(s.layers, 10));
}

std::string more_rows(std::size_t all) {
  if (all <= kMostRows) return "";
  return fmt::format(
      "<p class=\"soft\">{} more rows are not drawn; the run's JSON has "
      "all.</p>\n",
      all - kMostRows);
}

/// Segments of a stacked bar from `x` on; returns where it ends.
template <typename Parts, typename Value, typename Title>
double stack(Svg& svg, double x, double y, double height, const Parts& parts,
             Value value, Title title) {
  for (const auto& part : parts) {
    const double width = value(part);
    if (!(width > 0)) continue;
    svg.rect(x, y, width, height, part.first, title(part));
    x += width;
  }
  return x;
}

using Segment = std::pair<std::string, double>;  // style, amount

std::vector<Segment> segments(const Breakdown& breakdown) {
  std::vector<Segment> out;
  for (const TimePart& part : kTimeParts) {
    out.emplace_back(part.key,
                     std::max(0.0, seconds_of(breakdown.*part.member)));
  }
  return out;
}

/// The memory part "optimizer" has another colour than the step's optimizer.
std::string memory_style(std::string_view key) {
  return key == "optimizer" ? "moments" : std::string(key);
}

std::vector<Segment> segments(const StageMemory& memory) {
  std::vector<Segment> out;
  for (const MemoryPart& part : kMemoryParts) {
    out.emplace_back(
        memory_style(part.key),
        std::max(0.0, static_cast<double>((memory.*part.member).v)));
  }
  return out;
}

double sum(const std::vector<Segment>& all) {
  double total = 0;
  for (const auto& [style, amount] : all) total += amount;
  return total;
}

std::string_view time_label(std::string_view key) {
  for (const TimePart& part : kTimeParts) {
    if (part.key == key) return part.label;
  }
  return key;
}

/// The critical device's bar with the share of each part written on it.
void critical_bar(const RunResult& run, Svg& svg, double scale) {
  double x = 0;
  for (const auto& [style, amount] : segments(run.breakdown)) {
    const double width = amount * scale;
    if (!(width > 0)) continue;
    const double share = amount / std::max(1e-30, seconds_of(run.step_time));
    const std::string words =
        fmt::format("{} {}", time_label(style), percent(share));
    svg.rect(x, 0, width, 40, style, words + ", " + human(seconds(amount)));
    const bool dark = style == "compute" || style == "dp" ||
                      style == "optimizer" || style == "switch";
    const std::string text = dark                ? "onbar"
                             : style == "bubble" ? ""
                                                 : "onlight";
    if (width > 12 + 5.6 * static_cast<double>(words.size())) {
      svg.text(x + width / 2, 24, words, text, "middle");
    } else if (width > 42) {
      svg.text(x + width / 2, 24, percent(share), text, "middle");
    }
    x += width;
  }
}

}  // namespace

std::string breakdown_chart(const RunResult& run) {
  std::vector<std::pair<std::string, std::string>> entries;
  for (const TimePart& part : kTimeParts) {
    const auto used = [&](const StageSummary& s) {
      return s.breakdown.*part.member != Time{};
    };
    if (run.breakdown.*part.member != Time{} ||
        std::any_of(run.stages.begin(), run.stages.end(), used)) {
      entries.emplace_back(part.key, part.label);
    }
  }
  const std::vector<StageGroup> groups = group_stages(run);
  double most = std::max(1e-12, sum(segments(run.breakdown)));
  Svg critical(kWidth, 40, "Where the step of the critical device goes");
  critical_bar(run, critical, kWidth / most);
  for (const StageGroup& group : groups) {
    most = std::max(most, sum(segments(group.slowest->breakdown)));
  }
  const std::size_t rows = std::min(groups.size(), kMostRows);
  Svg svg(kWidth, 24 + kRow * static_cast<double>(rows),
          "Where the step goes, stage by stage");
  const double scale = kBars / most;
  const double bottom = kRow * static_cast<double>(rows);
  for (const double tick : nice_ticks(most, 8)) {
    const double x = kLabels + tick * scale;
    svg.line(x, 0, x, bottom + 4, "grid");
    svg.text(x, bottom + 18, axis_time(tick, most), "small", "middle");
  }
  for (std::size_t i = 0; i < rows; ++i) {
    const double y = kRow * static_cast<double>(i) + 4;
    const Breakdown& b = groups[i].slowest->breakdown;
    svg.text(0, y + 12, row_label(groups[i]), "");
    stack(
        svg, kLabels, y, kBar, segments(b),
        [&](const Segment& s) { return s.second * scale; },
        [&](const Segment& s) {
          return fmt::format("{}: {}", time_label(s.first),
                             human(seconds(s.second)));
        });
    const double share = seconds_of(b.compute) / most;
    svg.text(kWidth, y + 12, percent(share) + " compute", "small", "end");
  }
  std::string out = legend(entries) + critical.finish();
  if (!groups.empty()) {
    out +=
        "<p class=\"soft\">Below, each group of equal stages (the slowest "
        "of its pipelines):</p>\n" +
        svg.finish() + more_rows(groups.size());
  }
  return out;
}

std::string memory_chart(const RunResult& run) {
  const std::vector<StageGroup> groups = group_stages(run);
  if (groups.empty()) return "<p class=\"soft\">No stages.</p>\n";
  double most = 1;
  for (const StageGroup& group : groups) {
    const StageMemory& m = group.slowest->memory;
    most = std::max({most, sum(segments(m)), static_cast<double>(m.limit.v),
                     static_cast<double>(m.peak.v)});
  }
  std::vector<std::pair<std::string, std::string>> entries;
  for (const MemoryPart& part : kMemoryParts) {
    entries.emplace_back(memory_style(part.key), part.label);
  }
  const std::size_t rows = std::min(groups.size(), kMostRows);
  const double bottom = kRow * static_cast<double>(rows);
  Svg svg(kWidth, 24 + bottom, "Peak memory of each stage against its limit");
  const double scale = kBars / most;
  constexpr double kGiB = 1024.0 * 1024 * 1024;
  for (const double tick : nice_ticks(most / kGiB, 8)) {
    const double x = kLabels + tick * kGiB * scale;
    svg.line(x, 0, x, bottom + 4, "grid");
    svg.text(x, bottom + 18, exact(tick) + " GiB", "small", "middle");
  }
  for (std::size_t i = 0; i < rows; ++i) {
    const double y = kRow * static_cast<double>(i) + 4;
    const StageMemory& m = groups[i].slowest->memory;
    const bool over = groups[i].out_of_memory;
    svg.text(0, y + 12, row_label(groups[i]), over ? "alarm" : "");
    const double end = stack(
        svg, kLabels, y, kBar, segments(m),
        [&](const Segment& s) { return s.second * scale; },
        [&](const Segment& s) {
          const Bytes bytes{static_cast<std::int64_t>(s.second)};
          return fmt::format("{}: {}",
                             s.first == "moments" ? "optimizer" : s.first,
                             human(bytes));
        });
    if (over) svg.rect(kLabels, y, end - kLabels, kBar, "over");
    const double limit = kLabels + static_cast<double>(m.limit.v) * scale;
    svg.line(limit, y - 2, limit, y + kBar + 2, "limit");
    const double full = m.limit.v > 0 ? m.peak / m.limit : 0;
    svg.text(kWidth, y + 12,
             fmt::format("{}, {:.0f} %", human(m.peak), full * 100),
             over ? "alarm" : "small", "end");
  }
  return legend(entries) + svg.finish() +
         "<p class=\"soft\">The upright mark is the device's limit.</p>\n" +
         more_rows(groups.size());
}

std::string provenance_chart(const RunResult& run) {
  static constexpr std::array<std::string_view, 4> kMeanings{
      "this very shape on this device", "between measured shapes",
      "from a coarser measurement", "from peaks and efficiency curves"};
  std::vector<std::pair<std::string, std::string>> entries;
  Svg svg(kWidth, 18, "How the costs of the critical path are known");
  double x = 0;
  for (std::size_t i = 0; i < kProvenanceKeys.size(); ++i) {
    const double share = std::clamp(run.provenance[i], 0.0, 1.0);
    const std::string words =
        fmt::format("{} {}: {}", kProvenanceKeys[i], percent(run.provenance[i]),
                    kMeanings[i]);
    entries.emplace_back(kProvenanceKeys[i], words);
    if (share > 0)
      svg.rect(x, 0, share * kWidth, 18, kProvenanceKeys[i], words);
    x += share * kWidth;
  }
  return svg.finish() + legend(entries);
}

}  // namespace troupe::results
