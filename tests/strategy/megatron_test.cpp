#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/strategy/helpers.h"

namespace troupe::strategy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

LoadOptions megatron(const std::string& model = "",
                     const std::string& cluster = "") {
  LoadOptions options;
  options.from = "megatron";
  options.model = model;
  options.cluster = cluster;
  return options;
}

/// The model part of GPT-3 175B as a script would give it.
constexpr const char* kGpt3 =
    "torchrun --nproc_per_node 8 --nnodes 128 pretrain_gpt.py \\\n"
    "  --num-layers 96 --hidden-size 12288 --num-attention-heads 96 \\\n"
    "  --seq-length 2048 --max-position-embeddings 2048 --bf16 \\\n"
    "  --vocab-size 51200 --lr 6.0e-5  # a comment\n";

TEST(Megatron, AScriptBecomesAGrid) {
  const auto plan =
      load(std::string(kGpt3) +
               "MODEL_PARALLEL_ARGS=(\n --tensor-model-parallel-size 8\n"
               " --pipeline-model-parallel-size 8\n --sequence-parallel\n"
               " --use-distributed-optimizer --micro-batch-size 1"
               " --global-batch-size=512 )\n",
           megatron());
  ASSERT_TRUE(plan) << plan.error().message;
  const Strategy& s = plan->strategy;
  EXPECT_EQ(plan->model.hidden, 12288);
  EXPECT_EQ(plan->model.ffn, 4 * 12288);
  EXPECT_TRUE(plan->model.tied_embeddings);
  EXPECT_EQ(plan->cluster.devices.size(), 1024u);
  const auto& pipelines = s.phases[0].pipelines;
  ASSERT_EQ(pipelines.size(), 16u);
  // 512 sequences over dp 16.
  EXPECT_EQ(pipelines[0].micro_batches, 32);
  // rank = tp + 8 (dp + 16 pp).
  EXPECT_EQ(pipelines[3].stages[2].members[0].devices[5],
            DeviceId{5 + 8 * (3 + 16 * 2)});
  EXPECT_EQ(s.zero, Zero::one);
  EXPECT_TRUE(s.sequence_parallel);
  EXPECT_THAT(warnings(*plan), HasSubstr("1024 H100"));
  expect_rereads_equal(*plan);
}

TEST(Megatron, InterleavingUnevenStagesAndRecomputation) {
  const auto plan = load(
      R"({"tensor_model_parallel_size": 2, "pipeline_model_parallel_size": 4,
          "num_virtual_stages_per_pipeline_rank": 2, "global_batch_size": 8,
          "recompute_granularity": "full", "recompute_method": "block",
          "recompute_num_layers": 1, "bf16": true})",
      megatron("llama-7b", "a800-8"));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->strategy.schedule, ScheduleKind::interleaved);
  // 8 virtual stages of 4 layers, the first of each recomputed.
  EXPECT_THAT(plan->strategy.recompute.layers,
              testing::UnorderedElementsAre(0, 4, 8, 12, 16, 20, 24, 28));
  const auto uneven = load(
      "--pipeline-model-parallel-size 4 --tensor-model-parallel-size 2 --bf16 "
      "--decoder-first-pipeline-num-layers 6 "
      "--decoder-last-pipeline-num-layers 4",
      megatron("llama-7b", "a800-8"));
  ASSERT_TRUE(uneven) << uneven.error().message;
  std::vector<int> counts;
  for (const Stage& stage : uneven->strategy.phases[0].pipelines[0].stages) {
    counts.push_back(stage.layers());
  }
  EXPECT_THAT(counts, ElementsAre(6, 11, 11, 4));
}

TEST(Megatron, MistakesAreNamed) {
  const auto with = [](const std::string& arguments) {
    return problem(arguments, megatron("llama-7b", "a800-8"));
  };
  EXPECT_THAT(with("--tensor-model-parallel-size 3"),
              HasSubstr("/world-size: 8 ranks are not a multiple of tp 3"));
  EXPECT_THAT(with("--bf16 --pipeline-model-parallel-size 8 --num-layers 33"),
              HasSubstr("/num-layers: 33; model llama-7b has 32"));
  EXPECT_THAT(with("--global-batch-size 9"),
              HasSubstr("/global-batch-size: 9 is not a multiple of dp 8"));
  EXPECT_THAT(with("--num-experts 8 --bf16"),
              HasSubstr("/num-experts: not supported"));
  EXPECT_THAT(with("--tensor-model-parallel-size $TP"),
              HasSubstr("/tensor-model-parallel-size: expected a whole "
                        "number"));
  EXPECT_THAT(with("--seq-length 1 --seq-length 2"),
              HasSubstr("--seq-length is given twice"));
  EXPECT_THAT(with("nothing here"), HasSubstr("no arguments"));
  EXPECT_THAT(problem("--tensor-model-parallel-size 2", megatron()),
              testing::AllOf(HasSubstr("/model: missing"), HasSubstr("--model"),
                             HasSubstr("/cluster")));
}

