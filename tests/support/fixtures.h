// Small models, clusters and strategies made in code, and a cost model whose
// numbers can be worked out by hand.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "clusters/read.h"
#include "models/model.h"
#include "profiles/cost.h"
#include "strategy/strategy.h"

namespace troupe::test {

/// Operators take their FLOPs at `flop_rate` plus nothing; links run at
/// their nominal speed with no overhead.
class FlatCosts : public profiles::CostModel {
 public:
  double flop_rate = 1e14;
  double byte_rate = 1e12;
  Time least = {};

  profiles::Cost operator_cost(const kernels::OpShape& op,
                               const clusters::DeviceKind&) const override {
    const double s = kernels::flops(op).v / flop_rate +
                     static_cast<double>(kernels::traffic(op).v) / byte_rate;
    return {std::max(seconds(s), least), 0, profiles::Provenance::roofline};
  }
  std::optional<profiles::Cost> layer_cost(
      const profiles::LayerKey&, const clusters::DeviceKind&) const override {
    return {};
  }
  profiles::LinkEfficiency link_efficiency(clusters::LinkClass) const override {
    return {1.0, {}, "test"};
  }
  std::optional<profiles::Cost> collective_cost(
      clusters::Collective, int, int, Bytes,
      const clusters::DeviceKind&) const override {
    return {};
  }
  std::string content_hash() const override { return "flat"; }
};

inline models::Model tiny_model(int layers = 8) {
  models::Model m;
  m.name = "tiny";
  m.layers = layers;
  m.hidden = 256;
  m.heads = 16;
  m.kv_heads = 16;
  m.head_dim = 16;
  m.ffn = 512;
  m.vocab = 1024;
  m.seq_len = 128;
  return m;
}

inline clusters::Cluster cluster_of(const std::string& text) {
  auto cluster = clusters::read_cluster(text);
  EXPECT_TRUE(cluster.has_value()) << (cluster ? "" : cluster.error().message);
  return cluster ? *cluster : clusters::Cluster{};
}

struct Degrees {
  int dp = 1, tp = 1, cp = 1, pp = 1, chunks = 1;
  int micro_batches = 4;
  int micro_batch_size = 1;
};

/// Equal pipelines on devices 0, 1, 2, ...: pipeline by pipeline, stage by
/// stage, member by member.
inline strategy::Strategy strategy_of(const models::Model& model,
                                      const Degrees& d) {
  strategy::Strategy s;
  s.name = "test";
  s.seq_len = model.seq_len;
  if (d.chunks > 1) s.schedule = strategy::ScheduleKind::interleaved;
  strategy::Phase phase;
  phase.name = "main";
  int device = 0;
  const int virtual_stages = d.pp * d.chunks;
  for (int p = 0; p < d.dp; ++p) {
    strategy::Pipeline pipeline;
    pipeline.micro_batches = d.micro_batches;
    pipeline.micro_batch_size = d.micro_batch_size;
    for (int stage = 0; stage < d.pp; ++stage) {
      strategy::Stage out;
      for (int m = 0; m < d.cp; ++m) {
        strategy::Member member;
        member.share = 1.0 / d.cp;
        for (int t = 0; t < d.tp; ++t) {
          member.devices.push_back(clusters::DeviceId{device++});
        }
        out.members.push_back(std::move(member));
      }
      for (int c = 0; c < d.chunks; ++c) {
        const int v = c * d.pp + stage;
        out.chunks.push_back({model.layers * v / virtual_stages,
                              model.layers * (v + 1) / virtual_stages});
      }
      pipeline.stages.push_back(std::move(out));
    }
    phase.pipelines.push_back(std::move(pipeline));
  }
  s.phases.push_back(std::move(phase));
  return s;
}

}  // namespace troupe::test
