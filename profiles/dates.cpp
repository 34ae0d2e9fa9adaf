#include "profiles/dates.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>

namespace troupe::profiles {

bool is_date(std::string_view text) {
  // Positions of the pattern that end a shorter form.
  constexpr std::string_view kPattern = "dddd-dd-ddTdd:dd:ddZ";
  const bool zoned = text.ends_with('Z');
  const std::string_view digits =
      zoned ? text.substr(0, text.size() - 1) : text;
  const std::size_t n = digits.size();
  const bool timed = n == 16 || n == 19;
  if (!timed && (zoned || (n != 4 && n != 7 && n != 10))) return false;
  const auto number = [&](std::size_t at, std::size_t count) {
    int value = 0;
    for (std::size_t i = at; i < at + count; ++i) {
      value = value * 10 + (digits[i] - '0');
    }
    return value;
  };
  for (std::size_t i = 0; i < n; ++i) {
    const char c = digits[i];
    if (kPattern[i] == 'd' ? c < '0' || c > '9' : c != kPattern[i]) {
      return false;
    }
  }
  const int month = n >= 7 ? number(5, 2) : 1;
  const int day = n >= 10 ? number(8, 2) : 1;
  const std::chrono::year_month_day date{
      std::chrono::year(number(0, 4)),
      std::chrono::month(static_cast<unsigned>(month)),
      std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return false;
  return !timed || (number(11, 2) < 24 && number(14, 2) < 60 &&
                    (n == 16 || number(17, 2) < 60));
}

std::string utc(std::int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  if (gmtime_r(&time, &parts) == nullptr) return {};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                     parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

std::string date_of(const std::filesystem::path& file) {
  std::error_code error;
  const auto written = std::filesystem::last_write_time(file, error);
  if (error) return {};
  const auto since = std::chrono::file_clock::to_sys(written);
  return utc(
      std::chrono::duration_cast<std::chrono::seconds>(since.time_since_epoch())
          .count());
}

}  // namespace troupe::profiles
