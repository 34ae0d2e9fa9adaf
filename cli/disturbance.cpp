#include "cli/disturbance.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "base/text.h"
#include "strategy/device_set.h"

namespace troupe::cli {
namespace {

constexpr double kLeastFactor = 0.01;
constexpr double kMostFactor = 1000;

/// A finite number that fills the text.
std::optional<double> number(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || !std::isfinite(value)) return {};
  return value;
}

Result<double> noise_of(const std::string& text) {
  const bool percent = text.ends_with('%');
  const auto value = number(percent ? text.substr(0, text.size() - 1)
                                    : std::string_view(text));
  const double share = value.value_or(-1) / (percent ? 100 : 1);
  if (share >= 0 && share < 1) return share;
  return fail(Fault::input,
              fmt::format("--noise {}: expected a share of each time, from 0 "
                          "to below 100%, such as 5% or 0.05",
                          excerpt(text)));
}

Result<void> add_slow(const std::string& text, const clusters::Cluster& cluster,
                      schedule::Disturbance& out) {
  const auto bad = [&](const std::string& why) {
    return fail(Fault::input, fmt::format("--slow {}: {}", excerpt(text), why));
  };
  const auto colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return bad("expected DEVICES:FACTOR, such as 3:1.3 or 0-7:1.3");
  }
  const auto factor = number(std::string_view(text).substr(colon + 1));
  if (!factor || *factor < kLeastFactor || *factor > kMostFactor) {
    return bad(fmt::format("expected a factor from {} to {}", kLeastFactor,
                           kMostFactor));
  }
  Findings findings;
  const strategy::DeviceSet set =
      strategy::parse_devices(text.substr(0, colon), "--slow", findings);
  if (!findings.ok()) return fail(findings.to_error());
  for (const clusters::DeviceId d : set.devices) {
    if (!d || d.at() >= cluster.devices.size()) {
      return bad(fmt::format("cluster {} has devices 0 to {}, not {}",
                             cluster.name, cluster.devices.size() - 1, d.v));
    }
    if (!out.slower.emplace(d, *factor).second) {
      return bad(fmt::format("device {} is named twice", d.v));
    }
  }
  return {};
}

}  // namespace

void add_disturbance_options(CLI::App& command, DisturbanceOptions& o) {
  command.add_option("--noise", o.noise,
                     "Noise of every operator and message: 5% draws each time "
                     "evenly from 95 to 105% of its price");
  command.add_option("--noise-seed", o.seed, "Of the noise (default 1)");
  command.add_option("--slow", o.slow,
                     "DEVICES:FACTOR, devices whose computing operators take "
                     "FACTOR times as long: 3:1.3, 0-7:1.3");
}

Result<std::optional<schedule::Disturbance>> disturbance_of(
    const DisturbanceOptions& o, const clusters::Cluster& cluster) {
  if (!o.any()) return std::nullopt;
  schedule::Disturbance out;
  out.seed = o.seed;
  if (!o.noise.empty()) {
    TRY(out.noise, noise_of(o.noise));
  }
  for (const std::string& text : o.slow) {
    TRY_DO(add_slow(text, cluster, out));
  }
  if (out.none()) return std::nullopt;
  return out;
}

void append(const DisturbanceOptions& o, std::vector<std::string>& command) {
  if (!o.noise.empty()) command.insert(command.end(), {"--noise", o.noise});
  if (o.seed != 1) {
    command.insert(command.end(), {"--noise-seed", std::to_string(o.seed)});
  }
  for (const std::string& text : o.slow) {
    command.insert(command.end(), {"--slow", text});
  }
}

}  // namespace troupe::cli
