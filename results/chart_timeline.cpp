// The pipeline picture: a row per stage, time to the right.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"
#include "results/charts.h"
#include "results/parts.h"
#include "results/svg.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr double kWidth = 1200;
constexpr double kLabels = 64;
constexpr double kSpace = kWidth - kLabels - 8;
constexpr double kHeading = 20;  ///< above the rows of a pipeline
constexpr std::size_t kMostRows = 48;
constexpr std::size_t kMostBars = 12'000;
/// Without tooltips, bars closer than this are drawn as one.
constexpr double kTouch = 0.75;

/// A kind of bar that has a colour of its own.
struct Look {
  std::string_view kind, style, label;
  bool beside;  ///< may run beside computation: drawn behind it
};
constexpr std::array<Look, 8> kLooks{{
    {"forward", "forward", "forward", false},
    {"backward", "backward", "backward", false},
    {"backward_weight", "compute", "backward, weights", false},
    {"transfer", "pp", "stage hand-over", true},
    {"gradient_sync", "dp", "gradient sync", true},
    {"gather", "tp", "parameter gather", true},
    {"optimizer", "optimizer", "optimizer", false},
    {"switch", "switch", "layout switch", true},
}};
constexpr Look kOther{"", "other", "other", true};

const Look& look_of(std::string_view kind) {
  for (const Look& look : kLooks) {
    if (look.kind == kind) return look;
  }
  return kOther;
}

/// Where a row lies and what happens in it.
struct Row {
  double y = 0;
  std::vector<const Bar*> bars;
};
using Rows = std::map<std::pair<int, int>, Row>;  // by pipeline, stage

struct Picture {
  double height = 16;  ///< of a row's bars
  double pitch = 20;   ///< from row to row
  double total = 0;
  double scale = 0;  ///< units per second
  bool tooltips = true;

  double x(Time time) const {
    return kLabels + std::max(0.0, seconds_of(time)) * scale;
  }
};

std::string tooltip(const Bar& bar) {
  std::string out = cell(bar.kind, 30);
  if (bar.micro_batch >= 0) {
    out += fmt::format(" of micro-batch {}", bar.micro_batch);
  }
  return out + fmt::format(
                   ", {} from {}",
                   human(seconds(seconds_of(bar.end) - seconds_of(bar.start))),
                   human(bar.start));
}

void draw_bar(Svg& svg, const Picture& picture, const Row& row,
              const Bar& bar) {
  const Look& look = look_of(bar.kind);
  const double x = picture.x(bar.start);
  const double width = std::max(0.2, picture.x(bar.end) - x);
  // Computation leaves a strip in which one sees what runs beside it.
  const double height = picture.height * (look.beside ? 1.0 : 0.74);
  svg.rect(x, row.y, width, height, look.style, tooltip(bar));
  const std::string number = fmt::format("{}", bar.micro_batch);
  if (!look.beside && bar.micro_batch >= 0 && picture.height >= 14 &&
      width > 6 + 6 * static_cast<double>(number.size())) {
    svg.text(x + width / 2, row.y + height - 2.5, number,
             look.kind == "forward" ? "onlight" : "onbar", "middle");
  }
}

/// The bars of one look in a row as merged spans, in order of time.
void draw_strip(Svg& svg, const Picture& picture, const Row& row,
                const Look& look) {
  std::vector<std::pair<double, double>> spans;
  for (const Bar* bar : row.bars) {
    if (&look_of(bar->kind) != &look) continue;
    const double x = picture.x(bar->start);
    const double end = picture.x(bar->end);
    const bool touches =
        !spans.empty() &&
        x - (spans.back().first + spans.back().second) < kTouch;
    if (touches) {
      spans.back().second =
          std::max(spans.back().second, end - spans.back().first);
    } else {
      spans.emplace_back(x, end - x);
    }
  }
  if (spans.empty()) return;
  svg.strip(row.y, picture.height * (look.beside ? 1.0 : 0.74), spans,
            look.style);
}

