// What the tests of elastic runs share: small random strategies and traces,
// and a machine whose step times are given.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>

#include "runs/elastic_run.h"
#include "strategy/load.h"
#include "tests/support/dice.h"

namespace troupe::runs {

using test::Dice;

inline constexpr int kLayers = 4;
/// Odd sizes, so that nothing divides evenly; tables small enough to look at
/// every element.
inline constexpr const char* kModel =
    R"({"format": "troupe.model/1", "name": "tiny", "layers": 4, "hidden": 24,
        "heads": 4, "kv_heads": 2, "head_dim": 3, "ffn": 20, "vocab": 37,
        "seq_len": 64, "tied_embeddings": %TIED%})";
inline constexpr const char* kCluster =
    "4 x h100-sxm per node, 400 Gbit/s per GPU, 4 nodes";
inline constexpr int kDevices = 16;

inline std::string model_text(bool tied) {
  std::string text = kModel;
  text.replace(text.find("%TIED%"), 6, tied ? "true" : "false");
  return text;
}

/// "pipelines": random stages on random devices of `devices`, at least one
/// pipeline; empty without devices.
inline std::string random_pipelines(Dice& dice, std::vector<int> devices,
                                    int most_pipelines = 3) {
  dice.shuffle(devices);
  std::size_t next = 0;
  std::string out;
  const int pipelines = 1 + dice.below(most_pipelines);
  for (int p = 0; p < pipelines; ++p) {
    std::string stages;
    for (int layer = 0; layer < kLayers;) {
      const int layers =
          layer + 1 == kLayers ? 1 : 1 + dice.below(kLayers - layer);
      std::size_t tp = std::size_t{1} << dice.below(3);
      while (tp > 1 && next + tp > devices.size()) tp /= 2;
      if (next + tp > devices.size()) break;
      std::vector<int> mine(
          devices.begin() + static_cast<std::ptrdiff_t>(next),
          devices.begin() + static_cast<std::ptrdiff_t>(next + tp));
      next += tp;
      stages += fmt::format(R"({}{{"devices": [{}], "layers": {}}})",
                            stages.empty() ? "" : ", ", fmt::join(mine, ", "),
                            layers);
      layer += layers;
      if (layer == kLayers) {
        out += fmt::format(R"({}{{"micro_batches": {}, "stages": [{}]}})",
                           out.empty() ? "" : ", ", 1 + dice.below(4), stages);
      }
    }
  }
  if (out.empty() && !devices.empty()) {
    out = fmt::format(R"({{"stages": [{{"devices": [{}], "layers": {}}}]}})",
                      devices[0], kLayers);
  }
  return out;
}

struct Small {
  Candidate candidate;
  models::Model model;
  clusters::Cluster cluster;
};

inline Small small_of(const std::string& pipelines, int zero, bool tied,
                      const std::string& dtype, bool sequence_parallel) {
  if (pipelines.empty()) return {};
  const std::string text = fmt::format(
      R"({{"format": "troupe.strategy/1", "zero": {}, "dtype": "{}",
           "sequence_parallel": {}, "model": {}, "cluster": "{}",
           "pipelines": [{}]}})",
      zero, dtype, sequence_parallel, model_text(tied), kCluster, pipelines);
  const auto plan = strategy::load_plan_text(text, "s.json", {});
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().message) << text;
  Small out;
  if (!plan) return out;
  out.candidate.name = "s";
  out.candidate.strategy = plan->strategy;
  out.candidate.devices = strategy::used_devices(plan->strategy.phases[0]);
  out.model = plan->model;
  out.cluster = plan->cluster;
  return out;
}

inline std::vector<int> all_devices() {
  std::vector<int> out(kDevices);
  std::iota(out.begin(), out.end(), 0);
  return out;
}

/// Steps of the length that `seconds_of` names for a strategy, times the
/// slowest factor of its devices; 1000 tokens each.
inline Machinery fake(std::map<std::string, double> seconds_of,
                      double fallback = 10) {
  return {
      .step = [seconds_of, fallback](
                  const Candidate& c, const clusters::Cluster&,
                  const Condition& condition) -> Result<StepPerformance> {
        const auto known = seconds_of.find(c.name);
        double s = known == seconds_of.end() ? fallback : known->second;
        double slowest = 1;
        for (const DeviceId d : c.devices) {
          slowest = std::max(slowest, condition.device_slower[d.at()]);
        }
        return StepPerformance{.step = seconds(s * slowest),
                               .tokens = 1000,
                               .model_flops = 1e12,
                               .mfu = 0.5,
                               .out_of_memory = false,
                               .memory = {}};
      },
      .rates = [](const clusters::Cluster& cluster) -> Result<reshard::Rates> {
        return reshard::rates_of(cluster);
      }};
}

enum class Events { all, only_losses };

/// A random trace of small strategies; events that can happen.
inline std::string random_trace(Dice& dice, int most_events,
                                Events events_of = Events::all) {
  std::string strategies;
  std::vector<std::vector<int>> sets;
  std::vector<int> alive = all_devices();
  std::string events;
  double at = 0;
  const int count = dice.below(most_events + 1);
  sets.push_back(alive);
  std::vector<int> gone;
  for (int i = 0; i < count; ++i) {
    at += 1 + dice.below(200) + 0.25 * dice.below(4);
    const bool all = events_of == Events::all;
    const bool back = all && !gone.empty() && dice.one_in(3);
    const bool slow = all && !back && !alive.empty() && dice.one_in(4);
    if (alive.empty() && !back) break;
    std::vector<int>& from = back ? gone : alive;
    const auto pick =
        static_cast<std::size_t>(dice.below(static_cast<int>(from.size())));
    const int device = from[pick];
    events += fmt::format(
        R"({}{{"at_s": {}, "kind": "{}", "devices": [{}]{}}})",
        events.empty() ? "" : ", ", at,
        back   ? "back"
        : slow ? "slowed"
               : "lost",
        device,
        slow ? fmt::format(R"(, "factor": {})", 1 + dice.below(3)) : "");
    if (slow) continue;
    from.erase(from.begin() + static_cast<std::ptrdiff_t>(pick));
    (back ? alive : gone).push_back(device);
    sets.push_back(alive);
  }
  for (const auto& set : sets) {
    const std::string pipelines = random_pipelines(dice, set, 2);
    if (pipelines.empty()) continue;
    strategies += fmt::format(R"({}{{"name": "s{}", "strategy": {{"zero": {},
                          "pipelines": [{}]}}}})",
                              strategies.empty() ? "" : ", ", strategies.size(),
                              dice.below(4), pipelines);
  }
  const std::string checkpoint = fmt::format(
      R"(, "checkpoint": {{"every_steps": {}, "write_gbytes_per_s": 0.001,
                           "latency_s": {}}})",
      1 + dice.below(9), dice.below(7));
  return fmt::format(
      R"({{"format": "troupe.trace/1", "model": {}, "cluster": "{}",
           "until_s": {}, "strategies": [{}], "events": [{}],
           "options": {{"peers": {}, "detection_s": {}, "regroup_s": {}{}}}}})",
      model_text(false), kCluster, at + 1 + dice.below(400), strategies, events,
      dice.below(3), 1 + dice.below(20), dice.below(30),
      dice.one_in(4) ? "" : checkpoint);
}

/// A step time for each strategy, the same for the same name.
inline Machinery random_machine(Dice& dice) {
  std::map<std::string, double> times;
  for (int i = 0; i < 4000; ++i) {
    times[fmt::format("s{}", i)] = 1 + 0.125 * dice.below(80);
  }
  return fake(times, 7.5);
}

}  // namespace troupe::runs
