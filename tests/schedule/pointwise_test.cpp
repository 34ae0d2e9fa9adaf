#include <gtest/gtest.h>

#include <string>

#include "schedule/check.h"
#include "schedule/lower.h"
#include "tests/support/fixtures.h"

namespace troupe::schedule {
namespace {

Schedule lowered_on_a_node(const strategy::Strategy& s,
                           const models::Model& model) {
  auto schedule =
      lower(s, s.phases[0], model, test::cluster_of("8 x h100-sxm per node"));
  EXPECT_TRUE(schedule.has_value());
  return std::move(*schedule);
}

Bytes moved(const Schedule& schedule, const std::string& beginning) {
  for (const Block& block : schedule.blocks) {
    if (!block.name.starts_with(beginning)) continue;
    Bytes sum;
    for (const Operator& op : block.operators) {
      if (!op.communicates) sum += kernels::traffic(op.shape);
    }
    return sum;
  }
  ADD_FAILURE() << beginning;
  return {};
}

/// Bytes a layer moves beyond those of fused kernels.
std::int64_t extra(strategy::Pointwise pointwise, const std::string& block) {
  const models::Model model = test::tiny_model();
  strategy::Strategy s = test::strategy_of(model, {.dp = 2});
  const Bytes fused = moved(lowered_on_a_node(s, model), block);
  s.pointwise = pointwise;
  const Schedule schedule = lowered_on_a_node(s, model);
  EXPECT_TRUE(check_schedule(schedule, nullptr, {}).ok());
  return (moved(schedule, block) - fused).v;
}

// T = 128 tokens, h = 256, f = 512, 16 heads of 16 for queries and as many
// for keys, P = 4 h^2 + 3 h f + 2 h parameters.
constexpr std::int64_t kTh = 128 * 256, kTf = 128 * 512;
constexpr std::int64_t kParameters = 4 * 256 * 256 + 3 * 256 * 512 + 2 * 256;

// Forward: three copies of queries and keys, one of the gated half; 4 bytes
// an element.
TEST(Pointwise, EagerKernelsGoThroughMemory) {
  EXPECT_EQ(extra(strategy::Pointwise::fused, "layer.forward"), 0);
  EXPECT_EQ(extra(strategy::Pointwise::eager, "layer.forward"),
            3 * 4 * 2 * kTh + 4 * kTf);
  // Backward: the same of the rotation, two copies of the gate's half, the
  // joined gradient of 3 h columns, both norms' weights.
  EXPECT_EQ(extra(strategy::Pointwise::eager, "layer.backward"),
            3 * 4 * 2 * kTh + 2 * 4 * kTf + 4 * 3 * kTh + 2 * 4 * kTh);
}

// Automatic mixed precision: besides, a cast (6 bytes) before both norms,
// 4 more bytes at both sums, a cast of every parameter.
TEST(Pointwise, AutocastCastsParametersAndResiduals) {
  EXPECT_EQ(extra(strategy::Pointwise::autocast, "layer.forward") -
                extra(strategy::Pointwise::eager, "layer.forward"),
            2 * 6 * kTh + 2 * 4 * kTh + 6 * kParameters);
  EXPECT_EQ(extra(strategy::Pointwise::autocast, "layer.backward") -
                extra(strategy::Pointwise::eager, "layer.backward"),
            2 * 3 * 6 * kTh + 6 * kParameters);
}

// A measured decoder layer must not price an encoder layer, nor the reverse.
TEST(LayerKeys, SayWhetherALayerAttendsToAnEncoder) {
  models::Model model = test::tiny_model();
  model.encoder_layers = 4;
  const Schedule s =
      lowered_on_a_node(test::strategy_of(model, {.dp = 2}), model);
  int crossing = 0, plain = 0;
  for (const Block& block : s.blocks) {
    if (!block.name.starts_with("layer.")) continue;
    EXPECT_TRUE(block.has_key) << block.name;
    ++(block.key.cross ? crossing : plain);
  }
  EXPECT_EQ(crossing, 2);  // forward and backward
  EXPECT_EQ(plain, 2);
}

}  // namespace
}  // namespace troupe::schedule