TEST(Megatron, ASlipOfTheKeyboardIsWarnedAbout) {
  const auto plan = load("--tensor-model-paralel-size 8 --bf16",
                         megatron("llama-7b", "a800-8"));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(warnings(*plan),
              HasSubstr("did you mean 'tensor-model-parallel-size'?"));
}

struct Grid {
  const char* fields;
  const char* line;  ///< that the arguments must have
};
class ToMegatron : public testing::TestWithParam<Grid> {};

TEST_P(ToMegatron, ReadsBackTheSameStrategy) {
  const std::string text =
      R"({"format": "troupe.strategy/1", "model": "llama-7b",
          "cluster": "a800-16", "seq_len": 2048, "micro_batches": 8, )" +
      std::string(GetParam().fields) + "}";
  const auto plan = load(text);
  ASSERT_TRUE(plan) << plan.error().message;
  const auto arguments = to_megatron(*plan);
  ASSERT_TRUE(arguments) << arguments.error().message;
  EXPECT_THAT(*arguments, HasSubstr(GetParam().line));
  const auto again = load(*arguments, megatron("", "a800-16"));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->strategy.phases, plan->strategy.phases);
  EXPECT_EQ(again->strategy.zero, plan->strategy.zero);
  EXPECT_EQ(again->strategy.dtype, plan->strategy.dtype);
  EXPECT_EQ(again->strategy.recompute.mode, plan->strategy.recompute.mode);
  // Name and source differ, and how a model is stored; its shape does not.
  models::Model model = again->model;
  model.name = plan->model.name;
  model.source = plan->model.source;
  EXPECT_EQ(model, plan->model);
}

INSTANTIATE_TEST_SUITE_P(
    Grids, ToMegatron,
    testing::Values(Grid{R"("dp": 2, "tp": 4, "pp": 2, "zero": 1)",
                         "--use-distributed-optimizer"},
                    Grid{R"("dp": 2, "tp": 2, "pp": 2, "cp": 2)",
                         "--context-parallel-size 2"},
                    Grid{R"("dp": 2, "tp": 4, "pp": 2, "order": "tp-cp-pp-dp")",
                         "--use-tp-pp-dp-mapping"},
                    Grid{R"("dp": 2, "tp": 2, "pp": 4, "interleave": 2)",
                         "--num-layers-per-virtual-pipeline-stage 4"},
                    Grid{
                        R"("tp": 4, "pp": 4, "layers_per_stage": [6, 9, 9, 8])",
                        "--decoder-first-pipeline-num-layers 6"},
                    Grid{R"("tp": 8, "pp": 2, "recompute": "full")",
                         "--recompute-method uniform"},
                    Grid{R"("tp": 8, "pp": 2, "recompute":
                 {"mode": "full", "layers": "0-2,16-18"})",
                         "--recompute-num-layers 3"},
                    Grid{R"("tp": 8, "dp": 2, "recompute": "selective",
                 "dtype": "fp16", "overlap_gradient_sync": true)",
                         "--overlap-grad-reduce"}));

TEST(ToMegatron, NamesEveryReasonWhyItCannot) {
  const auto plan = load(
      R"({"format": "troupe.strategy/1", "model": "llama-7b", "zero": 3,
          "cluster": "a800-16", "seq_len": 2048, "schedule": "gpipe",
          "pipelines": [
            {"micro_batches": 4, "stages": [{"devices": "0-3", "layers": 20},
                                            {"devices": "4-5", "layers": 12}]},
            {"micro_batches": 3, "stages": [{"devices": "8-15"}]}]})");
  ASSERT_TRUE(plan) << plan.error().message;
  const auto arguments = to_megatron(*plan);
  ASSERT_FALSE(arguments);
  for (const char* reason : {"pipelines differ in micro-batches",
                             "pipelines differ in their number of stages",
                             "stages differ in tensor-parallel degree",
                             "ZeRO 3", "the GPipe schedule"}) {
    EXPECT_THAT(arguments.error().message, HasSubstr(reason));
  }
  EXPECT_THAT(arguments.error().message, Not(HasSubstr("phases")));
}

}  // namespace
}  // namespace troupe::strategy
