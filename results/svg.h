// Small pieces of SVG and HTML, escaped here and nowhere else. Colours and
// fonts come from the style sheet, by class.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::results {

/// A picture being drawn, in units of its viewBox, y downwards.
class Svg {
 public:
  /// `label` describes the picture to a reader who cannot see it.
  Svg(double width, double height, std::string_view label);

  /// Style names come from the program, `title` (a tooltip) and texts from
  /// anywhere. Sizes below zero count as zero.
  void rect(double x, double y, double width, double height,
            std::string_view style, std::string_view title = {});
  /// The same with a colour of its own.
  void tile(double x, double y, double width, double height,
            std::string_view style, std::string_view fill,
            std::string_view title);
  void line(double x1, double y1, double x2, double y2, std::string_view style);
  /// `anchor` is "start", "middle" or "end".
  void text(double x, double y, std::string_view text, std::string_view style,
            std::string_view anchor = "start");
  void polyline(const std::vector<std::pair<double, double>>& points,
                std::string_view style);
  void circle(double x, double y, double radius, std::string_view style,
              std::string_view title);
  /// Many rectangles of one style as one path, without tooltips. `spans` are
  /// (x, width).
  void strip(double y, double height,
             const std::vector<std::pair<double, double>>& spans,
             std::string_view style);

  /// The whole element; `style_sheet` is put inside when the picture is a
  /// file of its own.
  std::string finish(std::string_view style_sheet = {}) const;

 private:
  double width_, height_;
  std::string label_;
  std::string body_;
};

/// Round values that divide [0, most] into about `count` parts; at least one.
std::vector<double> nice_ticks(double most, int count);

/// A time on an axis that reaches to `most` seconds: "0.5 s", one unit for
/// all.
std::string axis_time(double tick, double most);

/// A colour for the i-th of many things; neighbours differ well.
std::string many_colour(int i);

/// A row of coloured squares with words: (style, label) pairs.
std::string legend(
    const std::vector<std::pair<std::string, std::string>>& entries);

/// Colours, for light, dark and printed pages: of charts, and of the page.
std::string_view chart_style();
std::string_view page_style();

/// A whole page; `title` is escaped, `body` is not.
std::string html_page(std::string_view title, std::string_view body);

}  // namespace troupe::results
