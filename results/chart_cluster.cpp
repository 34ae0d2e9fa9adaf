// The cluster map: nodes as boxes, devices as squares.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "results/charts.h"
#include "results/svg.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr double kWidth = 1200;
constexpr std::size_t kMostBoxes = 512;
constexpr std::size_t kMostNodes = 8192;
constexpr std::size_t kMostDevices = 32;  ///< squares in one box
constexpr int kMostLegend = 24;

/// Kinds in the order they appear.
struct Kinds {
  std::map<std::string, int> numbers;
  bool boxes = true;  ///< tinted boxes, else edges in full colour

  std::string style(const std::string& kind) const {
    return fmt::format("{}{}", boxes ? "k" : "edge", numbers.at(kind) % 6);
  }
};

std::string pipeline_fill(int pipeline) {
  return pipeline < 0 ? "var(--idle)" : many_colour(pipeline);
}

/// The pipeline of most devices of a node; -1 when idle ones prevail.
int main_pipeline(const NodeSummary& node) {
  std::map<int, int> counts;
  for (const int pipeline : node.pipelines) ++counts[pipeline];
  int best = -1;
  int most = 0;
  for (const auto& [pipeline, count] : counts) {
    if (count > most) {
      best = pipeline;
      most = count;
    }
  }
  return best;
}

std::string node_title(const NodeSummary& node) {
  std::string out = cell(node.name, 40);
  if (!node.address.empty()) {
    out += fmt::format(" at {}", cell(node.address, 60));
  }
  out += fmt::format(": {} x {}, {} used", node.devices, cell(node.kind, 30),
                     node.used);
  const int pipeline = main_pipeline(node);
  if (pipeline >= 0) out += fmt::format(", pipeline {}", pipeline);
  return out;
}

/// A box with a square per device.
struct Boxes {
  std::size_t columns = 1, rows = 1;  ///< of boxes
  std::size_t across = 4, down = 2;   ///< squares in a box
  double square = 12;
  double width() const {
    return static_cast<double>(across) * (square + 2) + 10;
  }
  double height() const {
    return static_cast<double>(down) * (square + 2) + 20;
  }
};

Boxes plan_boxes(const RunResult& run) {
  std::size_t most = 1;
  for (const NodeSummary& node : run.nodes) {
    most = std::max(most, std::min(node.pipelines.size(), kMostDevices));
  }
  Boxes boxes;
  boxes.across = most <= 4 ? most : most <= 8 ? 4 : 8;
  boxes.down = (most + boxes.across - 1) / boxes.across;
  boxes.square = run.nodes.size() <= 48 ? 16 : run.nodes.size() <= 160 ? 12 : 8;
  boxes.columns = std::max<std::size_t>(
      1, static_cast<std::size_t>(kWidth / (boxes.width() + 6)));
  boxes.rows = (run.nodes.size() + boxes.columns - 1) / boxes.columns;
  return boxes;
}

std::string draw_boxes(const RunResult& run, const Kinds& kinds) {
  const Boxes boxes = plan_boxes(run);
  const double pitch_x = boxes.width() + 6;
  const double pitch_y = boxes.height() + 6;
  Svg svg(kWidth, static_cast<double>(boxes.rows) * pitch_y,
          "The cluster's nodes and which pipeline uses each device");
  for (std::size_t i = 0; i < run.nodes.size(); ++i) {
    const NodeSummary& node = run.nodes[i];
    const double x = static_cast<double>(i % boxes.columns) * pitch_x;
    const double y = static_cast<double>(i / boxes.columns) * pitch_y;
    svg.rect(x, y, boxes.width(), boxes.height(), kinds.style(node.kind),
             node_title(node));
    const auto room = static_cast<std::size_t>(boxes.width() / 5.2);
    svg.text(x + 5, y + 11,
             cell(node.address.empty() ? node.name : node.address, room),
             "tiny");
    const std::size_t squares = std::min(node.pipelines.size(), kMostDevices);
    for (std::size_t d = 0; d < squares; ++d) {
      const int pipeline = node.pipelines[d];
      svg.tile(
          x + 6 + static_cast<double>(d % boxes.across) * (boxes.square + 2),
          y + 16 + static_cast<double>(d / boxes.across) * (boxes.square + 2),
          boxes.square, boxes.square, "d", pipeline_fill(pipeline),
          pipeline < 0 ? fmt::format("device {}: idle", d)
                       : fmt::format("device {}: pipeline {}", d, pipeline));
    }
  }
  return svg.finish();
}

