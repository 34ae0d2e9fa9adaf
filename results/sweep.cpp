#include "results/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/text.h"
#include "results/parts.h"
#include "results/text.h"

namespace troupe::results {
namespace {

bool succeeded(const SweepPoint& point) { return point.error.empty(); }

const SweepPoint* first_of(const Sweep& sweep) {
  const auto it =
      std::find_if(sweep.points.begin(), sweep.points.end(), succeeded);
  return it == sweep.points.end() ? nullptr : &*it;
}

double over(double a, double b) {
  const double ratio = b > 0 ? a / b : 0;
  return std::isfinite(ratio) ? ratio : 0;
}

std::string_view words(Scaling scaling) {
  switch (scaling) {
    case Scaling::none:
      return "the same GPUs at every value";
    case Scaling::weak:
      return "weak scaling: the same tokens per GPU at every value";
    case Scaling::strong:
      return "strong scaling: the same tokens per step at every value";
    case Scaling::mixed:
      return "neither weak nor strong scaling: tokens per step and per GPU "
             "both change";
  }
  return "";
}

Bytes peak_of(const RunResult& run) {
  const StageSummary* fullest = fullest_stage(run);
  return fullest ? fullest->memory.peak : Bytes{};
}

std::string table_row(const SweepPoint& point, const ScalingRow& scaling,
                      std::size_t width) {
  const std::string value = "  " + left(cell(point.value, 40), width);
  if (!succeeded(point)) {
    return value + "  " + cell(point.error, 200) + "\n";
  }
  const RunResult& run = point.run;
  return value + right(thousands(run.gpus), 9) +
         right(human(run.step_time), 12) +
         right(short_count(run.tokens_per_s), 10) + right(percent(run.mfu), 9) +
         right(percent(run.hfu), 9) +
         right(fmt::format("{:.2f}", scaling.speedup), 9) +
         right(fmt::format("{:.2f}", scaling.ideal), 9) +
         right(percent(scaling.efficiency), 12) +
         right(human(peak_of(run)), 12) +
         (run.out_of_memory ? "  OUT OF MEMORY" : "") + "\n";
}

}  // namespace

Scaling scaling_of(const Sweep& sweep) {
  const SweepPoint* first = first_of(sweep);
  if (!first) return Scaling::none;
  const auto tokens_per_gpu = [](const RunResult& run) {
    return over(static_cast<double>(run.tokens), run.gpus);
  };
  bool same_gpus = true;
  bool same_tokens = true;
  bool same_share = true;
  for (const SweepPoint& point : sweep.points) {
    if (!succeeded(point)) continue;
    same_gpus = same_gpus && point.run.gpus == first->run.gpus;
    same_tokens = same_tokens && point.run.tokens == first->run.tokens;
    // Batches are whole sequences, so shares agree only nearly.
    same_share = same_share && std::abs(over(tokens_per_gpu(point.run),
                                             tokens_per_gpu(first->run)) -
                                        1) < 0.01;
  }
  if (same_gpus) return Scaling::none;
  return same_tokens  ? Scaling::strong
         : same_share ? Scaling::weak
                      : Scaling::mixed;
}

std::vector<ScalingRow> scaling_rows(const Sweep& sweep) {
  std::vector<ScalingRow> out(sweep.points.size());
  const SweepPoint* first = first_of(sweep);
  if (!first) return out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const SweepPoint& point = sweep.points[i];
    if (!succeeded(point)) continue;
    out[i].speedup = over(point.run.tokens_per_s, first->run.tokens_per_s);
    out[i].ideal = over(point.run.gpus, first->run.gpus);
    out[i].efficiency = over(out[i].speedup, out[i].ideal);
  }
  return out;
}

