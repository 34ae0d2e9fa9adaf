// A whole switch of layouts: all parameters (or optimizer states) of a model
// from one strategy to another, planned together: senders by shared load,
// one message for each pair of devices and bucket, buckets within a limit of
// memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "reshard/movement.h"
#include "strategy/layouts.h"

namespace troupe::reshard {

/// One tensor that changes its layout; nothing is reduced.
struct TensorChange {
  std::string name;
  Annotation source, destination;
  Shape shape;
  kernels::DType dtype = kernels::DType::bf16;
  /// Who holds it now, in place of `source`: after a loss, what is left of it
  /// and who else has copies. Every element that the destination needs, and
  /// on one device no element twice. Tensors that share it share their pieces.
  std::shared_ptr<const Layout> held = {};
};

/// `held`, or else what the source says.
Layout source_of(const TensorChange& change);

/// Every parameter of a model between two phases' layouts.
std::vector<TensorChange> parameter_changes(const strategy::Layouts& from,
                                            const strategy::Layouts& to,
                                            const models::Model& model,
                                            strategy::Use use,
                                            kernels::DType dtype);

/// The same between layouts of unequal use, as bridges need.
std::vector<TensorChange> parameter_changes(const strategy::Layouts& from,
                                            strategy::Use from_use,
                                            const strategy::Layouts& to,
                                            strategy::Use to_use,
                                            const models::Model& model,
                                            kernels::DType dtype);

struct SwitchOptions {
  SenderRule senders = SenderRule::balanced;
  /// Most bytes that a device packs to send and receives in one bucket; 0 for
  /// a single bucket. No bucket exceeds it.
  Bytes bucket;
  /// Whether to reckon all rules, for comparison.
  bool compare = false;
};

/// Rows [first, last) of a piece of a tensor, from one device to another.
struct Transfer {
  std::int32_t tensor = 0;
  std::int32_t piece = 0;  ///< of the tensor's class
  DeviceId from, to;
  std::int32_t bucket = 0;
  std::int64_t first = 0, last = 0;
  std::int64_t bytes = 0;
  bool operator==(const Transfer&) const = default;
};

/// Tensors with equal layouts and shapes share their pieces.
struct TensorClass {
  std::int32_t representative = 0;  ///< the first such tensor
  std::vector<Box> pieces;
  bool operator==(const TensorClass&) const = default;
};

struct Bucket {
  std::size_t first = 0, last = 0;  ///< of the transfers
  std::int64_t messages = 0;        ///< pairs of devices
  Bytes peak;                       ///< packed and received on one device
  Makespan makespan;
  bool operator==(const Bucket&) const = default;
};

struct SwitchPlan {
  std::vector<TensorClass> classes;
  std::vector<std::int32_t> class_of;  ///< by tensor
  /// By bucket, then pair; a bucket's transfers of one pair are one message.
  std::vector<Transfer> transfers;
  std::vector<Bucket> buckets;
  SenderRule senders = SenderRule::balanced;  ///< whose choice it is
  Makespan makespan;                          ///< of everything at once
  std::vector<Makespan> by_rule;              ///< by SenderRule, when compared
  Bytes moved;
  Bytes peak;      ///< the largest of the buckets
  Time predicted;  ///< bucket after bucket

  Box box_of(const Transfer& transfer) const;
  bool operator==(const SwitchPlan&) const = default;
};

/// A switch in more buckets than that is refused: every bucket starts anew.
inline constexpr std::int64_t kMostBuckets = 1024;

/// Errors: input, for a tensor that would be reduced, or an annotation that
///         cannot be; infeasible, for a bucket smaller than a row or than the
///         busiest device's bytes over kMostBuckets, naming the smallest that
///         will do.
[[nodiscard]] Result<SwitchPlan> plan_switch(
    std::span<const TensorChange> changes, const Routes& routes,
    const SwitchOptions& options = {});

/// What a switch does with one tensor, as a plan of its own for the checker.
///
/// Errors: as `plan_switch`.
Result<Plan> plan_of(const SwitchPlan& plan,
                     std::span<const TensorChange> changes,
                     std::int32_t tensor);

}  // namespace troupe::reshard
