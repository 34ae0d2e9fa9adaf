#include "strategy/layouts.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "strategy/ds_config.h"
#include "strategy/load.h"
#include "tests/support/fixtures.h"

namespace troupe::strategy {
namespace {

using test::Degrees;

std::vector<std::int64_t> shape_of(const models::Parameter& p) {
  return p.shape;
}

const models::Parameter& named(const std::vector<models::Parameter>& list,
                               const std::string& name) {
  for (const auto& p : list) {
    if (p.name == name) return p;
  }
  ADD_FAILURE() << "no parameter " << name;
  return list.front();
}

/// Times each element is held, and by how many summands, over a small tensor.
struct Census {
  std::map<std::vector<std::int64_t>, std::multiset<int>> held;
};

void count(const Box& box, std::size_t d, std::vector<std::int64_t>& at,
           int summand, Census& census) {
  if (d == box.size()) {
    census.held[at].insert(summand);
    return;
  }
  for (std::int64_t i = box[d].first; i < box[d].last; ++i) {
    at.push_back(i);
    count(box, d + 1, at, summand, census);
    at.pop_back();
  }
}

Census census_of(const Annotation& a, const std::vector<std::int64_t>& shape) {
  Census census;
  for (const Holding& h : holdings(a, shape)) {
    for (const Box& box : h.boxes) {
      std::vector<std::int64_t> at;
      count(box, 0, at, h.summand, census);
    }
  }
  return census;
}

std::int64_t volume(const std::vector<std::int64_t>& shape) {
  std::int64_t v = 1;
  for (const std::int64_t n : shape) v *= n;
  return v;
}

TEST(PartOf, GivesEveryElementOnceAndSizesThatDifferByOneAtMost) {
  for (const std::int64_t n : {0, 1, 5, 7, 6656, 30592}) {
    for (const std::int64_t parts : {1, 2, 3, 7, 12}) {
      std::int64_t next = 0;
      for (std::int64_t i = 0; i < parts; ++i) {
        const Span span = part_of(n, i, parts);
        EXPECT_EQ(span.first, next);
        EXPECT_GE(span.size(), n / parts);
        EXPECT_LE(span.size(), n / parts + 1);
        next = span.last;
      }
      EXPECT_EQ(next, n);
    }
  }
}

// The table of the digest: four devices, {0: 2, -1: 2}.
TEST(Holdings, FollowTheOrder) {
  Annotation a;
  a.groups = {{{DeviceId{0}, DeviceId{1}, DeviceId{2}, DeviceId{3}},
               {.split = {{0, 2}}, .duplicate = 2},
               1}};
  const std::vector<std::int64_t> shape{8};
  auto piece = [&](int device) {
    return holdings(a, shape)[static_cast<std::size_t>(device)].boxes[0][0];
  };
  a.groups[0].states.order = {kDuplicate, 0};
  EXPECT_EQ(piece(0), (Span{0, 4}));
  EXPECT_EQ(piece(1), (Span{4, 8}));
  EXPECT_EQ(piece(2), (Span{0, 4}));
  a.groups[0].states.order = {0, kDuplicate};
  EXPECT_EQ(piece(0), (Span{0, 4}));
  EXPECT_EQ(piece(1), (Span{0, 4}));
  EXPECT_EQ(piece(2), (Span{4, 8}));
}

// Three groups of 4, 4 and 1: a third of every quarter each, so that the
// single device of the last group holds four pieces.
TEST(Holdings, InterleavedSharesLieInEveryBlock) {
  Annotation a;
  a.across = Across::split;
  a.interleaved = true;
  const States four{.split = {{0, 4}}};
  a.groups = {{{DeviceId{0}, DeviceId{1}, DeviceId{2}, DeviceId{3}}, four, 1},
              {{DeviceId{4}, DeviceId{5}, DeviceId{6}, DeviceId{7}}, four, 1},
              {{DeviceId{8}}, {}, 1}};
  const std::vector<std::int64_t> shape{24};
  const auto all = holdings(a, shape);
  EXPECT_EQ(all[1].boxes, (std::vector<Box>{{{6, 8}}}));
  EXPECT_EQ(all[5].boxes, (std::vector<Box>{{{8, 10}}}));
  EXPECT_EQ(all[8].boxes,
            (std::vector<Box>{{{4, 6}}, {{10, 12}}, {{16, 18}}, {{22, 24}}}));
  EXPECT_EQ(census_of(a, shape).held.size(), 24);
}

/// Few enough elements to count each of them.
models::Model small_model() {
  models::Model model = test::tiny_model(4);
  model.hidden = 24;
  model.heads = model.kv_heads = 8;
  model.head_dim = 3;
  model.ffn = 40;
  return model;
}

TEST(Layouts, EveryUseHoldsEveryElementAsOftenAsItSays) {
  const auto model = small_model();
  for (const Degrees d : {Degrees{.dp = 2, .tp = 4, .pp = 2},
                          Degrees{.dp = 3, .tp = 2, .cp = 2, .pp = 1}}) {
    auto s = test::strategy_of(model, d);
    s.zero = Zero::one;
    const Layouts layouts(s, s.phases[0], model);
    const auto groups = static_cast<std::size_t>(d.dp * d.cp);
    const auto tp = static_cast<std::size_t>(d.tp);
    for (const auto& p : models::layer_parameter_list(model, 1)) {
      const auto shape = shape_of(p);
      const bool whole = p.cut == models::Cut::none;
      for (const Use use : {Use::compute, Use::gradient, Use::optimizer}) {
        const Annotation a = layouts.of(p, use);
        ASSERT_THAT(problems(a, shape), testing::IsEmpty()) << p.name;
        const Census census = census_of(a, shape);
        ASSERT_EQ(census.held.size(), volume(shape)) << p.name;
        const auto& held = census.held.begin()->second;
        switch (use) {
          case Use::compute:
            EXPECT_EQ(held.size(), groups * (whole ? tp : 1)) << p.name;
            break;
          case Use::gradient:
            // A summand per group; per rank of a group for norms.
            EXPECT_EQ(std::set<int>(held.begin(), held.end()).size(),
                      groups * (whole ? tp : 1))
                << p.name;
            break;
          case Use::optimizer:
            EXPECT_EQ(held.size(), whole ? tp : 1) << p.name;
            break;
        }
      }
    }
  }
}

TEST(Layouts, SharedKeyHeadsAreCopiesWhoseGradientsAdd) {
  auto model = test::tiny_model(4);
  model.kv_heads = 2;
  auto s = test::strategy_of(model, {.dp = 1, .tp = 4});
  const Layouts layouts(s, s.phases[0], model);
  const auto list = models::layer_parameter_list(model, 0);
  const auto& key = named(list, "layers.0.attention.key");
  const auto compute = holdings(layouts.of(key, Use::compute), key.shape);
  // Ranks 0 and 1 hold head 0, ranks 2 and 3 head 1.
  EXPECT_EQ(compute[0].boxes[0][0], (Span{0, 1}));
  EXPECT_EQ(compute[1].boxes[0][0], (Span{0, 1}));
  EXPECT_EQ(compute[2].boxes[0][0], (Span{1, 2}));
  const auto gradient = holdings(layouts.of(key, Use::gradient), key.shape);
  EXPECT_EQ(gradient[0].summand, 0);
  EXPECT_EQ(gradient[1].summand, 1);
  EXPECT_EQ(gradient[2].summand, 0);
}

TEST(Layouts, ATiedTableLiesOnBothEnds) {
  auto model = test::tiny_model(4);
  model.tied_embeddings = true;
  auto s = test::strategy_of(model, {.dp = 1, .tp = 2, .pp = 2});
  const Layouts layouts(s, s.phases[0], model);
  const auto list = models::embedding_parameter_list(model);
  const Annotation a =
      layouts.of(named(list, "embedding.tokens"), Use::compute);
  ASSERT_EQ(a.groups.size(), 2);
  EXPECT_EQ(a.groups[1].devices.front(), DeviceId{2});
}

std::filesystem::path shared() {
  const char* set = std::getenv("TROUPE_SHARED");
  return set != nullptr ? set : TROUPE_SOURCE_DIR "/../shared";
}

/// Block ranges of equal annotation as the expectation writes them.
void expect_blocks(const Json& config, const Json& expected) {
  const Json& blocks = config["llama"]["blocks"];
  for (const Json& range : expected["block_ranges"]) {
    for (int i = range["blocks"][0]; i < range["blocks"][1]; ++i) {
      const Json& block = blocks["blocks" + std::to_string(i)];
      for (const auto& [entry, key] :
           {std::pair{block["attn"]["qkv"], "1"},
            std::pair{block["attn"]["dense"], "0"},
            std::pair{block["mlp"]["dense_h_to_4h"], "1"},
            std::pair{block["mlp"]["dense_4h_to_h"], "0"},
            std::pair{block["rmsnorm1"], "0"}}) {
        EXPECT_EQ(entry["split"][key], range["tp"]) << "block " << i;
        EXPECT_EQ(entry["device_group_union"], range["device_group_union"]);
        EXPECT_EQ(entry["dup"], expected["dup"]);
        EXPECT_EQ(entry["type"], "variable");
      }
    }
  }
}

TEST(DsConfig, IsTheReferenceGeneratorsForEveryCaseThatIsGiven) {
  const auto folder = shared() / "seeds-data" / "hspmd";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const auto expected = read_json(folder / "expected_annotations.json");
  ASSERT_TRUE(expected) << expected.error().message;
  ASSERT_FALSE((*expected)["cases"].empty());
  for (const Json& c : (*expected)["cases"]) {
    SCOPED_TRACE("case " + c["case"].dump());
    const auto plan =
        load_plan((folder / "hetero_cluster_cases.json").string(),
                  {.from = "hspmd", .case_index = c["case"].get<int>()});
    ASSERT_TRUE(plan) << plan.error().message;
    const auto config = to_ds_config(*plan, 0);
    ASSERT_TRUE(config) << config.error().message;
    expect_blocks(*config, c);
    if (c.contains("input")) {
      EXPECT_EQ((*config)["input"], c["input"]);
    }
    if (c.contains("label")) {
      EXPECT_EQ((*config)["label"], c["label"]);
    }
    if (c.contains("wte")) {
      EXPECT_EQ((*config)["llama"]["wte"], c["wte"]);
    }
    if (c.contains("lm_head")) {
      EXPECT_EQ((*config)["lm_head"], c["lm_head"]);
    }
    EXPECT_EQ((*config)["zero"], c["zero"]);
  }
}

TEST(DsConfig, ReadsBackTheLayoutsItWrote) {
  const auto folder = shared() / "seeds-data" / "hspmd";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const auto plan = load_plan((folder / "hetero_cluster_cases.json").string(),
                              {.from = "hspmd", .case_index = 5});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto config = to_ds_config(*plan, 0);
  ASSERT_TRUE(config);
  const auto read = read_ds_config(*config, "written");
  ASSERT_TRUE(read) << read.error().message;
  const Layouts layouts(plan->strategy, plan->strategy.phases[0], plan->model);
  const auto list = models::layer_parameter_list(plan->model, 59);
  const auto& output = named(list, "layers.59.attention.output");
  const Annotation ours = layouts.of(output, Use::compute);
  const Annotation& theirs =
      read->entries.at("llama.blocks.blocks59.attn.dense").annotation;
  ASSERT_EQ(ours.groups.size(), theirs.groups.size());
  for (std::size_t u = 0; u < ours.groups.size(); ++u) {
    EXPECT_EQ(ours.groups[u].devices, theirs.groups[u].devices);
    EXPECT_EQ(ours.groups[u].states.devices(),
              theirs.groups[u].states.devices());
  }
}

TEST(DsConfig, ReadsTheSampleOfTheReference) {
  const auto file =
      shared() / "seeds-data" / "hspmd" / "sample_ds_parallel_config.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  const auto json = read_json(file);
  ASSERT_TRUE(json);
  const auto config = read_ds_config(*json, "sample");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_TRUE(config->zero);
  const auto& input = config->entries.at("input");
  EXPECT_TRUE(input.placeholder);
  // Two pipelines share the rows; each member of the first sees all of its.
  EXPECT_EQ(input.annotation.across, Across::split);
  EXPECT_EQ(input.annotation.groups[0].states.duplicate, 2);
  const auto& qkv = config->entries.at("llama.blocks.blocks1.attn.qkv");
  EXPECT_EQ(qkv.annotation.groups[0].states.parts(1), 2);
  EXPECT_EQ(qkv.annotation.groups[1].states.devices(), 1);
}

TEST(DsConfig, RefusesBadEntriesWithTheirPaths) {
  const auto refuse = [](const char* text, const char* expected) {
    const auto json = parse_json(text, "bad");
    ASSERT_TRUE(json);
    const auto config = read_ds_config(*json, "bad");
    ASSERT_FALSE(config) << text;
    EXPECT_THAT(config.error().message, testing::HasSubstr(expected)) << text;
  };
  refuse(R"({"a": {"split": {"0": [2]}, "dup": [1], "type": "variable",
             "device_group_union": [[0, 1], [2]]}})",
         "one per group");
  refuse(R"({"a": {"split": {"0": [2]}, "dup": [1], "type": "variable",
             "device_group_union": [[0, 1, 2]]}})",
         "for 2 devices, it has 3");
  refuse(R"({"a": {"split": {"0": [1, 1]}, "dup": [2, 2], "type": "variable",
             "device_group_union": [[0], [0]]}})",
         "named twice");
  refuse(R"({"a": {"split": {"0": [1, 1]}, "dup": [1, 1], "type": "variable",
             "device_group_union": [[0], [1]]}})",
         "multiple of the 2 subgroups");
  refuse(R"({"a": {"split": {"x": [1]}, "dup": [1], "type": "variable",
             "device_group_union": [[0]]}})",
         "a/split/x");
  refuse(R"({"b": {"split": {}, "dup": [1], "type": "constant",
             "device_group_union": [[-1]]}})",
         "list of lists");
  refuse("{}", "no entry");
}

}  // namespace
}  // namespace troupe::strategy
