// Line charts of a sweep, side by side in one SVG element.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "results/svg.h"
#include "results/sweep.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr double kPanel = 390;  ///< width of one chart with its axis
constexpr double kLeft = 62;    ///< of the words of the y axis
constexpr double kTop = 34;
constexpr double kHigh = 220;  ///< of the drawing
constexpr double kHeight = kTop + kHigh + 46;
constexpr std::size_t kMostLabels = 8;

/// The value as a number, when the whole text is one.
bool parse(const std::string& text, double& out) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && stop == end && std::isfinite(out);
}

/// Positions from 0 to 1 along the x axis, one per point.
struct Axis {
  std::string name;
  std::vector<double> at;
  bool logarithmic = false;
};

Axis x_axis(const Sweep& sweep) {
  Axis axis{.name = sweep.parameter, .at = {}, .logarithmic = false};
  std::vector<double> values;
  for (const SweepPoint& point : sweep.points) {
    double value = 0;
    if (!parse(point.value, value)) break;
    values.push_back(value);
  }
  const std::size_t count = sweep.points.size();
  if (values.size() != count || count == 0) {
    for (std::size_t i = 0; i < count; ++i) {
      axis.at.push_back((static_cast<double>(i) + 0.5) /
                        static_cast<double>(count));
    }
    return axis;
  }
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  axis.logarithmic =
      *least > 0 && (sweep.parameter == "gpus" || *most >= 8 * *least);
  const double low = axis.logarithmic ? std::log2(*least) : *least;
  const double high = axis.logarithmic ? std::log2(*most) : *most;
  for (const double value : values) {
    const double v = axis.logarithmic ? std::log2(value) : value;
    axis.at.push_back(high > low ? (v - low) / (high - low) : 0.5);
  }
  return axis;
}

/// One line of a chart; NaN where there is no point.
struct Curve {
  std::string style;  ///< "a", "b" or "ideal"
  std::string label;
  std::vector<double> values;
};

struct Panel {
  std::string title;
  bool shares = false;  ///< the y axis is in percent
  std::vector<Curve> curves;
};

std::string value_text(const Panel& panel, double value) {
  return panel.shares ? percent(value) : short_count(value);
}

void draw_axes(Svg& svg, double x0, const Panel& panel, const Axis& axis,
               const Sweep& sweep, double most) {
  const double wide = kPanel - kLeft - 24;
  svg.text(x0 + kLeft, 16, panel.title, "strong");
  for (const double tick : nice_ticks(most, 5)) {
    const double y = kTop + kHigh * (1 - tick / most);
    svg.line(x0 + kLeft, y, x0 + kLeft + wide, y, "grid");
    svg.text(x0 + kLeft - 6, y + 4,
             panel.shares ? fixed(tick * 100, 1) + " %" : short_count(tick),
             "small", "end");
  }
  // So many labels that they do not touch.
  const std::size_t every = (axis.at.size() + kMostLabels - 1) /
                            std::max<std::size_t>(1, kMostLabels);
  for (std::size_t i = 0; i < axis.at.size(); ++i) {
    const double x = x0 + kLeft + axis.at[i] * wide;
    svg.line(x, kTop + kHigh, x, kTop + kHigh + 4, "axis");
    if (i % std::max<std::size_t>(1, every) == 0) {
      svg.text(x, kTop + kHigh + 17, cell(sweep.points[i].value, 10), "small",
               "middle");
    }
  }
  svg.text(x0 + kLeft + wide / 2, kTop + kHigh + 36,
           cell(axis.name, 40) + (axis.logarithmic ? " (log scale)" : ""),
           "small", "middle");
}

/// Names of the curves, from right to left above the drawing.
void draw_names(Svg& svg, double x0, const Panel& panel) {
  double x = x0 + kPanel - 24;
  for (const Curve& curve : panel.curves) {
    svg.text(x, 16, curve.label, "small", "end");
    x -= 6.2 * static_cast<double>(curve.label.size()) + 8;
    svg.line(x - 14, 12, x, 12, "curve-" + curve.style);
    x -= 26;
  }
}

void draw_panel(Svg& svg, double x0, const Panel& panel, const Axis& axis,
                const Sweep& sweep) {
  double most = 0;
  for (const Curve& curve : panel.curves) {
    for (const double v : curve.values) {
      if (std::isfinite(v)) most = std::max(most, v);
    }
  }
  most = most > 0 ? most * 1.08 : 1;
  draw_axes(svg, x0, panel, axis, sweep, most);
  draw_names(svg, x0, panel);
  const double wide = kPanel - kLeft - 24;
  for (const Curve& curve : panel.curves) {
    // A gap in the line where a point has no value.
    std::vector<std::pair<double, double>> line;
    const auto end_line = [&] {
      if (line.size() > 1) svg.polyline(line, "curve-" + curve.style);
      line.clear();
    };
    for (std::size_t i = 0; i < curve.values.size(); ++i) {
      if (!std::isfinite(curve.values[i])) {
        end_line();
        continue;
      }
      line.emplace_back(x0 + kLeft + axis.at[i] * wide,
                        kTop + kHigh * (1 - curve.values[i] / most));
    }
    end_line();
    for (std::size_t i = 0; i < curve.values.size(); ++i) {
      if (!std::isfinite(curve.values[i]) || curve.style == "ideal") continue;
      svg.circle(
          x0 + kLeft + axis.at[i] * wide,
          kTop + kHigh * (1 - curve.values[i] / most), 3.2,
          "dot-" + curve.style,
          fmt::format("{} {}: {}", sweep.parameter, sweep.points[i].value,
                      value_text(panel, curve.values[i])));
    }
  }
}

