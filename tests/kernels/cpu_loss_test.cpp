// Embeddings and cross entropy, whole and in vocabulary shards.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/kernels/cpu_tools.h"

namespace troupe::kernels {
namespace {

using testing::as_size;
using testing::Doubles;
using testing::Draw;
using testing::Guarded;
using testing::Loss;

// Cuts [0, whole) at the points given, in any order; shards may be empty.
std::vector<std::int64_t> borders(std::vector<std::int64_t> cuts,
                                  std::int64_t whole) {
  cuts.push_back(0);
  cuts.push_back(whole);
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

struct Rows {
  std::int64_t rows, columns;
  Doubles logits;
  std::vector<std::int32_t> labels;

  Rows(std::int64_t r, std::int64_t c, std::uint64_t seed)
      : rows(r), columns(c), logits(Draw(seed).normal(r * c, 3)) {
    labels = Draw(seed + 1).indices(r, -1, static_cast<std::int32_t>(c) - 1);
  }
};

struct Joined {
  Doubles lse, loss, d_logits;
};

// Loss and gradient with the vocabulary cut at `border`; every shard's logits
// lie in their columns of the whole matrix (ld).
Joined in_shards(const Rows& x, const std::vector<std::int64_t>& border) {
  const auto shards = static_cast<std::int64_t>(border.size()) - 1;
  Guarded<double> maximum(shards * x.rows), sum(shards * x.rows),
      target(shards * x.rows), lse(x.rows), loss(x.rows);
  Guarded<double> d_logits(x.rows * x.columns);
  for (std::int64_t s = 0; s < shards; ++s) {
    testing::run_or_fail(CrossEntropyForward{
        .dtype = DType::fp64,
        .rows = x.rows,
        .columns = border[as_size(s + 1)] - border[as_size(s)],
        .first = border[as_size(s)],
        .ld = x.columns,
        .logits = x.logits.data() + border[as_size(s)],
        .labels = x.labels.data(),
        .maximum = maximum.data() + s * x.rows,
        .sum = sum.data() + s * x.rows,
        .target = target.data() + s * x.rows});
  }
  testing::run_or_fail(CrossEntropyMerge{.dtype = DType::fp64,
                                         .rows = x.rows,
                                         .shards = shards,
                                         .labels = x.labels.data(),
                                         .maximum = maximum.data(),
                                         .sum = sum.data(),
                                         .target = target.data(),
                                         .lse = lse.data(),
                                         .loss = loss.data()});
  for (std::int64_t s = 0; s < shards; ++s) {
    testing::run_or_fail(CrossEntropyBackward{
        .dtype = DType::fp64,
        .rows = x.rows,
        .columns = border[as_size(s + 1)] - border[as_size(s)],
        .first = border[as_size(s)],
        .ld = x.columns,
        .scale = 0.25,
        .logits = x.logits.data() + border[as_size(s)],
        .labels = x.labels.data(),
        .lse = lse.data(),
        .d_logits = d_logits.data() + border[as_size(s)]});
  }
  EXPECT_TRUE(maximum.intact() && sum.intact() && target.intact());
  EXPECT_TRUE(lse.intact() && loss.intact() && d_logits.intact());
  const auto copy = [](Guarded<double>& from) {
    return Doubles(from.values().begin(), from.values().end());
  };
  return {copy(lse), copy(loss), copy(d_logits)};
}

void expect_naive(const Rows& x, const Joined& got) {
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const double* row = x.logits.data() + i * x.columns;
    double sum = 0;
    for (std::int64_t j = 0; j < x.columns; ++j) sum += std::exp(row[j]);
    const std::int32_t label = x.labels[as_size(i)];
    const double loss = label < 0 ? 0 : std::log(sum) - row[label];
    ASSERT_NEAR(got.lse[as_size(i)], std::log(sum), 1e-12);
    ASSERT_NEAR(got.loss[as_size(i)], loss, 1e-12);
    for (std::int64_t j = 0; j < x.columns; ++j) {
      const double p = std::exp(row[j]) / sum - (j == label ? 1 : 0);
      ASSERT_NEAR(got.d_logits[as_size(i * x.columns + j)],
                  label < 0 ? 0 : 0.25 * p, 1e-12);
    }
  }
}

RC_GTEST_PROP(CpuCrossEntropy, AnyShardsAreTheWhole, ()) {
  const Rows x(*rc::gen::inRange<std::int64_t>(0, 6),
               *rc::gen::inRange<std::int64_t>(1, 70),
               *rc::gen::inRange<std::uint64_t>(0, 1000));
  const auto cuts = *rc::gen::container<std::vector<std::int64_t>>(
      rc::gen::inRange<std::int64_t>(0, x.columns + 1));
  expect_naive(x, in_shards(x, borders({}, x.columns)));
  expect_naive(x, in_shards(x, borders(cuts, x.columns)));
  RC_ASSERT(!::testing::Test::HasFailure());
}

TEST(CpuCrossEntropy, GradientIsThatOfFiniteDifferences) {
  for (const std::int64_t columns : {1, 3, 33, 65}) {
    Rows x(3, columns, 5);
    x.labels = {0, -1, static_cast<std::int32_t>(columns) - 1};
    const auto border = borders({columns / 2}, columns);
    const auto value = [&] {
      const auto joined = in_shards(x, border);
      double sum = 0;
      for (const double loss : joined.loss) sum += 0.25 * loss;
      return sum;
    };
    const auto joined = in_shards(x, border);
    testing::expect_gradient(x.logits, joined.d_logits, value, "logits");
  }
}

TEST(CpuCrossEntropy, GradientMayReplaceTheLogitsAndLargeOnesDoNotOverflow) {
  Rows x(4, 9, 3);
  for (double& logit : x.logits) logit *= 1000;
  const auto want = in_shards(x, borders({}, 9));
  for (const double loss : want.loss) EXPECT_TRUE(std::isfinite(loss));
  Doubles data = x.logits;
  testing::run_or_fail(CrossEntropyBackward{.dtype = DType::fp64,
                                            .rows = 4,
                                            .columns = 9,
                                            .scale = 0.25,
                                            .logits = data.data(),
                                            .labels = x.labels.data(),
                                            .lse = want.lse.data(),
                                            .d_logits = data.data()});
  EXPECT_EQ(data, want.d_logits);
}

struct Table {
  std::int64_t rows, columns, vocabulary;
  std::vector<std::int32_t> tokens;
  Doubles table;
};

// The sum of what the shards of the table answer.
Doubles looked_up(const Table& t, const std::vector<std::int64_t>& border) {
  Doubles all(as_size(t.rows * t.columns));
  for (std::size_t s = 0; s + 1 < border.size(); ++s) {
    Guarded<double> out(t.rows * t.columns);
    testing::run_or_fail(
        EmbeddingForward{.dtype = DType::fp64,
                         .rows = t.rows,
                         .columns = t.columns,
                         .vocabulary = border[s + 1] - border[s],
                         .first = border[s],
                         .tokens = t.tokens.data(),
                         .table = t.table.data() + border[s] * t.columns,
                         .out = out.data()});
    EXPECT_TRUE(out.intact());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] += out.values()[i];
  }
  return all;
}

RC_GTEST_PROP(CpuEmbedding, AnyShardsSumToTheWhole, ()) {
  Table t{*rc::gen::inRange<std::int64_t>(0, 9),
          *rc::gen::inRange<std::int64_t>(0, 9),
          *rc::gen::inRange<std::int64_t>(1, 40),
          {},
          {}};
  // A token beyond the vocabulary or below it is in no shard.
  t.tokens =
      Draw(1).indices(t.rows, -1, static_cast<std::int32_t>(t.vocabulary));
  t.table = Draw(2).normal(t.vocabulary * t.columns);
  Doubles want(as_size(t.rows * t.columns));
  for (std::int64_t i = 0; i < t.rows; ++i) {
    const std::int64_t token = t.tokens[as_size(i)];
    if (token < 0 || token >= t.vocabulary) continue;
    for (std::int64_t j = 0; j < t.columns; ++j) {
      want[as_size(i * t.columns + j)] =
          t.table[as_size(token * t.columns + j)];
    }
  }
  const auto cuts = *rc::gen::container<std::vector<std::int64_t>>(
      rc::gen::inRange<std::int64_t>(0, t.vocabulary + 1));
  RC_ASSERT(looked_up(t, borders({}, t.vocabulary)) == want);
  RC_ASSERT(looked_up(t, borders(cuts, t.vocabulary)) == want);
  RC_ASSERT(!::testing::Test::HasFailure());
}

TEST(CpuEmbedding, AddsToWhatIsThereAndItsGradientIsThatOfDifferences) {
  for (const std::int64_t columns : {1, 3, 33}) {
    const std::vector<std::int32_t> tokens{6, 2, 9, 6, 5};  // 9, 2: elsewhere
    Doubles table = Draw(1).normal(4 * columns);            // rows 3 to 6
    const Doubles before = Draw(2).normal(5 * columns);
    const Loss loss{Draw(3).normal(5 * columns)};
    Doubles out;
    const auto value = [&] {
      out = before;
      testing::run_or_fail(EmbeddingForward{.dtype = DType::fp64,
                                            .rows = 5,
                                            .columns = columns,
                                            .vocabulary = 4,
                                            .first = 3,
                                            .add = true,
                                            .tokens = tokens.data(),
                                            .table = table.data(),
                                            .out = out.data()});
      return loss.of(out);
    };
    value();
    const Doubles d_out = loss.gradient(out);
    for (std::size_t j = 0; j < as_size(columns); ++j) {
      EXPECT_EQ(out[j], before[j] + table[3 * as_size(columns) + j]);
      EXPECT_EQ(out[as_size(columns) + j], before[as_size(columns) + j]);
    }
    Doubles d_table(as_size(4 * columns), 7);
    testing::run_or_fail(EmbeddingBackward{.dtype = DType::fp64,
                                           .rows = 5,
                                           .columns = columns,
                                           .vocabulary = 4,
                                           .first = 3,
                                           .tokens = tokens.data(),
                                           .d_out = d_out.data(),
                                           .d_table = d_table.data()});
    for (double& d : d_table) d -= 7;
    testing::expect_gradient(table, d_table, value, "table");
  }
}

}  // namespace
}  // namespace troupe::kernels
