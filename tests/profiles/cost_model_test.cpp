#include "profiles/cost_model.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/profiles/support.h"

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;

std::unique_ptr<CostModel> model_of(const Database& database,
                                    const clusters::DeviceKind& kind) {
  return value_of(load_cost_model(database, std::span(&kind, 1)));
}

const CostModel& shipped_model(const char* device) {
  static std::map<std::string, std::unique_ptr<CostModel>> models;
  auto& model = models[device];
  if (!model) model = model_of(shipped_database(), kind(device));
  return *model;
}

OpShape gemm(std::int64_t m, std::int64_t n = 4096, std::int64_t k = 4096) {
  return kernels::gemm(m, n, k, DType::bf16);
}

Database small_database() {
  Database db = empty_database();
  std::vector<Section> sections = {section("s")};
  sections[0].operators = {gemm_row("h100-sxm", 1024, 4096, 4096, 1e-4),
                           gemm_row("h100-sxm", 3072, 4096, 4096, 3e-4)};
  value_of(db.store(sections));
  return db;
}

TEST(CostModel, FineBeforeCoarse) {
  const clusters::DeviceKind h100 = kind("h100-sxm");
  const auto model = model_of(small_database(), h100);
  const Cost exact = model->operator_cost(gemm(1024), h100);
  EXPECT_EQ(exact.time, seconds(1e-4));
  EXPECT_EQ(exact.provenance, Provenance::measured);
  // Half way between 1024 and 3072 rows.
  const Cost between = model->operator_cost(gemm(2048), h100);
  EXPECT_EQ(between.time, seconds(2e-4));
  EXPECT_EQ(between.provenance, Provenance::interpolated);
  const Cost beyond = model->operator_cost(gemm(6144), h100);
  EXPECT_GT(beyond.time, seconds(3e-4));
  EXPECT_EQ(beyond.provenance, Provenance::roofline);
  const Cost other = model->operator_cost(gemm(1024, 5120), h100);
  EXPECT_EQ(other.provenance, Provenance::roofline);
  EXPECT_GT(other.spread, 0);
}

TEST(CostModel, SixteenBitTypesStandForEachOther) {
  const clusters::DeviceKind h100 = kind("h100-sxm");
  const auto model = model_of(small_database(), h100);
  OpShape half = gemm(1024);
  half.dtype = DType::fp16;
  const Cost cost = model->operator_cost(half, h100);
  EXPECT_EQ(cost.time, seconds(1e-4));
  EXPECT_EQ(cost.provenance, Provenance::interpolated);
}

TEST(CostModel, TheNewestSourceIsTaken) {
  Database db = empty_database();
  std::vector<Section> sections = {
      section("old", "2020"), section("new", "2026"), section("older", "2019")};
  for (std::size_t i = 0; i < sections.size(); ++i) {
    sections[i].operators = {
        gemm_row("h100-sxm", 64, 64, 64, 1e-5 * static_cast<double>(i + 1))};
  }
  value_of(db.store(sections));
  const clusters::DeviceKind h100 = kind("h100-sxm");
  EXPECT_EQ(model_of(db, h100)->operator_cost(gemm(64, 64, 64), h100).time,
            seconds(2e-5));
}

