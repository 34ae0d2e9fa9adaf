#include "strategy/deduce.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "strategy/layouts.h"
#include "tests/support/fixtures.h"

namespace troupe::strategy {
namespace {

std::vector<DeviceId> devices(int first, int count) {
  std::vector<DeviceId> list;
  for (int i = 0; i < count; ++i) list.push_back(DeviceId{first + i});
  return list;
}

Annotation one_group(States states) {
  const int count = states.devices();
  Annotation a;
  a.groups.push_back({devices(0, count), std::move(states), 1});
  return a;
}

/// The value of a matrix in exact whole numbers: who holds which summand.
using Matrix = std::vector<std::vector<long>>;

Matrix random_matrix(std::int64_t rows, std::int64_t columns) {
  Matrix m(static_cast<std::size_t>(rows));
  for (auto& row : m) {
    for (std::int64_t c = 0; c < columns; ++c) {
      row.push_back(*rc::gen::inRange(-9, 10));
    }
  }
  return m;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c(a.size(), std::vector<long>(b[0].size(), 0));
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t k = 0; k < b.size(); ++k) {
      for (std::size_t j = 0; j < b[0].size(); ++j) {
        c[i][j] += a[i][k] * b[k][j];
      }
    }
  }
  return c;
}

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

/// The part of `whole` that a box names.
Matrix part(const Matrix& whole, const Box& box) {
  Matrix m;
  for (std::int64_t i = box[0].first; i < box[0].last; ++i) {
    const auto& row = whole[at(i)];
    m.emplace_back(row.begin() + box[1].first, row.begin() + box[1].last);
  }
  return m;
}

/// A random way to cut a matrix over `count` devices in one group.
States random_states(int count, const std::vector<int>& keys) {
  States states;
  std::vector<int> order;
  int left = count;
  std::vector<int> todo = keys;
  while (!todo.empty()) {
    const auto pick = *rc::gen::inRange<std::size_t>(0, todo.size());
    const int key = todo[pick];
    todo.erase(todo.begin() + static_cast<std::ptrdiff_t>(pick));
    std::vector<int> divisors;
    for (int d = 1; d <= left; ++d) {
      if (left % d == 0) divisors.push_back(d);
    }
    const int parts = todo.empty() && key == kDuplicate
                          ? left
                          : *rc::gen::elementOf(divisors);
    left /= parts;
    if (parts == 1) continue;
    order.push_back(key);
    if (key == kDuplicate) {
      states.duplicate = parts;
    } else {
      states.split.emplace_back(key, parts);
    }
  }
  if (left > 1) {
    if (states.duplicate == 1) order.push_back(kDuplicate);
    states.duplicate *= left;
  }
  std::ranges::sort(states.split);
  states.order = order;
  return states;
}

// What the devices really compute from what they hold, summed by the layout
// that was deduced, is the product.
RC_GTEST_PROP(DeduceProduct, DescribesWhatDevicesCompute, ()) {
  const int count = *rc::gen::element(1, 2, 4, 6, 8);
  const Annotation a = one_group(random_states(count, {0, 1, kDuplicate}));
  const Annotation b = one_group(random_states(count, {0, 1, kDuplicate}));
  const std::vector<std::int64_t> shape_a{*rc::gen::inRange(1, 9),
                                          *rc::gen::inRange(1, 9)};
  const std::vector<std::int64_t> shape_b{shape_a[1], *rc::gen::inRange(1, 9)};
  const auto c = deduce_product(a, b);
  if (!c) {
    RC_ASSERT(!c.error().message.empty());
    RC_DISCARD("operands that do not fit");
  }
  const std::vector<std::int64_t> shape_c{shape_a[0], shape_b[1]};
  RC_ASSERT(problems(*c, shape_c).empty());
  const Matrix left = random_matrix(shape_a[0], shape_a[1]);
  const Matrix right = random_matrix(shape_b[0], shape_b[1]);
  const Matrix whole = product(left, right);

  const auto held_a = holdings(a, shape_a);
  const auto held_b = holdings(b, shape_b);
  const auto held_c = holdings(*c, shape_c);
  std::map<int, Matrix> summand;  // of the whole result
  for (std::size_t i = 0; i < held_c.size(); ++i) {
    if (held_c[i].boxes.empty()) continue;
    Matrix mine(whole.size(), std::vector<long>(whole[0].size(), 0));
    if (!held_a[i].boxes.empty() && !held_b[i].boxes.empty()) {
      const Box& box_a = held_a[i].boxes[0];
      const Box& box_b = held_b[i].boxes[0];
      RC_ASSERT(box_a[1] == box_b[0]);  // the same share of the sum
      const Matrix local = product(part(left, box_a), part(right, box_b));
      const Box& box_c = held_c[i].boxes[0];
      RC_ASSERT(box_c[0] == box_a[0]);
      RC_ASSERT(box_c[1] == box_b[1]);
      for (std::size_t r = 0; r < local.size(); ++r) {
        for (std::size_t q = 0; q < local[r].size(); ++q) {
          mine[at(box_c[0].first) + r][at(box_c[1].first) + q] = local[r][q];
        }
      }
    }
    // Copies of a summand must agree, parts of one must not overlap.
    auto [found, fresh] = summand.try_emplace(held_c[i].summand, mine);
    if (fresh) continue;
    const Box& box = held_c[i].boxes[0];
    for (std::int64_t r = box[0].first; r < box[0].last; ++r) {
      for (std::int64_t q = box[1].first; q < box[1].last; ++q) {
        long& have = found->second[at(r)][at(q)];
        const long now = mine[at(r)][at(q)];
        if (have == 0) have = now;
        RC_ASSERT(have == now);
      }
    }
  }
  Matrix sum(whole.size(), std::vector<long>(whole[0].size(), 0));
  for (const auto& [s, m] : summand) {
    for (std::size_t r = 0; r < m.size(); ++r) {
      for (std::size_t q = 0; q < m[r].size(); ++q) sum[r][q] += m[r][q];
    }
  }
  RC_ASSERT(sum == whole);
}

