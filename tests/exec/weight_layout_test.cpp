// What of a parameter counts for sums, and what it starts from.
#include "exec/weight_layout.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "exec/weights.h"
#include "tests/reshard/helpers.h"

namespace troupe::exec {
namespace {

using models::ParameterRole;
using testing::ElementsAre;

/// Layouts that an optimizer may have: whole or split, nothing to be summed.
TEST(CountedBoxes, CountEveryElementOnce) {
  int seen = 0;
  int replicated = 0;
  for (std::uint64_t i = 0; i < 4'000; ++i) {
    reshard::Dice dice(i);
    const auto change = reshard::random_change(dice, 12);
    const strategy::Annotation& annotation = change.source;
    const auto& shape = change.shape;
    if (!strategy::problems(annotation, shape).empty() ||
        strategy::summands(annotation) != 1) {
      continue;
    }
    ++seen;
    const auto all = strategy::holdings(annotation, shape);
    const std::int64_t count = std::accumulate(
        shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    std::vector<int> counted(static_cast<std::size_t>(count));
    std::int64_t held = 0;
    for (std::size_t h = 0; h < all.size(); ++h) {
      const auto counts = counted_boxes(annotation, all, h);
      ASSERT_EQ(counts.size(), all[h].boxes.size());
      for (std::size_t b = 0; b < counts.size(); ++b) {
        held += strategy::elements(all[h].boxes[b]);
        if (!counts[b]) continue;
        each_element(all[h].boxes[b], shape, [&](std::int64_t e) {
          ++counted[static_cast<std::size_t>(e)];
        });
      }
    }
    replicated += held > count ? 1 : 0;
    ASSERT_EQ(std::ranges::count(counted, 1), count)
        << "pair " << i << ": " << strategy::to_string(annotation);
  }
  // Or the layouts would not be what they should be.
  EXPECT_GT(seen, 1'000);
  EXPECT_GT(replicated, 200);
}

TEST(PartsOf, CutsAtPluses) {
  EXPECT_THAT(parts_of("attention.output"), ElementsAre("attention.output"));
  EXPECT_THAT(parts_of("a.query+a.key+a.value"),
              ElementsAre("a.query", "a.key", "a.value"));
}

models::Parameter parameter(const char* name, ParameterRole role) {
  return {.name = name,
          .layer = 0,
          .shape = {500, 16},
          .cut = models::Cut::none,
          .dimension = 0,
          .role = role};
}

/// 8000 numbers of deviation 1 / (2 sqrt 16) = 1/8: their mean is within five
/// of its deviations, 5 / (8 sqrt 8000) = 0.007, of 0, and their variance
/// within 5 sqrt(2 / 8000) = 8 % of 1/64.
TEST(InitialValues, OfMatricesAreNormal) {
  const auto p = parameter("layers.0.mlp.up", ParameterRole::matrix);
  for (const std::uint64_t seed : {1U, 2U, 77U}) {
    double sum = 0;
    double squares = 0;
    int within = 0;
    for (std::int64_t i = 0; i < p.elements(); ++i) {
      const double v = initial_value(p, i, seed);
      ASSERT_TRUE(std::isfinite(v));
      sum += v;
      squares += v * v;
      within += std::abs(v) < 0.125 ? 1 : 0;
    }
    const auto n = static_cast<double>(p.elements());
    EXPECT_NEAR(sum / n, 0, 0.007);
    EXPECT_NEAR(squares / n * 64, 1, 0.08);
    // 68.3 % of a normal distribution, five deviations of 0.5 %.
    EXPECT_NEAR(within / n, 0.683, 0.026);
  }
}

TEST(InitialValues, DifferByNameSeedAndElement) {
  const auto a = parameter("layers.0.mlp.up", ParameterRole::matrix);
  const auto b = parameter("layers.1.mlp.up", ParameterRole::matrix);
  EXPECT_EQ(initial_value(a, 3, 1), initial_value(a, 3, 1));
  EXPECT_NE(initial_value(a, 3, 1), initial_value(a, 4, 1));
  EXPECT_NE(initial_value(a, 3, 1), initial_value(a, 3, 2));
  EXPECT_NE(initial_value(a, 3, 1), initial_value(b, 3, 1));
}

TEST(InitialValues, OfScalesAreOneAndOfBiasesAndMomentsZero) {
  const auto scale = parameter("head.norm.scale", ParameterRole::scale);
  const auto bias = parameter("head.norm.bias", ParameterRole::bias);
  EXPECT_EQ(initial_value(scale, 5, 9), 1);
  EXPECT_EQ(initial_value(bias, 5, 9), 0);
  const auto table = parameter("embedding.tokens", ParameterRole::table);
  const Values values = initial_values(9);
  EXPECT_EQ(values(table, State::master, 5), initial_value(table, 5, 9));
  EXPECT_EQ(values(table, State::m, 5), 0);
  EXPECT_EQ(values(table, State::v, 5), 0);
}

}  // namespace
}  // namespace troupe::exec
