#include "profiles/layer_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "profiles/cost_model.h"
#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using kernels::DType;

LayerKey bert(int micro_batch, bool backward = false) {
  return {.backward = backward,
          .hidden = 1024,
          .heads = 16,
          .kv_heads = 16,
          .head_dim = 64,
          .ffn = 4096,
          .tp = 1,
          .micro_batch = micro_batch,
          .seq_len = 512,
          .dtype = DType::fp16};
}

LayerTable bert_table() {
  return LayerTable(
      {{1, {.device = "t4", .key = bert(1), .time_s = 1e-3}},
       {1, {.device = "t4", .key = bert(4), .time_s = 4e-3}},
       {1, {.device = "t4", .key = bert(8), .scaled = true, .time_s = 6e-3}}},
      {});
}

TEST(LayerTable, MeasuredThenInterpolatedThenProportional) {
  const LayerTable table = bert_table();
  const auto exact = table.find(bert(4));
  ASSERT_TRUE(exact);
  EXPECT_EQ(exact->time, seconds(4e-3));
  EXPECT_EQ(exact->provenance, Provenance::measured);
  // Between (1, 1 ms) and (4, 4 ms).
  EXPECT_EQ(table.find(bert(2))->time, seconds(2e-3));
  EXPECT_EQ(table.find(bert(2))->provenance, Provenance::interpolated);
  EXPECT_EQ(table.find(bert(8))->provenance, Provenance::derived);
  // Twice the largest micro-batch takes twice its 6 ms.
  EXPECT_EQ(table.find(bert(16))->time, seconds(12e-3));
  EXPECT_EQ(table.find(bert(16))->provenance, Provenance::derived);
  // At least the 6 ms that launching it may take, were it all the host's.
  EXPECT_EQ(table.find(bert(16))->least, seconds(6e-3));
  EXPECT_EQ(exact->least, Time{});
}

