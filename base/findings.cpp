#include "base/findings.h"

#include <fmt/format.h>

namespace troupe {

void Findings::error(std::string where, std::string message) {
  all_.push_back({Severity::error, std::move(where), std::move(message)});
  ++errors_;
}

void Findings::warning(std::string where, std::string message) {
  all_.push_back({Severity::warning, std::move(where), std::move(message)});
}

void Findings::append(const Findings& more) {
  all_.insert(all_.end(), more.all_.begin(), more.all_.end());
  errors_ += more.errors_;
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
    if (shown == kMost) {
      text += fmt::format("\n... and {} more", errors_ - kMost);
      break;
    }
    if (shown > 0) text += '\n';
    text += to_line(f);
    ++shown;
  }
  return {fault, text};
}

std::string to_line(const Finding& finding) {
  if (finding.where.empty()) return finding.message;
  return fmt::format("{}: {}", finding.where, finding.message);
}

}  // namespace troupe
