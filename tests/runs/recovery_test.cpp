// Survival and recovery of state, against ownership counted element by
// element.
#include "runs/recovery.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include "elastic_helpers.h"
#include "reshard/verify.h"
#include "runs/recovery_plan.h"

namespace troupe::runs {
namespace {

using testing::HasSubstr;

/// Calls `visit(index)` for every element of a shape.
template <typename Visit>
void for_elements(const Shape& shape, Visit visit) {
  std::vector<std::int64_t> at(shape.size(), 0);
  for (;;) {
    visit(at);
    std::size_t d = shape.size();
    while (d > 0 && ++at[d - 1] == shape[d - 1]) at[--d] = 0;
    if (d == 0) return;
  }
}

bool inside(const Box& box, const std::vector<std::int64_t>& at) {
  for (std::size_t d = 0; d < at.size(); ++d) {
    if (at[d] < box[d].first || at[d] >= box[d].last) return false;
  }
  return true;
}

std::set<DeviceId> owners_at(const Layout& layout,
                             const std::vector<std::int64_t>& at) {
  std::set<DeviceId> out;
  for (const reshard::Held& held : layout) {
    for (const Box& box : held.boxes) {
      if (inside(box, at)) out.insert(held.device);
    }
  }
  return out;
}

bool any_alive(const std::set<DeviceId>& owners,
               const std::set<DeviceId>& gone) {
  return std::ranges::any_of(owners,
                             [&](DeviceId d) { return !gone.contains(d); });
}

std::set<DeviceId> random_gone(Dice& dice) {
  std::set<DeviceId> gone;
  const int count = 1 + dice.below(6);
  for (int i = 0; i < count; ++i) gone.insert(DeviceId{dice.below(kDevices)});
  return gone;
}

Small random_small(Dice& dice) {
  const bool tied = dice.one_in(3);
  const char* dtype = dice.one_in(4) ? "fp32" : "bf16";
  const int zero = dice.below(4);
  const bool sp = dice.one_in(2);
  return small_of(random_pipelines(dice, all_devices()), zero, tied, dtype, sp);
}

/// The fate of every element of one kind of one parameter, one by one.
struct Oracle {
  Fate fate;
  std::set<std::vector<std::int64_t>> lost;
};

Oracle count(const Small& small, const Keeping& keeping, std::size_t p,
             const models::Parameter& parameter, StateKind kind,
             const std::set<DeviceId>& gone) {
  // Ownership from the annotations themselves, not from the keeping.
  const strategy::Layouts layouts(small.candidate.strategy,
                                  small.candidate.phase(), small.model);
  const bool compute = kind == StateKind::compute;
  const bool sharded = small.candidate.strategy.zero == strategy::Zero::three;
  const auto layout = [&](bool of_compute) {
    return reshard::layout_of(
        layouts.of(parameter, of_compute && !sharded
                                  ? strategy::Use::compute
                                  : strategy::Use::optimizer),
        parameter.shape, reshard::kSource);
  };
  const Layout own = layout(compute);
  const Layout masters = layout(false);
  const Keeping::Class& one = keeping.of(p);
  const bool narrow = small.candidate.strategy.dtype != kernels::DType::fp32;
  Oracle out;
  for_elements(parameter.shape, [&](const std::vector<std::int64_t>& at) {
    const auto owners = owners_at(own, at);
    const bool touched = std::ranges::any_of(
        owners, [&](DeviceId d) { return gone.contains(d); });
    if (!touched) return;
    const Layout& copies = compute ? one.compute_copies : one.copies;
    const bool cast = compute && narrow &&
                      (any_alive(owners_at(masters, at), gone) ||
                       any_alive(owners_at(one.copies, at), gone));
    if (any_alive(owners, gone)) {
      ++out.fate.replica;
    } else if (any_alive(owners_at(copies, at), gone)) {
      ++out.fate.peer;
    } else if (cast) {
      ++out.fate.cast;
    } else {
      ++out.fate.lost;
      out.lost.insert(at);
    }
  });
  return out;
}

RC_GTEST_PROP(Recovery, EveryElementIsFoundOrDeclaredLost, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const Small small = random_small(dice);
  RC_PRE(!small.candidate.devices.empty());
  const auto parameters = models::parameter_list(small.model);
  const Keeping keeping(small.candidate, parameters, small.model, small.cluster,
                        dice.below(3));
  const std::set<DeviceId> gone = random_gone(dice);
  const auto survival = survival_of(keeping, gone);
  RC_ASSERT(survival.has_value());
  std::array<Fate, kStateKinds> expected;
  std::int64_t lost_boxes_elements = 0, lost_elements = 0;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    for (std::size_t k = 0; k < kStateKinds; ++k) {
      const auto kind = static_cast<StateKind>(k);
      const std::int64_t bytes = keeping.element_bytes(kind);
      if (bytes == 0) continue;
      const Oracle oracle = count(small, keeping, p, parameters[p], kind, gone);
      expected[k] += {oracle.fate.replica * bytes, oracle.fate.peer * bytes,
                      oracle.fate.cast * bytes, oracle.fate.lost * bytes};
      lost_elements += oracle.fate.lost;
      for (const LostBox& lost : survival->lost) {
        if (lost.parameter != p || lost.kind != kind) continue;
        lost_boxes_elements += strategy::elements(lost.box);
        for (const DeviceId d : lost.owners) RC_ASSERT(gone.contains(d));
        for_elements(parameters[p].shape, [&](const auto& at) {
          if (inside(lost.box, at)) RC_ASSERT(oracle.lost.contains(at));
        });
      }
    }
  }
  RC_ASSERT(expected == survival->bytes);
  if (survival->lost_boxes == std::ssize(survival->lost)) {
    RC_ASSERT(lost_boxes_elements == lost_elements);
  }
  RC_ASSERT(survival->complete() == (lost_elements == 0));
}

RC_GTEST_PROP(Recovery, SurvivorsAreThoseWhoHaveIt, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const Small small = random_small(dice);
  RC_PRE(!small.candidate.devices.empty());
  const auto parameters = models::parameter_list(small.model);
  const Keeping keeping(small.candidate, parameters, small.model, small.cluster,
                        dice.below(3));
  const std::set<DeviceId> gone = random_gone(dice);
  const auto survival = survival_of(keeping, gone);
  RC_ASSERT(survival.has_value());
  for (std::size_t c = 0; c < keeping.classes().size(); ++c) {
    const Keeping::Class& one = keeping.classes()[c];
    for_elements(one.shape, [&](const auto& at) {
      std::set<DeviceId> alive;
      for (const Layout* layout : {&one.optimizer_held, &one.copies}) {
        for (const DeviceId d : owners_at(*layout, at)) {
          if (!gone.contains(d)) alive.insert(d);
        }
      }
      RC_ASSERT(owners_at(*survival->optimizer[c], at) == alive);
      if (keeping.narrow()) {
        for (const DeviceId d : owners_at(one.compute_held, at)) {
          if (!gone.contains(d)) alive.insert(d);
        }
        RC_ASSERT(owners_at(*survival->compute[c], at) == alive);
      }
    });
    // Nothing twice on a device.
    for (const reshard::Held& held : *survival->compute[c]) {
      for (std::size_t i = 0; i < held.boxes.size(); ++i) {
        RC_ASSERT(reshard::overlaps({&held.boxes[i], 1},
                                    std::span(held.boxes).subspan(i + 1))
                      .empty());
      }
    }
  }
}

// With k peers any k nodes may go, while there are more nodes in use.
RC_GTEST_PROP(Recovery, PeersCoverAsManyNodes, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const Small small = random_small(dice);
  RC_PRE(!small.candidate.devices.empty());
  std::set<std::int32_t> nodes;
  for (const DeviceId d : small.candidate.devices) nodes.insert(d.v / 4);
  const int peers = 1 + dice.below(2);
  RC_PRE(std::ssize(nodes) > peers);
  const auto parameters = models::parameter_list(small.model);
  const Keeping keeping(small.candidate, parameters, small.model, small.cluster,
                        peers);
  std::vector<std::int32_t> order(nodes.begin(), nodes.end());
  dice.shuffle(order);
  std::set<DeviceId> gone;
  for (int i = 0; i < peers; ++i) {
    for (int d = 0; d < 4; ++d) {
      gone.insert(DeviceId{order[static_cast<std::size_t>(i)] * 4 + d});
    }
  }
  const auto survival = survival_of(keeping, gone);
  RC_ASSERT(survival.has_value());
  RC_ASSERT(survival->complete());
}

// What owners send after a step is what peers keep.
RC_GTEST_PROP(Recovery, UpdatesFillTheCopies, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const Small small = random_small(dice);
  RC_PRE(!small.candidate.devices.empty());
  const auto parameters = models::parameter_list(small.model);
  const Keeping keeping(small.candidate, parameters, small.model, small.cluster,
                        1 + dice.below(2));
  std::vector<std::int64_t> received(kDevices, 0);
  for (const Keeping::Update& u : keeping.updates()) {
    RC_ASSERT(u.from != u.to);
    RC_ASSERT(u.from.v / 4 != u.to.v / 4);
    received[u.to.at()] += u.bytes;
  }
  RC_ASSERT(received == keeping.copies_by_device());
}

RC_GTEST_PROP(Recovery, PlansPassTheCheckerFromAnyLoss, ()) {
  Dice dice(*rc::gen::arbitrary<std::uint64_t>());
  const bool tied = dice.one_in(3);
  const char* dtype = dice.one_in(4) ? "fp32" : "bf16";
  const std::set<DeviceId> gone = random_gone(dice);
  std::vector<int> left;
  for (const int d : all_devices()) {
    if (!gone.contains(DeviceId{d})) left.push_back(d);
  }
  const Small from = small_of(random_pipelines(dice, all_devices()),
                              dice.below(4), tied, dtype, true);
  const Small to =
      small_of(random_pipelines(dice, left), dice.below(4), tied, dtype, true);
  RC_PRE(!from.candidate.devices.empty() && !to.candidate.devices.empty());
  const auto parameters = models::parameter_list(from.model);
  const int peers = dice.below(2);
  const Keeping before(from.candidate, parameters, from.model, from.cluster,
                       peers);
  const Keeping after(to.candidate, parameters, to.model, to.cluster, peers);
  const auto survival = survival_of(before, gone);
  RC_ASSERT(survival.has_value());
  const auto rates = reshard::rates_of(from.cluster);
  const reshard::Routes routes(from.cluster, rates);
  RecoveryOptions options;
  options.checkpoint = CheckpointOptions{10, {1e9}, {1e9}, {}};
  options.reading = dice.one_in(3)         ? Reading::everything
                    : survival->complete() ? Reading::nothing
                                           : Reading::what_is_lost;
  options.bucket = Bytes{dice.one_in(2) ? 0 : 4096};
  const auto recovery =
      plan_recovery(before, *survival, after, parameters, routes, options);
  RC_ASSERT(recovery.has_value());
  RC_ASSERT(recovery->verified == std::ssize(recovery->changes));
  for (const reshard::TensorChange& change : recovery->changes) {
    std::int64_t sources = 0, elements = 1;
    for (const std::int64_t n : change.shape) elements *= n;
    for (const reshard::Held& held : reshard::source_of(change)) {
      RC_ASSERT(!gone.contains(held.device));
      sources += reshard::elements(held.boxes);
    }
    // After a roll-back nothing of the survivors' later state is taken: each
    // element has the one source that read it.
    if (options.reading == Reading::everything) RC_ASSERT(sources == elements);
  }
  // A checkpoint of everything is 12 bytes a parameter, each read once.
  std::int64_t lost = 0, all = 0;
  for (const auto& p : parameters) all += p.elements() * 12;
  for (std::size_t k = 0; k < kStateKinds; ++k) {
    // Compute copies of a narrow type are cast, not read.
    if (k == 0 && before.narrow()) continue;
    lost += survival->bytes[k].lost;
  }
  const std::int64_t expected = options.reading == Reading::everything ? all
                                : options.reading == Reading::what_is_lost
                                    ? lost
                                    : 0;
  RC_ASSERT(recovery->read.v == expected);
}

// One pipeline under ZeRO 1 is no different from none: every box has one
// owner, and what device 1 had is gone.
TEST(Recovery, NamesWhatASinglePipelineLoses) {
  const Small small = small_of(
      R"({"stages": [{"devices": [0, 1], "layers": 2},
                     {"devices": [4, 5], "layers": 2}]})",
      1, false, "bf16", true);
  const auto parameters = models::parameter_list(small.model);
  const Keeping keeping(small.candidate, parameters, small.model, small.cluster,
                        0);
  const auto survival = survival_of(keeping, {DeviceId{1}});
  ASSERT_TRUE(survival);
  EXPECT_FALSE(survival->complete());
  const Error error = lost_state(*survival, parameters);
  EXPECT_EQ(error.fault, Fault::infeasible);
  EXPECT_THAT(error.message, HasSubstr("embedding.tokens compute copy"));
  EXPECT_THAT(error.message, HasSubstr("[18,37)x[0,24)"));
  EXPECT_THAT(error.message, HasSubstr("held only by device 1"));
  EXPECT_THAT(error.message, HasSubstr("no checkpoint"));
  const auto rates = reshard::rates_of(small.cluster);
  const reshard::Routes routes(small.cluster, rates);
  const auto refused =
      plan_recovery(keeping, *survival, keeping, parameters, routes, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), error);
}