TEST(DeduceProduct, ColumnThenRowParallelGivesSummands) {
  // x whole, W1 cut by columns; then W2 cut by rows.
  const Annotation x = one_group({.duplicate = 4});
  const Annotation w1 = one_group({.split = {{1, 4}}});
  const Annotation w2 = one_group({.split = {{0, 4}}});
  const auto h = deduce_product(x, w1);
  ASSERT_TRUE(h);
  EXPECT_EQ(h->groups[0].states.parts(1), 4);
  const auto y = deduce_product(*h, w2);
  ASSERT_TRUE(y);
  EXPECT_EQ(y->groups[0].states.partial, 4);
}

TEST(DeduceProduct, SubgroupsWithOwnRowsGiveSummandsOfWeightGradients) {
  // Two replicas of unequal degree: rows of x and dy split across them.
  Annotation x;
  x.across = Across::split;
  x.groups = {{devices(0, 2), {.duplicate = 2}, 1}, {devices(2, 1), {}, 1}};
  Annotation dy = x;
  dy.groups[0].states = {.split = {{1, 2}}};
  const auto dw = deduce_product(deduce_transpose(x), dy);
  ASSERT_TRUE(dw) << dw.error().message;
  EXPECT_EQ(dw->across, Across::partial);
  EXPECT_EQ(dw->groups[0].states.parts(1), 2);
}

TEST(DeduceProduct, RefusesOperandsThatCutTheSumDifferently) {
  const auto c = deduce_product(one_group({.split = {{1, 2}}}),
                                one_group({.duplicate = 2}));
  ASSERT_FALSE(c);
  EXPECT_THAT(c.error().message, testing::HasSubstr("cuts dimension 1"));
}

TEST(DeducePointwise, OnlySumsLetSummandsThrough) {
  const Annotation partial = one_group({.partial = 2});
  const std::vector<Annotation> two{partial, partial};
  EXPECT_TRUE(deduce_pointwise(two, true));
  EXPECT_FALSE(deduce_pointwise(two, false));
  const std::vector<Annotation> mixed{partial, one_group({.duplicate = 2})};
  EXPECT_FALSE(deduce_pointwise(mixed, true));
}

TEST(DeduceSum, CutsOfTheLostDimensionBecomeSummands) {
  const auto s = deduce_sum(one_group({.split = {{0, 2}, {1, 3}}}), 0);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->groups[0].states.partial, 2);
  EXPECT_EQ(s->groups[0].states.parts(0), 3);
}

TEST(DeduceLookup, AVocabularyCutGivesSummands) {
  const auto out = deduce_lookup(one_group({.duplicate = 4}),
                                 one_group({.split = {{0, 4}}}));
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(out->groups[0].states.partial, 4);
}

TEST(DeduceCrossEntropy, EatsTheCutOfTheClasses) {
  const auto loss = deduce_cross_entropy(one_group({.split = {{1, 4}}}));
  ASSERT_TRUE(loss);
  EXPECT_EQ(loss->groups[0].states.duplicate, 4);
  EXPECT_FALSE(deduce_cross_entropy(one_group({.partial = 2})));
}

TEST(DeduceReshape, KeepsCutsThatStayInFront) {
  // (tokens, heads x head_dim) to (tokens, heads, head_dim), heads cut.
  const Annotation x = one_group({.split = {{1, 4}}});
  const std::int64_t flat[]{6, 32};
  const std::int64_t heads[]{6, 8, 4};
  const auto y = deduce_reshape(x, flat, heads);
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_EQ(y->groups[0].states.parts(1), 4);
  const std::int64_t three[]{6, 2, 16};  // two heads cannot be cut into four
  EXPECT_FALSE(deduce_reshape(x, flat, three));
}

TEST(DeduceSlice, RefusesADimensionThatDevicesCut) {
  const Annotation x = one_group({.split = {{1, 4}}});
  EXPECT_TRUE(deduce_slice(x, 0));
  EXPECT_FALSE(deduce_slice(x, 1));
}

// The layouts that a strategy gives parameters and gradients are those that
// follow from its activations: x whole in each group, rows cut across.
TEST(Deduction, AgreesWithTheGradientLayoutsOfAStrategy) {
  const auto model = test::tiny_model(2);
  const auto s = test::strategy_of(model, {.dp = 2, .tp = 4});
  const Layouts layouts(s, s.phases[0], model);
  const auto list = models::layer_parameter_list(model, 0);
  const auto& up =
      *std::ranges::find(list, "layers.0.mlp.up", &models::Parameter::name);
  const Annotation weight = layouts.of(up, Use::compute);  // (ffn, hidden)
  Annotation x = weight;
  x.across = Across::split;
  for (auto& group : x.groups) group.states = {.duplicate = 4};
  const auto y = deduce_product(x, deduce_transpose(weight));
  ASSERT_TRUE(y) << y.error().message;
  const auto dw = deduce_product(deduce_transpose(*y), x);
  ASSERT_TRUE(dw) << dw.error().message;
  const Annotation expected = layouts.of(up, Use::gradient);
  EXPECT_EQ(holdings(*dw, up.shape), holdings(expected, up.shape));
}

}  // namespace
}  // namespace troupe::strategy