// A shape that the shipped rows have too, ten times as slow and newer: it is
// the price, as measured; the sizes between stay the shipped source's.
TEST(CostModel, OneOwnRowIsThePriceAmongShippedOnes) {
  Database db = empty_database();
  value_of(ingest_shipped(db));
  const clusters::DeviceKind h100 = kind("h100-sxm");
  const auto before = model_of(db, h100);
  OpShape op = gemm(2048, 4096, 11008);
  op.dtype = DType::fp16;
  const Cost old = before->operator_cost(op, h100);
  std::vector<Section> mine = {section("mine", "2026-11-22")};
  mine[0].operators = {
      {.device = "h100-sxm", .op = op, .time_s = 10 * to_seconds(old.time)}};
  mine[0].collectives = {{.device = "h100-sxm",
                          .ranks = 8,
                          .per_node = 8,
                          .bytes = 1 << 24,
                          .time_s = 4e-3}};
  value_of(db.store(mine));
  const auto after = model_of(db, h100);
  EXPECT_EQ(after->operator_cost(op, h100).time,
            seconds(10 * to_seconds(old.time)));
  EXPECT_EQ(after->operator_cost(op, h100).provenance, Provenance::measured);
  const auto reduce = [&](const CostModel& model, std::int64_t bytes) {
    return model
        .collective_cost(clusters::Collective::all_reduce, 8, 8, Bytes{bytes},
                         h100)
        .value();
  };
  EXPECT_EQ(reduce(*after, 1 << 24).time, seconds(4e-3));
  EXPECT_EQ(reduce(*after, 1 << 24).provenance, Provenance::measured);
  for (const int aside : {-1000, 1000}) {
    op.dim[1] = 2048 + aside;
    EXPECT_EQ(after->operator_cost(op, h100).time,
              before->operator_cost(op, h100).time);
    EXPECT_EQ(reduce(*after, (1 << 24) + aside).time,
              reduce(*before, (1 << 24) + aside).time);
  }
}

// What another kind of the board measured is no measurement of this kind.
TEST(CostModel, AnotherKindsCollectiveIsNotCalledMeasured) {
  Database db = empty_database();
  std::vector<Section> sections = {section("s")};
  sections[0].collectives = {{.device = "a100-sxm-40",
                              .ranks = 8,
                              .per_node = 8,
                              .bytes = 1 << 20,
                              .time_s = 1e-4}};
  value_of(db.store(sections));
  for (const char* name : {"a100-sxm-40", "a100-sxm-80"}) {
    const auto cost = model_of(db, kind(name))
                          ->collective_cost(clusters::Collective::all_reduce, 8,
                                            8, Bytes{1 << 20}, kind(name));
    ASSERT_TRUE(cost);
    EXPECT_EQ(cost->time, seconds(1e-4));
    EXPECT_EQ(cost->provenance, std::string_view(name) == "a100-sxm-40"
                                    ? Provenance::measured
                                    : Provenance::interpolated);
  }
}

TEST(CostModel, AnEmptyDatabaseStillAnswers) {
  const Database db = empty_database();
  const clusters::DeviceKind v100 = kind("v100-sxm-16");
  const auto model = model_of(db, v100);
  // At least what the peak allows: 137.4 GFLOP at 125 TFLOP/s.
  OpShape large = gemm(4096);
  large.dtype = DType::fp16;
  const Cost cost = model->operator_cost(large, v100);
  EXPECT_EQ(cost.provenance, Provenance::roofline);
  EXPECT_GT(to_seconds(cost.time), kernels::flops(large).v / 125e12);
  EXPECT_LT(to_seconds(cost.time), 4 * kernels::flops(large).v / 125e12);
  EXPECT_FALSE(model->layer_cost({}, v100));
  EXPECT_FALSE(model->collective_cost(clusters::Collective::all_reduce, 8, 8,
                                      Bytes{1 << 20}, v100));
}

TEST(CostModel, UnknownKindAndEmptyOperatorDoNotCrash) {
  const CostModel& model = shipped_model("h100-sxm");
  clusters::DeviceKind mystery;
  mystery.name = "mystery";
  const Cost cost = model.operator_cost(gemm(128), mystery);
  EXPECT_GT(cost.time.v, 0);
  for (int i = 0; i < kernels::kOpKinds; ++i) {
    const OpShape empty{.kind = static_cast<OpKind>(i)};
    EXPECT_EQ(model.operator_cost(empty, kind("h100-sxm")).time.v, 0);
  }
}

TEST(CostModel, ContentHashFollowsTheRows) {
  const clusters::DeviceKind h100 = kind("h100-sxm");
  Database db = small_database();
  const std::string before = model_of(db, h100)->content_hash();
  EXPECT_EQ(model_of(small_database(), h100)->content_hash(), before);
  std::vector<Section> more = {section("more")};
  more[0].operators = {gemm_row("h100-sxm", 7, 7, 7, 1e-5)};
  value_of(db.store(more));
  EXPECT_NE(model_of(db, h100)->content_hash(), before);
}