// Below the least micro-batch: at most its time, at least the share.
TEST(LayerTable, FewerSequencesShrinkAtMostInProportion) {
  const LayerTable table(
      {{1, {.device = "t4", .key = bert(4), .time_s = 4e-3}}}, {});
  const auto found = table.find(bert(1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->time, seconds(4e-3));
  EXPECT_EQ(found->least, seconds(1e-3));
  EXPECT_EQ(found->provenance, Provenance::derived);
}

TEST(LayerTable, TheNewestSourceIsNotMixedWithOlderOnes) {
  const LayerTable table(
      {{9, {.device = "t4", .key = bert(4), .time_s = 9e-3}},
       {1, {.device = "t4", .key = bert(1), .time_s = 1e-3}},
       {1, {.device = "t4", .key = bert(4), .time_s = 4e-3}},
       {1, {.device = "t4", .key = bert(8), .time_s = 8e-3}}},
      {});
  EXPECT_EQ(table.find(bert(4))->time, seconds(9e-3));
  EXPECT_EQ(table.find(bert(4))->provenance, Provenance::measured);
  EXPECT_EQ(table.find(bert(2))->time, seconds(2e-3));
  EXPECT_EQ(table.find(bert(8))->time, seconds(8e-3));
}

// Vocabularies apart are other heads, whichever was measured later.
TEST(LayerTable, AnotherVocabularyHidesNoHead) {
  LayerKey small{
      .part = Part::head, .hidden = 1024, .vocab = 30522, .seq_len = 512};
  LayerKey large = small;
  large.vocab = 128256;
  const LayerTable table({{9, {.device = "t4", .key = large, .time_s = 4e-3}},
                          {1, {.device = "t4", .key = small, .time_s = 1e-3}}},
                         {});
  EXPECT_EQ(table.find(small)->time, seconds(1e-3));
  EXPECT_EQ(table.find(large)->time, seconds(4e-3));
}

TEST(LayerTable, BackwardIsTwiceTheForwardUnlessMeasured) {
  const auto derived = bert_table().find(bert(4, true));
  ASSERT_TRUE(derived);
  EXPECT_EQ(derived->time, seconds(8e-3));
  EXPECT_EQ(derived->least, seconds(4e-3));
  EXPECT_EQ(derived->provenance, Provenance::derived);
  const LayerTable both(
      {{1, {.device = "t4", .key = bert(1), .time_s = 1e-3}},
       {1, {.device = "t4", .key = bert(1, true), .time_s = 1.7e-3}}},
      {});
  EXPECT_EQ(both.find(bert(1, true))->time, seconds(1.7e-3));
  EXPECT_EQ(both.find(bert(1, true))->provenance, Provenance::measured);
}

TEST(LayerTable, SixteenBitTypesAndEqualWidthsStandForEachOther) {
  LayerKey key = bert(4);
  key.dtype = DType::bf16;
  EXPECT_EQ(bert_table().find(key)->provenance, Provenance::derived);
  key.dtype = DType::fp32;
  EXPECT_FALSE(bert_table().find(key));
  key = bert(4);
  key.heads = key.kv_heads = 8;
  key.head_dim = 128;
  EXPECT_EQ(bert_table().find(key)->provenance, Provenance::derived);
}

TEST(LayerTable, AnotherShapeIsUnknown) {
  for (int field = 0; field < 6; ++field) {
    LayerKey key = bert(1);
    if (field == 0) key.hidden = 2048;
    if (field == 1) key.ffn = 8192;
    if (field == 2) key.tp = 2;
    if (field == 3) key.gated = true;
    if (field == 4) key.cross = true;
    if (field == 5) key.seq_len = 128;  // fewer tokens than measured
    EXPECT_FALSE(bert_table().find(key)) << field;
  }
  EXPECT_FALSE(bert_table().find(bert(0)));
}

// Other lengths of the same shape go by tokens: 1024 x 2 = 2048 = 512 x 4.
TEST(LayerTable, OtherLengthsInterpolateByTokens) {
  LayerKey key = bert(2);
  key.seq_len = 1024;
  const auto found = bert_table().find(key);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->time, seconds(4e-3));
  EXPECT_EQ(found->provenance, Provenance::interpolated);
}

LayerKey llama_32b(int tp, int seq_len, bool backward, Part part) {
  LayerKey key{.part = part,
               .backward = backward,
               .hidden = 6656,
               .heads = 64,
               .kv_heads = 64,
               .head_dim = 104,
               .ffn = 17920,
               .gated = true,
               .tp = tp,
               .micro_batch = 1,
               .seq_len = seq_len};
  if (part == Part::head) key.vocab = 30592;
  return key;
}

double stage_seconds(const CostModel& model, const char* device, int tp,
                     int seq_len, int layers) {
  double total = 0;
  for (const bool backward : {false, true}) {
    for (const Part part : {Part::layer, Part::head}) {
      const auto cost = model.layer_cost(llama_32b(tp, seq_len, backward, part),
                                         kind(device));
      if (!cost) return -1;
      EXPECT_EQ(cost->provenance, Provenance::derived);
      total += to_seconds(cost->time) * (part == Part::layer ? layers : 1);
    }
  }
  return total;
}

// HSPMD's fit of 32B on H20, (4,1), at 4096 tokens: 1.01454786e-5 x 4096^2 +
// 0.399732659 x 4096 + 81.19308 = 170.213 + 1637.305 + 81.193 = 1888.711 ms.
TEST(LayerTable, LayersAndHeadAddUpToTheMeasuredStage) {
  const clusters::DeviceKind h20 = kind("h20");
  const auto model =
      value_of(load_cost_model(shipped_database(), std::span(&h20, 1)));
  EXPECT_NEAR(stage_seconds(*model, "h20", 4, 4096, 60), 1.888711, 1e-6);
  // (8,1): 4.55884724e-6 x 4096^2 + 0.217730604 x 4096 + 69.98725
  //      = 76.485 + 891.825 + 69.987 = 1038.297 ms.
  EXPECT_NEAR(stage_seconds(*model, "h20", 8, 4096, 60), 1.038297, 1e-6);
}

