// The layout of every parameter under a phase of a strategy: where forward
// and backward use it, and where its optimizer state lives.
#pragma once

#include <vector>

#include "models/parameters.h"
#include "strategy/annotation.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

/// What a parameter's numbers are for; each has a layout of its own.
enum class Use : std::uint8_t {
  compute,    ///< the copy that forward and backward multiply with
  gradient,   ///< a micro-batch's gradient before any sync: one summand a
              ///< tensor-parallel group
  optimizer,  ///< master copy, moments and the synchronised gradient
};

/// Layouts of one phase on one model. Every subgroup is a tensor-parallel
/// group that holds the parameter's layer: pipelines in order, members of a
/// stage in order; a tied table lies on the first and the last stage.
///
/// Model:  `compute` cuts a parameter over its group as `Parameter::cut`
///         says and replicates it across groups. `gradient` is the same with
///         a summand per group; what ranks of a group hold in common gets a
///         summand per rank where each sees its own part of the work: whole
///         parameters under sequence parallelism, shared key heads always.
///         `optimizer` is `compute` without ZeRO; with it, each group owns a
///         share of every block of the cut dimension (interleaved), so that
///         unequal groups own alike.
class Layouts {
 public:
  Layouts(const Strategy& strategy, const Phase& phase,
          const models::Model& model);

  Annotation of(const models::Parameter& parameter, Use use) const;

  /// The tensor-parallel groups that hold a layer (or models::kEmbedding,
  /// models::kHead), in subgroup order.
  std::vector<std::vector<DeviceId>> groups(int layer) const;

 private:
  std::vector<std::vector<DeviceId>> holders(
      const models::Parameter& parameter) const;

  /// Turns copies within a group into the summands their gradients are.
  void sum_copies(const models::Parameter& parameter, States& states) const;

  const Phase& phase_;
  const models::Model& model_;
  Zero zero_;
  bool sequence_parallel_;
};

}  // namespace troupe::strategy
