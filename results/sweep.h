// One parameter swept over several values: table, CSV and charts.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "results/run.h"

namespace troupe::results {

/// The run of one value, or why there is none.
struct SweepPoint {
  std::string value;
  RunResult run = {};
  std::string error = {};  ///< empty when the run succeeded
};

/// `parameter` is what was swept: "gpus", "tp", "seq_len", ...
struct Sweep {
  std::string parameter;
  std::vector<SweepPoint> points;
};

/// How the work grows with the GPUs; decides what "ideal" means in words,
/// not in numbers.
enum class Scaling {
  none,    ///< the GPUs do not change
  weak,    ///< tokens per GPU stay the same
  strong,  ///< tokens per step stay the same
  mixed,
};

/// A point against the first one that succeeded.
///
/// Model: speedup = tokens/s over the first's; ideal = GPUs over the first's;
///        efficiency = speedup / ideal. In weak scaling that is t1 / tn, in
///        strong scaling t1 g1 / (tn gn).
struct ScalingRow {
  double speedup = 0;
  double ideal = 0;
  double efficiency = 0;
};

Scaling scaling_of(const Sweep& sweep);
/// One row per point; zeros where there is an error.
std::vector<ScalingRow> scaling_rows(const Sweep& sweep);

std::string sweep_table(const Sweep& sweep);
/// RFC 4180, numbers in full precision, one line per point; the first two
/// columns are `parameter` and `value`.
std::string sweep_csv(const Sweep& sweep);
Json sweep_json(const Sweep& sweep);

/// MFU, tokens/s with ideal scaling, and efficiency against the value; the x
/// axis is logarithmic for GPUs and for numbers that span a factor of 8, else
/// linear; values that are not numbers stand side by side.
std::string sweep_svg(const Sweep& sweep);
/// The charts and the table as one self-contained page.
std::string sweep_html(const Sweep& sweep);

/// Errors: input, for a name that ends in none of .csv, .json, .svg, .html.
Result<void> check_sweep_name(const std::filesystem::path& path);

/// Writes by the name's end: .csv, .json, .svg or .html.
///
/// Errors: input for another end; io with the system's reason.
Result<void> write_sweep(const std::filesystem::path& path, const Sweep& sweep);

}  // namespace troupe::results