/// Many nodes: a square each, coloured by pipeline, underlined by kind.
std::string draw_squares(const RunResult& run, const Kinds& kinds) {
  const std::size_t count = std::min(run.nodes.size(), kMostNodes);
  const double size = count <= 2048 ? 16 : 10;
  const double pitch_x = size + 2;
  const double pitch_y = size + 6;
  const auto columns = static_cast<std::size_t>(kWidth / pitch_x);
  const std::size_t rows = (count + columns - 1) / columns;
  Svg svg(kWidth, static_cast<double>(rows) * pitch_y,
          "The cluster's nodes and which pipeline uses most of each");
  for (std::size_t i = 0; i < count; ++i) {
    const NodeSummary& node = run.nodes[i];
    const double x = static_cast<double>(i % columns) * pitch_x;
    const double y = static_cast<double>(i / columns) * pitch_y;
    svg.tile(x, y, size, size, "d", pipeline_fill(main_pipeline(node)),
             node_title(node));
    svg.rect(x, y + size, size, 3, kinds.style(node.kind));
  }
  return svg.finish();
}

std::string legends(const RunResult& run, const Kinds& kinds) {
  std::map<std::string, std::int64_t> devices;
  int last = -1;
  bool idle = false;
  for (const NodeSummary& node : run.nodes) {
    devices[node.kind] += node.devices;
    idle = idle || node.used < node.devices;
    for (const int pipeline : node.pipelines) last = std::max(last, pipeline);
  }
  std::vector<std::pair<std::string, std::string>> entries;
  for (const auto& [kind, count] : devices) {
    if (entries.size() == 12) break;
    entries.emplace_back(
        kinds.style(kind),
        fmt::format("{} ({} devices)", cell(kind, 40), thousands(count)));
  }
  std::string out = legend(entries);
  entries.clear();
  for (int p = 0; p <= std::min(last, kMostLegend - 1); ++p) {
    entries.emplace_back(many_colour(p), fmt::format("pipeline {}", p));
  }
  if (last >= kMostLegend) {
    entries.emplace_back("page", fmt::format("... up to pipeline {}", last));
  }
  if (idle) entries.emplace_back("idle", "idle");
  return out + legend(entries);
}

}  // namespace

std::string cluster_chart(const RunResult& run) {
  if (run.nodes.empty()) {
    return "<p class=\"soft\">This run kept no cluster map.</p>\n";
  }
  const bool boxes = run.nodes.size() <= kMostBoxes;
  Kinds kinds{.numbers = {}, .boxes = boxes};
  for (const NodeSummary& node : run.nodes) {
    kinds.numbers.emplace(node.kind, static_cast<int>(kinds.numbers.size()));
  }
  std::string out = legends(run, kinds) +
                    (boxes ? draw_boxes(run, kinds) : draw_squares(run, kinds));
  if (!boxes) {
    out +=
        "<p class=\"soft\">A square per node, coloured by the pipeline "
        "that uses most of it; the line below it is its kind.</p>\n";
  }
  if (run.nodes.size() > kMostNodes) {
    out += fmt::format("<p class=\"soft\">{} more nodes are not drawn.</p>\n",
                       run.nodes.size() - kMostNodes);
  }
  return out;
}

}  // namespace troupe::results
