#include "base/findings.h"

#include <fmt/format.h>

namespace troupe {

void Findings::error(std::string where, std::string message) {
  add({Severity::error, std::move(where), std::move(message)});
  ++errors_;
}

void Findings::warning(std::string where, std::string message) {
  add({Severity::warning, std::move(where), std::move(message)});
}

void Findings::append(const Findings& more) {
  for (const Finding& finding : more.all_) add(finding);
  errors_ += more.errors_;
}

void Findings::add(Finding finding) {
  // An error is never lost to earlier warnings.
  const bool only_error = finding.severity == Severity::error && errors_ == 0;
  if (all_.size() < kMostKept || only_error) {
    all_.push_back(std::move(finding));
  }
}

std::vector<Finding> Findings::warnings() const {
  std::vector<Finding> out;
  for (const Finding& f : all_) {
    if (f.severity == Severity::warning) out.push_back(f);
  }
  return out;
}

Error Findings::to_error(Fault fault) const {
  constexpr std::size_t kMost = 20;
  std::string text;
  std::size_t shown = 0;
  for (const Finding& f : all_) {
    if (f.severity != Severity::error) continue;
    if (shown == kMost) break;
    if (shown > 0) text += '\n';
    text += to_line(f);
    ++shown;
  }
  if (errors_ > shown) {
    text += fmt::format("\n... and {} more", errors_ - shown);
  }
  return {fault, text};
}

std::string to_line(const Finding& finding) {
  if (finding.where.empty()) return finding.message;
  return fmt::format("{}: {}", finding.where, finding.message);
}

}  // namespace troupe
