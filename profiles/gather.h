// What every reader fills: checked rows by source, and the refused ones with
// their place and reason.
#pragma once

#include <fmt/format.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "clusters/kinds.h"
#include "profiles/plausible.h"
#include "profiles/rows.h"

namespace troupe::profiles {

struct RankTrace;

class Gather {
 public:
  /// Refused rows beyond this many are counted, not described.
  static constexpr std::size_t kMostShown = 50;

  /// Rows of `kinds` are held against what they can do.
  explicit Gather(const std::vector<DeviceName>& known,
                  const clusters::KindTable& kinds = {});
  Gather(Gather&&) noexcept;
  Gather& operator=(Gather&&) noexcept;
  ~Gather();

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
    if constexpr (requires(clusters::DeviceKind k) { problem_on(row, k); }) {
      const auto kind = kinds_.find(row.device);
      if (kind != kinds_.end()) {
        if (const auto problem = problem_on(row, kind->second)) {
          return reject(where, *problem);
        }
      }
    }
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
  std::string note;  ///< what there is to say of the file as a whole
  /// The trace of one rank of several, whose rows are not added yet: they may
  /// be merged with those of the other ranks.
  std::unique_ptr<RankTrace> trace;

 private:
  std::string unknown(const std::string& device) const;

  std::set<std::string> known_;
  std::map<std::string, clusters::DeviceKind> kinds_;
};

}  // namespace troupe::profiles
