// Several problems of one input, gathered and reported together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace troupe {

enum class Severity : std::uint8_t { warning, error };

/// One problem: where (file and JSON path), what, and the way out.
struct Finding {
  Severity severity = Severity::error;
  std::string where;
  std::string message;
  bool operator==(const Finding&) const = default;
};

/// A list of findings in the order they were met. Hostile input may have
/// millions of problems: only the first thousand are kept, all are counted.
class Findings {
 public:
  void error(std::string where, std::string message);
  void warning(std::string where, std::string message);
  void append(const Findings& more);

  /// True while no error was added; warnings do not count.
  bool ok() const { return errors_ == 0; }
  const std::vector<Finding>& all() const { return all_; }
  std::vector<Finding> warnings() const;

  /// All errors as one Error, a line each (at most 20, then a count).
  Error to_error(Fault fault = Fault::input) const;

 private:
  static constexpr std::size_t kMostKept = 1000;
  void add(Finding finding);

  std::vector<Finding> all_;
  std::size_t errors_ = 0;
};

/// "where: message".
std::string to_line(const Finding& finding);

}  // namespace troupe