// vTrain, 8 A100, 1,073,741,824 bytes: 2 x 7/8 of them in 8.196 ms are 229.3
// GB/s of the nominal 300.
TEST(CostModel, NvlinkEfficiencyComesFromMeasuredAllReduces) {
  const auto link =
      shipped_model("a100-sxm-40").link_efficiency(clusters::LinkClass::nvlink);
  EXPECT_NEAR(link.fraction, 229.3 / 300, 0.002);
  EXPECT_GT(link.latency.v, 0);
  EXPECT_NE(link.source.find("a100-sxm"), std::string::npos);
}

TEST(CostModel, EveryLinkClassHasAnEfficiency) {
  for (const auto link_class :
       {clusters::LinkClass::nvlink, clusters::LinkClass::pcie,
        clusters::LinkClass::bridge, clusters::LinkClass::nic,
        clusters::LinkClass::fabric}) {
    const auto link = shipped_model("t4").link_efficiency(link_class);
    EXPECT_GT(link.fraction, 0);
    EXPECT_LE(link.fraction, 1);
    EXPECT_GE(link.latency.v, 0);
    EXPECT_FALSE(link.source.empty());
  }
}

TEST(CostModel, CollectivesAreMeasuredInterpolatedOrUnknown) {
  Database db = empty_database();
  std::vector<Section> sections = {section("s")};
  sections[0].collectives = {{.device = "t4",
                              .ranks = 4,
                              .per_node = 4,
                              .bytes = 1 << 20,
                              .time_s = 1e-4},
                             {.device = "t4",
                              .ranks = 4,
                              .per_node = 4,
                              .bytes = 1 << 22,
                              .time_s = 4e-4}};
  value_of(db.store(sections));
  const clusters::DeviceKind t4 = kind("t4");
  const auto model = model_of(db, t4);
  const auto cost = [&](int ranks, std::int64_t bytes) {
    return model->collective_cost(clusters::Collective::all_reduce, ranks,
                                  ranks, Bytes{bytes}, t4);
  };
  EXPECT_EQ(cost(4, 1 << 20)->provenance, Provenance::measured);
  EXPECT_EQ(cost(4, 1 << 20)->time, seconds(1e-4));
  // 2^21 is half way in logarithm: the geometric mean of 1e-4 and 4e-4.
  EXPECT_NEAR(to_seconds(cost(4, 1 << 21)->time), 2e-4, 1e-12);
  EXPECT_EQ(cost(4, 1 << 21)->provenance, Provenance::interpolated);
  EXPECT_FALSE(cost(4, 1 << 23));
  EXPECT_FALSE(cost(2, 1 << 20));
}

// As for collectives, but on the kind's own machine: what a host's memory
// gives, no other kind of the board knows.
TEST(CostModel, CopiesAreMeasuredInterpolatedOrUnknown) {
  Database db = empty_database();
  std::vector<Section> sections = {section("s")};
  const CopyRoute out = CopyRoute::device_to_host;
  sections[0].copies = {
      {.device = "t4", .route = out, .bytes = 1 << 20, .time_s = 1e-4},
      {.device = "t4", .route = out, .bytes = 1 << 22, .time_s = 4e-4}};
  value_of(db.store(sections));
  const clusters::DeviceKind t4 = kind("t4");
  const auto model = model_of(db, t4);
  const auto cost = [&](CopyRoute route, std::int64_t bytes) {
    return model->copy_cost(route, Bytes{bytes}, t4);
  };
  EXPECT_EQ(cost(out, 1 << 20)->provenance, Provenance::measured);
  EXPECT_EQ(cost(out, 1 << 20)->time, seconds(1e-4));
  EXPECT_NEAR(to_seconds(cost(out, 1 << 21)->time), 2e-4, 1e-12);
  EXPECT_FALSE(cost(out, 1 << 23));
  EXPECT_FALSE(cost(CopyRoute::host_to_device, 1 << 20));
}