std::string sweep_table(const Sweep& sweep) {
  std::size_t width =
      std::max<std::size_t>(8, width_of(cell(sweep.parameter, 40)));
  for (const SweepPoint& point : sweep.points) {
    width = std::max(width, width_of(cell(point.value, 40)));
  }
  std::string out = "  " + left(cell(sweep.parameter, 40), width) +
                    right("GPUs", 9) + right("step", 12) +
                    right("tokens/s", 10) + right("MFU", 9) + right("HFU", 9) +
                    right("speedup", 9) + right("ideal", 9) +
                    right("efficiency", 12) + right("memory", 12) + "\n";
  const std::vector<ScalingRow> rows = scaling_rows(sweep);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    out += table_row(sweep.points[i], rows[i], width);
  }
  return out + "\n  " + std::string(words(scaling_of(sweep))) +
         "; speedup and efficiency against the first point\n";
}

std::string sweep_csv(const Sweep& sweep) {
  std::string out =
      "parameter,value,gpus,step_time_s,tokens,tokens_per_s,mfu,"
      "mfu_full_attention,mfu_whole_cluster,hfu,speedup,"
      "ideal_speedup,efficiency,peak_memory_bytes,"
      "out_of_memory,usd_per_step";
  for (const TimePart& part : kTimeParts) {
    out += fmt::format(",{}_s", part.key);
  }
  out += ",schedule,error\r\n";
  const std::vector<ScalingRow> rows = scaling_rows(sweep);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const SweepPoint& point = sweep.points[i];
    const RunResult& run = point.run;
    out += csv_field(sweep.parameter) + "," + csv_field(point.value);
    if (!succeeded(point)) {
      out += std::string(15 + kTimeParts.size(), ',') + "," +
             csv_field(point.error) + "\r\n";
      continue;
    }
    out +=
        fmt::format(",{},{},{},{}", run.gpus, exact(seconds_of(run.step_time)),
                    run.tokens, exact(run.tokens_per_s));
    for (const Custom& custom : kCustoms) {
      out += "," + exact(run.*custom.member);
    }
    out += fmt::format(",{},{},{},{},{},{}", exact(rows[i].speedup),
                       exact(rows[i].ideal), exact(rows[i].efficiency),
                       peak_of(run).v, run.out_of_memory ? 1 : 0,
                       exact(run.usd_per_step));
    for (const TimePart& part : kTimeParts) {
      out += "," + exact(seconds_of(run.breakdown.*part.member));
    }
    out += "," + csv_field(run.schedule) + ",\r\n";
  }
  return out;
}

Json sweep_json(const Sweep& sweep) {
  Json points = Json::array();
  const std::vector<ScalingRow> rows = scaling_rows(sweep);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const SweepPoint& point = sweep.points[i];
    Json out = {{"value", valid_utf8(point.value)}};
    if (succeeded(point)) {
      out["run"] = to_json(point.run);
      out["speedup"] = rows[i].speedup;
      out["ideal_speedup"] = rows[i].ideal;
      out["efficiency"] = rows[i].efficiency;
    } else {
      out["error"] = valid_utf8(point.error);
    }
    points.push_back(std::move(out));
  }
  return {{"parameter", valid_utf8(sweep.parameter)},
          {"scaling", words(scaling_of(sweep))},
          {"points", std::move(points)}};
}

Result<void> check_sweep_name(const std::filesystem::path& path) {
  const std::string end = path.extension().string();
  for (const char* known : {".csv", ".json", ".svg", ".html"}) {
    if (end == known) return {};
  }
  return fail(Fault::input,
              fmt::format("cannot tell what to write to {}; its name must end "
                          "in .csv, .json, .svg or .html",
                          path.string()));
}

Result<void> write_sweep(const std::filesystem::path& path,
                         const Sweep& sweep) {
  TRY_DO(check_sweep_name(path));
  const std::string end = path.extension().string();
  if (end == ".csv") return write_file(path, sweep_csv(sweep));
  if (end == ".json") return write_file(path, to_text(sweep_json(sweep)));
  if (end == ".svg") return write_file(path, sweep_svg(sweep));
  return write_file(path, sweep_html(sweep));
}

}  // namespace troupe::results
