#include "measure/shapes.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "models/read.h"

namespace troupe::measure {
namespace {

using kernels::OpKind;

Range range_of(const char* model) {
  Range range;
  range.models.push_back(*models::read_model(model));
  range.seq_len = {1024};
  return range;
}

const Wanted* find(const std::vector<Wanted>& list,
                   const kernels::OpShape& op) {
  const auto at = std::ranges::find(list, op, &Wanted::op);
  return at == list.end() ? nullptr : &*at;
}

TEST(WantedOperators, HoldTheProductsOfALlamaLayerAtEachDegree) {
  Range range = range_of("llama-7b");
  range.tp = {1, 4};
  const auto wanted = wanted_operators(range);
  // The fused QKV product of 1024 tokens: 3 x 4096 columns, a quarter at tp 4.
  const auto whole = kernels::gemm(1024, 12288, 4096, kernels::DType::bf16);
  const auto quarter = kernels::gemm(1024, 3072, 4096, kernels::DType::bf16);
  ASSERT_TRUE(find(wanted, whole));
  ASSERT_TRUE(find(wanted, quarter));
  // Once per layer, 32 layers.
  EXPECT_EQ(find(wanted, whole)->uses, 32);
}

TEST(WantedOperators, AreDistinctAndOfEveryKindThatALayerUses) {
  const auto wanted = wanted_operators(range_of("llama-7b"));
  std::set<kernels::OpShape> shapes;
  std::set<OpKind> kinds;
  for (const Wanted& w : wanted) {
    EXPECT_TRUE(shapes.insert(w.op).second) << to_string(w.op);
    EXPECT_GT(w.uses, 0);
    kinds.insert(w.op.kind);
  }
  for (const OpKind kind :
       {OpKind::gemm, OpKind::attention_forward, OpKind::attention_backward,
        OpKind::norm_forward, OpKind::norm_backward, OpKind::rotary,
        OpKind::activation_forward, OpKind::activation_backward, OpKind::add,
        OpKind::embedding_forward, OpKind::embedding_backward,
        OpKind::cross_entropy_forward, OpKind::cross_entropy_backward,
        OpKind::gradient_norm, OpKind::optimizer}) {
    EXPECT_TRUE(kinds.contains(kind)) << name_of(kind);
  }
}

TEST(WantedOperators, LeaveOutDegreesThatDoNotDivideTheHeads) {
  Range range = range_of("llama-7b");  // 32 heads
  range.tp = {3};
  EXPECT_THAT(wanted_operators(range), testing::IsEmpty());
}

TEST(WantedLayers, AreForwardAndBackwardOnOneDevice) {
  Range range = range_of("llama-7b");
  range.tp = {1, 2, 4};
  range.seq_len = {512, 1024};
  const auto layers = wanted_layers(range);
  ASSERT_EQ(layers.size(), 4);
  for (const WantedLayer& layer : layers) {
    EXPECT_EQ(layer.key.tp, 1);
    EXPECT_EQ(layer.key.hidden, 4096);
    EXPECT_GT(layer.operators.size(), 8);
  }
  EXPECT_FALSE(layers[0].key.backward);
  EXPECT_TRUE(layers[1].key.backward);
}

TEST(ProductOf, IsReadFromTheName) {
  EXPECT_EQ(product_of("qkv"), Product::forward);
  EXPECT_EQ(product_of("qkv.input_gradient"), Product::input_gradient);
  EXPECT_EQ(product_of("mlp_up.weight_gradient"), Product::weight_gradient);
}

}  // namespace
}  // namespace troupe::measure