// Two stages of (2,2) take 2 x T: 2 x (8.7256662e-6 x 4096^2 +
// 0.397359489 x 4096 + 47.691216) = 2 x 1821.666 = 3643.33 ms in all.
TEST(LayerTable, WithoutASingleStageTheFewestStagesCount) {
  const clusters::DeviceKind h20 = kind("h20");
  const auto model =
      value_of(load_cost_model(shipped_database(), std::span(&h20, 1)));
  EXPECT_NEAR(stage_seconds(*model, "h20", 2, 4096, 60), 3.643333, 1e-5);
}

TEST(LayerTable, BeyondTheFittedLengthsNothingIsKnown) {
  const clusters::DeviceKind h20 = kind("h20");
  const auto model =
      value_of(load_cost_model(shipped_database(), std::span(&h20, 1)));
  EXPECT_LT(stage_seconds(*model, "h20", 4, 131072, 60), 0);
  EXPECT_LT(stage_seconds(*model, "h20", 1, 4096, 60), 0);
}

// Two sequences in one micro-batch pay the constant once: with c = 0.08 and
// b = 4e-4, a = 1e-8, s = 1000: 2 x (0.01 + 0.4) + 0.08 = 0.9.
TEST(LayerTable, PackedSequencesPayTheConstantOnce) {
  const StageRow row{.device = "h20",
                     .model = "m",
                     .hidden = 64,
                     .layers = 1,
                     .vocab = 0,
                     .heads = 4,
                     .kv_heads = 4,
                     .head_dim = 16,
                     .ffn = 256,
                     .gated = true,
                     .a = 1e-8,
                     .b = 4e-4,
                     .c = 0.08,
                     .min_seq = 128,
                     .max_seq = 4096};
  const LayerTable table({}, {{1, row}});
  LayerKey key{.hidden = 64,
               .heads = 4,
               .kv_heads = 4,
               .head_dim = 16,
               .ffn = 256,
               .gated = true,
               .micro_batch = 2,
               .seq_len = 1000};
  const Time forward = table.find(key)->time;
  key.backward = true;
  EXPECT_NEAR(to_seconds(forward + table.find(key)->time), 0.9, 1e-9);
  EXPECT_NEAR(to_seconds(forward), 0.3, 1e-9);
}

RC_GTEST_PROP(LayerTableProperty, StagesRiseWithLengthAndBatch, ()) {
  const auto coefficient =
      rc::gen::map(rc::gen::inRange(1, 1000), [](int i) { return i * 1e-9; });
  StageRow row{.device = "h20",
               .model = "m",
               .hidden = 64,
               .layers = 3,
               .vocab = 100,
               .heads = 4,
               .kv_heads = 4,
               .head_dim = 16,
               .ffn = 256,
               .gated = true};
  row.a = *coefficient * 1e-3;
  row.b = *coefficient;
  row.c = *coefficient;
  row.max_seq = 8192;
  const LayerTable table({}, {{1, row}});
  LayerKey key{.hidden = 64,
               .heads = 4,
               .kv_heads = 4,
               .head_dim = 16,
               .ffn = 256,
               .gated = true};
  key.micro_batch = *rc::gen::inRange(1, 8);
  key.seq_len = *rc::gen::inRange(1, 4096);
  LayerKey more = key;
  more.seq_len += *rc::gen::inRange(0, 4096);
  more.micro_batch += *rc::gen::inRange(0, 4);
  const auto small = table.find(key);
  const auto large = table.find(more);
  RC_ASSERT(small && large);
  RC_ASSERT(small->time.v > 0);
  RC_ASSERT(large->time >= small->time);
}

}  // namespace
}  // namespace troupe::profiles