TEST(CostModel, KindsOfOneBoardShareCollectives) {
  // Measured on the 40 GB board only beyond 67 MB.
  const auto cost =
      shipped_model("a100-sxm-80")
          .collective_cost(clusters::Collective::all_reduce, 8, 8,
                           Bytes{500'000'000}, kind("a100-sxm-80"));
  ASSERT_TRUE(cost);
  EXPECT_NEAR(to_seconds(cost->time), 3.9e-3, 0.3e-3);
}

RC_GTEST_PROP(CostModelProperty, CollectivesRiseWithSize, ()) {
  const CostModel& model = shipped_model("a100-sxm-40");
  const clusters::DeviceKind device = kind("a100-sxm-40");
  const auto bytes = *rc::gen::inRange<std::int64_t>(1 << 20, 1 << 30);
  const auto more = bytes + *rc::gen::inRange<std::int64_t>(0, 1 << 26);
  const auto small = model.collective_cost(clusters::Collective::all_reduce, 8,
                                           8, Bytes{bytes}, device);
  const auto large = model.collective_cost(clusters::Collective::all_reduce, 8,
                                           8, Bytes{more}, device);
  RC_ASSERT(small.has_value());
  if (!large) return;
  if (small->provenance == Provenance::measured ||
      large->provenance == Provenance::measured) {
    return;  // measured points are given as they are, noise included
  }
  RC_ASSERT(large->time >= small->time);
}

OpShape random_shape() {
  OpShape op;
  op.kind = static_cast<OpKind>(*rc::gen::inRange(0, kernels::kOpKinds));
  op.causal = *rc::gen::arbitrary<bool>();
  op.gated = *rc::gen::arbitrary<bool>();
  for (int i = 0; i < kernels::dimensions(op.kind); ++i) {
    op.dim[static_cast<std::size_t>(i)] =
        *rc::gen::inRange<std::int64_t>(1, 9000);
  }
  return op;
}

RC_GTEST_PROP(CostModelProperty, RooflineRisesWithEverySize, ()) {
  static const Database none = empty_database();
  static const clusters::DeviceKind a100 = kind("a100-sxm-80");
  static const auto model = model_of(none, a100);
  const OpShape op = random_shape();
  OpShape larger = op;
  const auto i = static_cast<std::size_t>(
      *rc::gen::inRange(0, kernels::dimensions(op.kind)));
  larger.dim[i] += *rc::gen::inRange<std::int64_t>(1, 5000);
  const Cost small = model->operator_cost(op, a100);
  const Cost large = model->operator_cost(larger, a100);
  RC_ASSERT(small.time.v > 0);
  RC_ASSERT(large.time >= small.time);
}

// Along one family of shipped rows: 4096 x 11008 products of Llama 7B.
RC_GTEST_PROP(CostModelProperty, InterpolationRisesThroughShippedRows, ()) {
  const CostModel& model = shipped_model("h100-sxm");
  static const clusters::DeviceKind h100 = kind("h100-sxm");
  const auto m = *rc::gen::inRange<std::int64_t>(1, 20000);
  const auto more = m + *rc::gen::inRange<std::int64_t>(0, 4000);
  const Cost small = model.operator_cost(gemm(m, 4096, 11008), h100);
  const Cost large = model.operator_cost(gemm(more, 4096, 11008), h100);
  RC_ASSERT(small.time.v > 0);
  OpShape fp16 = gemm(m, 4096, 11008);
  fp16.dtype = DType::fp16;
  const bool exact =
      model.operator_cost(fp16, h100).provenance == Provenance::measured;
  fp16.dim[1] = more;
  if (exact ||
      model.operator_cost(fp16, h100).provenance == Provenance::measured) {
    return;
  }
  RC_ASSERT(large.time >= small.time);
}

}  // namespace
}  // namespace troupe::profiles
