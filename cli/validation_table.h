// Errors of simulated against measured steps, as text and as JSON.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cli/validation_file.h"
#include "results/run.h"

namespace troupe::cli {

/// A case and its simulated step.
struct Validated {
  ValidationCase one;
  results::RunResult run;  ///< meaningful when `error` is empty
  std::string error;       ///< why it could not be simulated

  bool simulated() const { return error.empty(); }
  /// Both a simulated and a measured time.
  bool timed() const { return simulated() && one.seconds.has_value(); }
  /// simulated / measured - 1.
  ///
  /// Requires: timed().
  double time_error() const;
  /// Peak of the fullest device without the reserve, GiB.
  double peak_gib() const;
};

/// Errors of a set of cases; shares, not percent.
struct ErrorSummary {
  std::string name;
  int cases = 0;   ///< of any kind
  int broken = 0;  ///< that could not be simulated
  int timed = 0;
  double median = 0;       ///< of the error's size
  double mean_signed = 0;  ///< of the error
  double worst = 0;        ///< the largest in size, signed
  std::string worst_id;
  int memory = 0;            ///< with measured memory
  double memory_median = 0;  ///< of the size of the memory error
  double memory_mean = 0;    ///< signed
  int ran_fits = 0;          ///< agreement on memory: 2 x 2
  int ran_over = 0;
  int failed_over = 0;
  int failed_fits = 0;
};

ErrorSummary summarise_errors(const std::string& name,
                              std::span<const Validated* const> cases);

/// A line per case unless `brief`, a line per source, overall, memory.
std::string validation_text(const std::vector<Validated>& all, bool brief);

Json validation_json(const std::vector<Validated>& all);

}  // namespace troupe::cli