std::vector<Panel> panels_of(const Sweep& sweep) {
  const std::vector<ScalingRow> rows = scaling_rows(sweep);
  Curve mfu{"a", "MFU", {}};
  Curve hfu{"b", "HFU", {}};
  Curve rate{"a", "this", {}};
  Curve ideal{"ideal", "ideal", {}};
  Curve efficiency{"a", "this", {}};
  Curve whole{"ideal", "ideal", {}};
  double first_rate = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const SweepPoint& point = sweep.points[i];
    const bool ok = point.error.empty();
    if (ok && first_rate == 0) first_rate = point.run.tokens_per_s;
    const auto value = [&](double v) { return ok ? std::max(v, 0.0) : NAN; };
    mfu.values.push_back(value(point.run.mfu));
    hfu.values.push_back(value(point.run.hfu));
    rate.values.push_back(value(point.run.tokens_per_s));
    ideal.values.push_back(value(rows[i].ideal * first_rate));
    efficiency.values.push_back(value(rows[i].efficiency));
    whole.values.push_back(value(1));
  }
  std::vector<Panel> out = {{"MFU and HFU", true, {hfu, mfu}},
                            {"Tokens per second", false, {ideal, rate}}};
  if (scaling_of(sweep) != Scaling::none) {
    out.push_back({"Scaling efficiency", true, {whole, efficiency}});
  }
  return out;
}

std::string draw(const Sweep& sweep, std::string_view style) {
  const std::vector<Panel> panels = panels_of(sweep);
  const Axis axis = x_axis(sweep);
  const double width = kPanel * static_cast<double>(panels.size());
  Svg svg(width, kHeight,
          "MFU, tokens per second and efficiency against " + sweep.parameter);
  if (!style.empty()) svg.rect(0, 0, width, kHeight, "page");
  for (std::size_t i = 0; i < panels.size(); ++i) {
    draw_panel(svg, kPanel * static_cast<double>(i), panels[i], axis, sweep);
  }
  return svg.finish(style);
}

std::string html_rows(const Sweep& sweep) {
  std::string out;
  const std::vector<ScalingRow> rows = scaling_rows(sweep);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const SweepPoint& point = sweep.points[i];
    const RunResult& run = point.run;
    out += "<tr><td class=\"l\">" + html(cell(point.value, 60)) + "</td>";
    if (!point.error.empty()) {
      out += "<td class=\"l wrap bad\" colspan=\"9\">" +
             html(cell(point.error, 1000)) + "</td></tr>\n";
      continue;
    }
    out += fmt::format(
        "<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2f}"
        "</td><td>{:.2f}</td><td>{}</td><td{}</td></tr>\n",
        thousands(run.gpus), human(run.step_time),
        short_count(run.tokens_per_s), percent(run.mfu), percent(run.hfu),
        rows[i].speedup, rows[i].ideal, percent(rows[i].efficiency),
        run.out_of_memory ? " class=\"bad\">out of memory" : ">fits");
  }
  return out;
}

}  // namespace

std::string sweep_svg(const Sweep& sweep) { return draw(sweep, chart_style()); }

std::string sweep_html(const Sweep& sweep) {
  const SweepPoint* first = sweep.points.empty() ? nullptr : &sweep.points[0];
  std::string title = "Sweep of " + cell(sweep.parameter, 60);
  if (first && !first->run.model.empty()) {
    title = cell(first->run.model, 60) + ": " + title;
  }
  std::string body = "<h1>" + html(title) + "</h1>\n";
  body +=
      "<p class=\"soft\">Ideal scaling (dashed) starts at the first "
      "point.</p>\n";
  body += draw(sweep, "");
  body += "<div class=\"scroll\"><table><thead><tr><th class=\"l\">" +
          html(cell(sweep.parameter, 60)) +
          "</th><th>GPUs</th><th>step</th><th>tokens/s</th><th>MFU</th>"
          "<th>HFU</th><th>speedup</th><th>ideal</th><th>efficiency</th>"
          "<th>memory</th></tr></thead><tbody>\n" +
          html_rows(sweep) + "</tbody></table></div>\n";
  return html_page(title, body);
}

}  // namespace troupe::results
