// Repeated measurements of one key as one row: median, spread and count.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "profiles/gather.h"

namespace troupe::profiles {

/// The median; `values` must not be empty.
inline double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// Standard deviation around the mean, relative to it; 0 for one value.
inline double relative_spread(const std::vector<double>& values) {
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  const double spread =
      std::sqrt(squares / static_cast<double>(values.size())) / mean;
  return std::isfinite(spread) ? spread : 0;
}

/// The row with the median, spread and number of its times.
template <typename Row>
Row with_times(Row row, const std::vector<double>& seconds) {
  row.time_s = rounded(median_of(seconds), 9);
  row.spread = rounded(relative_spread(seconds), 3);
  row.samples = static_cast<int>(seconds.size());
  return row;
}

/// Rows without a time, each with the seconds measured for it.
template <typename Row>
class Repeats {
 public:
  void add(Row row, double seconds) {
    row.time_s = 0;
    std::string key;
    fields(row, [&](std::string_view, const auto& value, Need) {
      key += to_text(value) + ',';
    });
    rows_.try_emplace(std::move(key), std::move(row), std::vector<double>{})
        .first->second.second.push_back(seconds);
  }

  void add(const Repeats& other) {
    for (const auto& [key, entry] : other.rows_) {
      auto& times = rows_.try_emplace(key, entry.first, std::vector<double>{})
                        .first->second.second;
      times.insert(times.end(), entry.second.begin(), entry.second.end());
    }
  }

  /// The rows, in a stable order, refused ones with `where`.
  void into(Gather& gather, const std::string& where) const {
    for (const auto& [key, entry] : rows_) {
      gather.add(with_times(entry.first, entry.second), where);
    }
  }
  bool empty() const { return rows_.empty(); }

 private:
  std::map<std::string, std::pair<Row, std::vector<double>>> rows_;
};

}  // namespace troupe::profiles