// Two pipelines without ZeRO hold everything twice; with it the optimizer's
// half of device 0 is gone, while its compute copy is on device 4.
TEST(Recovery, ComputeCopiesDoNotRestoreTheOptimizer) {
  const char* two = R"({"stages": [{"devices": [0], "layers": 4}]},
                       {"stages": [{"devices": [4], "layers": 4}]})";
  for (const int zero : {0, 1}) {
    const Small small = small_of(two, zero, false, "bf16", true);
    const auto parameters = models::parameter_list(small.model);
    const Keeping keeping(small.candidate, parameters, small.model,
                          small.cluster, 0);
    const auto survival = survival_of(keeping, {DeviceId{0}});
    ASSERT_TRUE(survival);
    std::int64_t elements = 0;
    for (const auto& p : parameters) elements += p.elements();
    EXPECT_EQ(survival->bytes[0], (Fate{.replica = 2 * elements}));
    EXPECT_EQ(survival->complete(), zero == 0);
    if (zero == 0) {
      EXPECT_EQ(survival->bytes[1], (Fate{.replica = 4 * elements}));
    } else {
      EXPECT_EQ(survival->bytes[1].replica, 0);
      EXPECT_GT(survival->bytes[1].lost, 4 * elements * 2 / 5);
      EXPECT_LT(survival->bytes[1].lost, 4 * elements * 3 / 5);
      EXPECT_EQ(survival->bytes[1], survival->bytes[2]);
    }
    // The gradient of its own micro-batches is gone in both.
    EXPECT_EQ(survival->gradient_bytes_lost, 4 * elements);
  }
}

// Under ZeRO 3 the compute copies are shards too; a surviving peer's master
// copy gives them back.
TEST(Recovery, MasterCopiesRestoreShardedComputeCopies) {
  const Small small = small_of(
      R"({"stages": [{"devices": [0], "layers": 4}]},
         {"stages": [{"devices": [4], "layers": 4}]})",
      3, false, "bf16", true);
  const auto parameters = models::parameter_list(small.model);
  const Keeping keeping(small.candidate, parameters, small.model, small.cluster,
                        1);
  const auto survival = survival_of(keeping, {DeviceId{0}});
  ASSERT_TRUE(survival);
  EXPECT_TRUE(survival->complete());
  EXPECT_GT(survival->bytes[0].cast, 0);
  EXPECT_EQ(survival->bytes[0].replica, 0);
  EXPECT_EQ(survival->bytes[1].peer, 2 * survival->bytes[0].cast);
}

}  // namespace
}  // namespace troupe::runs
