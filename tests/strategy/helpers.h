// What the tests of strategies share.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "clusters/read.h"
#include "models/read.h"
#include "strategy/convert.h"
#include "strategy/load.h"

namespace troupe::strategy {

/// Recorded strategies of other systems, absent in a plain checkout.
inline std::filesystem::path seeds() {
  const char* set = std::getenv("TROUPE_SHARED");
  const std::filesystem::path shared =
      set && *set ? set : TROUPE_SOURCE_DIR "/../shared";
  return shared / "seeds-data";
}

#define SKIP_WITHOUT_SEEDS()                                     \
  if (!std::filesystem::is_directory(troupe::strategy::seeds())) \
  GTEST_SKIP() << "no recorded strategies at " << troupe::strategy::seeds()

inline models::Model model_named(const std::string& name) {
  auto model = models::read_model(name);
  EXPECT_TRUE(model) << (model ? "" : model.error().message);
  return model.value_or(models::Model{});
}

inline clusters::Cluster cluster_named(const std::string& name) {
  auto cluster = clusters::read_cluster(name);
  EXPECT_TRUE(cluster) << (cluster ? "" : cluster.error().message);
  return cluster ? *std::move(cluster) : clusters::Cluster{};
}

/// The plan of a text, or the error's lines.
inline Result<Plan> load(const std::string& text,
                         const LoadOptions& options = {}) {
  return load_plan_text(text, "s.json", options);
}

inline std::string problem(const std::string& text,
                           const LoadOptions& options = {}) {
  const auto plan = load(text, options);
  return plan ? "accepted" : plan.error().message;
}

/// Every warning on a line.
inline std::string warnings(const Plan& plan) {
  std::string out;
  for (const Finding& f : plan.findings.all()) out += to_line(f) + "\n";
  return out;
}

/// Written and read again, a plan must be the same.
inline void expect_rereads_equal(const Plan& plan) {
  const std::string text = to_text(native_of(plan));
  const auto again = load_plan_text(text, "again.json", {});
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->strategy, plan.strategy);
}

inline std::vector<int> devices_of(const Stage& stage) {
  std::vector<int> out;
  for (const Member& member : stage.members) {
    for (const DeviceId d : member.devices) out.push_back(d.v);
  }
  return out;
}

}  // namespace troupe::strategy
