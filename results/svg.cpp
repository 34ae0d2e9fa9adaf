#include "results/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "results/text.h"

namespace troupe::results {
namespace {

std::string number(double value) { return fixed(value, 2); }

std::string attributes(
    std::initializer_list<std::pair<const char*, double>> all) {
  std::string out;
  for (const auto& [name, value] : all) {
    out += fmt::format(" {}=\"{}\"", name, number(value));
  }
  return out;
}

/// "/>", or a tooltip and the end tag.
std::string close(std::string_view tag, std::string_view title) {
  if (title.empty()) return "/>\n";
  return fmt::format("><title>{}</title></{}>\n", html(title), tag);
}

}  // namespace

Svg::Svg(double width, double height, std::string_view label)
    : width_(width), height_(height), label_(label) {}

void Svg::rect(double x, double y, double width, double height,
               std::string_view style, std::string_view title) {
  body_ += fmt::format("<rect class=\"{}\"{}", style,
                       attributes({{"x", x},
                                   {"y", y},
                                   {"width", std::max(0.0, width)},
                                   {"height", std::max(0.0, height)}})) +
           close("rect", title);
}

void Svg::tile(double x, double y, double width, double height,
               std::string_view style, std::string_view fill,
               std::string_view title) {
  body_ += fmt::format("<rect class=\"{}\" style=\"fill:{}\"{}", style, fill,
                       attributes({{"x", x},
                                   {"y", y},
                                   {"width", std::max(0.0, width)},
                                   {"height", std::max(0.0, height)}})) +
           close("rect", title);
}

void Svg::line(double x1, double y1, double x2, double y2,
               std::string_view style) {
  body_ +=
      fmt::format("<line class=\"{}\"{}/>\n", style,
                  attributes({{"x1", x1}, {"y1", y1}, {"x2", x2}, {"y2", y2}}));
}

void Svg::text(double x, double y, std::string_view text,
               std::string_view style, std::string_view anchor) {
  body_ += fmt::format("<text class=\"{}\"{}{}>{}</text>\n", style,
                       attributes({{"x", x}, {"y", y}}),
                       anchor == "start"
                           ? std::string()
                           : fmt::format(" text-anchor=\"{}\"", anchor),
                       html(text));
}

void Svg::polyline(const std::vector<std::pair<double, double>>& points,
                   std::string_view style) {
  body_ += fmt::format("<polyline class=\"{}\" points=\"", style);
  for (const auto& [x, y] : points) {
    body_ += number(x) + "," + number(y) + " ";
  }
  body_ += "\"/>\n";
}

void Svg::circle(double x, double y, double radius, std::string_view style,
                 std::string_view title) {
  body_ += fmt::format("<circle class=\"{}\"{}", style,
                       attributes({{"cx", x}, {"cy", y}, {"r", radius}})) +
           close("circle", title);
}

void Svg::strip(double y, double height,
                const std::vector<std::pair<double, double>>& spans,
                std::string_view style) {
  body_ += fmt::format("<path class=\"{}\" d=\"", style);
  for (const auto& [x, width] : spans) {
    body_ += fmt::format("M{} {}h{}v{}H{}z", fixed(x, 1), fixed(y, 1),
                         fixed(std::max(width, 0.1), 1), fixed(height, 1),
                         fixed(x, 1));
  }
  body_ += "\"/>\n";
}

std::string Svg::finish(std::string_view style_sheet) const {
  std::string style;
  if (!style_sheet.empty()) {
    style = fmt::format("<style>{}</style>\n", style_sheet);
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" "
      "viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "aria-label=\"{2}\">\n{3}{4}</svg>\n",
      number(width_), number(height_), html(label_), style, body_);
}

std::vector<double> nice_ticks(double most, int count) {
  if (!(most > 0) || !std::isfinite(most)) return {0};
  const double rough = most / std::max(1, count);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> out;
  for (int i = 0; i * step <= most * 1.0001 && i < 100; ++i) {
    out.push_back(i * step);
  }
  return out;
}

std::string axis_time(double tick, double most) {
  if (most >= 1) return fixed(tick, 3) + " s";
  if (most >= 1e-3) return fixed(tick * 1e3, 3) + " ms";
  return fixed(tick * 1e6, 3) + " us";
}

std::string many_colour(int i) {
  // The golden angle keeps neighbours far apart on the colour circle; two
  // lightnesses tell those apart that come close.
  const int hue = static_cast<int>(std::fmod(i * 137.508 + 205, 360));
  return fmt::format("hsl({},{}%,{}%)", hue, i % 2 == 0 ? 62 : 48,
                     i % 2 == 0 ? 48 : 64);
}

std::string legend(
    const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string out = "<ul class=\"legend\">";
  for (const auto& [style, label] : entries) {
    // A style that is a colour of its own is not a class.
    const bool colour = style.find('(') != std::string::npos;
    out += fmt::format(
        "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect {}"
        "width=\"12\" height=\"12\"/></svg>{}</li>",
        colour ? fmt::format("style=\"fill:{}\" ", style)
               : fmt::format("class=\"{}\" ", style),
        html(label));
  }
  return out + "</ul>\n";
}

std::string html_page(std::string_view title, std::string_view body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n{}"
      "</main>\n</body>\n</html>\n",
      html(title), chart_style(), page_style(), body);
}

}  // namespace troupe::results