void draw_row(Svg& svg, const Picture& picture, Row& row) {
  std::stable_sort(
      row.bars.begin(), row.bars.end(),
      [](const Bar* a, const Bar* b) { return a->start < b->start; });
  svg.rect(kLabels, row.y, kSpace, picture.height, "idle");
  for (const bool beside : {true, false}) {
    if (picture.tooltips) {
      for (const Bar* bar : row.bars) {
        if (look_of(bar->kind).beside == beside) {
          draw_bar(svg, picture, row, *bar);
        }
      }
      continue;
    }
    for (const Look& look : kLooks) {
      if (look.beside == beside) draw_strip(svg, picture, row, look);
    }
    if (beside) draw_strip(svg, picture, row, kOther);
  }
}

void draw_axis(Svg& svg, const Picture& picture, double most) {
  const double y = picture.total - 22;
  svg.line(kLabels, y, kLabels + kSpace, y, "axis");
  for (const double tick : nice_ticks(most, 10)) {
    const double x = kLabels + tick * picture.scale;
    svg.line(x, y, x, y + 5, "axis");
    svg.text(x, y + 18, axis_time(tick, most), "small",
             x > kWidth - 40 ? "end" : "middle");
  }
}

/// Gives every row its place; returns the height of all.
double lay_out(Rows& rows, const Picture& picture) {
  double y = 0;
  int pipeline = -2;
  for (auto& [key, row] : rows) {
    if (key.first != pipeline) {
      y += kHeading + (pipeline == -2 ? 0 : 4);
      pipeline = key.first;
    }
    row.y = y;
    y += picture.pitch;
  }
  return y;
}

Rows rows_of(const RunResult& run, std::size_t& left_out) {
  std::set<std::pair<int, int>> keys;
  for (const Bar& bar : run.bars) keys.emplace(bar.pipeline, bar.stage);
  left_out = keys.size() > kMostRows ? keys.size() - kMostRows : 0;
  Rows rows;
  for (const auto& key : keys) {
    if (rows.size() < kMostRows) rows[key];
  }
  for (const Bar& bar : run.bars) {
    const auto it = rows.find({bar.pipeline, bar.stage});
    if (it != rows.end()) it->second.bars.push_back(&bar);
  }
  return rows;
}

std::string legend_of(const RunResult& run) {
  std::set<std::string_view> kinds;
  for (const Bar& bar : run.bars) kinds.insert(look_of(bar.kind).kind);
  std::vector<std::pair<std::string, std::string>> entries;
  for (const Look& look : kLooks) {
    if (kinds.contains(look.kind)) entries.emplace_back(look.style, look.label);
  }
  if (kinds.contains("")) entries.emplace_back("other", "other");
  entries.emplace_back("idle", "waiting");
  return legend(entries);
}

}  // namespace

std::string timeline_chart(const RunResult& run) {
  if (run.bars.empty()) {
    return "<p class=\"soft\">This run kept no timeline.</p>\n";
  }
  std::size_t left_out = 0;
  Rows rows = rows_of(run, left_out);
  double most = std::max(1e-12, seconds_of(run.step_time));
  std::size_t bars = 0;
  for (const auto& [key, row] : rows) {
    bars += row.bars.size();
    for (const Bar* bar : row.bars) {
      most = std::max(most, seconds_of(bar->end));
    }
  }
  Picture picture;
  picture.height = rows.size() <= 12 ? 22 : rows.size() <= 30 ? 16 : 10;
  picture.pitch = picture.height + 3;
  picture.scale = kSpace / most;
  picture.tooltips = bars <= kMostBars;
  picture.total = lay_out(rows, picture) + 30;
  Svg svg(kWidth, picture.total, "What each pipeline stage does when");
  int pipeline = -2;
  for (auto& [key, row] : rows) {
    if (key.first != pipeline) {
      pipeline = key.first;
      svg.text(0, row.y - 6, fmt::format("pipeline {}", pipeline), "strong");
    }
    svg.text(0, row.y + picture.height * 0.74,
             fmt::format("stage {}", key.second), "small");
    draw_row(svg, picture, row);
  }
  draw_axis(svg, picture, most);
  std::string out = legend_of(run) + svg.finish();
  if (left_out > 0) {
    out += fmt::format("<p class=\"soft\">{} more stages are not drawn.</p>\n",
                       left_out);
  }
  if (!picture.tooltips) {
    out += fmt::format(
        "<p class=\"soft\">{} bars: neighbours that touch are drawn as one; "
        "a trace shows each.</p>\n",
        thousands(static_cast<std::int64_t>(bars)));
  }
  return out;
}

}  // namespace troupe::results
