// What every reader fills: checked rows by source, and the refused ones with
// their place and reason.
#pragma once

#include <fmt/format.h>

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "profiles/rows.h"

namespace troupe::profiles {

class Gather {
 public:
  /// Refused rows beyond this many are counted, not described.
  static constexpr std::size_t kMostShown = 50;

  explicit Gather(const std::vector<DeviceName>& known) {
    for (const DeviceName& device : known) known_.insert(device.name);
  }

  /// Begins the rows of one source.
  void begin(Source source) {
    sections.emplace_back().source = std::move(source);
  }
  void declare(DeviceName device) {
    known_.insert(device.name);
    sections.back().devices.push_back(std::move(device));
  }

  /// Takes a row of the source begun last, or refuses it. `where` is
  /// "file:12" or "file: /json/path".
  template <typename Row>
  void add(Row row, std::string_view where) {
    if (!known_.contains(row.device)) return reject(where, unknown(row.device));
    if (const auto problem = problem_of(row)) return reject(where, *problem);
    sections.back().rows<Row>().push_back(std::move(row));
  }

  void reject(std::string_view where, std::string_view reason) {
    ++rejected;
    if (first.size() < kMostShown) {
      first.push_back(fmt::format("{}: {}", where, reason));
    }
  }

  std::vector<Section> sections;
  int rejected = 0;
  std::vector<std::string> first;
  std::string file_hash;  ///< of the file read last
  std::string note;       ///< what there is to say of the file as a whole

 private:
  std::string unknown(const std::string& device) const;

  std::set<std::string> known_;
};

}  // namespace troupe::profiles
