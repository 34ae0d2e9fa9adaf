// From what is left of one strategy's state to everything that the next one
// keeps: who sends which box to whom, what is read from the checkpoint, and
// what that takes.
#pragma once

#include "reshard/switch.h"
#include "runs/recovery.h"

namespace troupe::runs {

/// What is read from a checkpoint before devices exchange anything.
enum class Reading : std::uint8_t {
  nothing,
  what_is_lost,  ///< the checkpoint is of the step that survivors have
  everything,    ///< the state of an earlier step
};

struct RecoveryOptions {
  Reading reading = Reading::nothing;
  std::optional<CheckpointOptions> checkpoint;
  Bytes bucket;
  bool compare = true;  ///< reckon every sender rule
  bool verify = true;   ///< carry out the plan of every tensor over symbols
};

/// A change of state that can be carried out.
struct Recovery {
  std::vector<reshard::TensorChange> changes;  ///< a tensor for each kind
  reshard::SwitchPlan plan;
  /// By change: who reads what from the checkpoint; null: nobody.
  std::vector<std::shared_ptr<const Layout>> readers;
  Bytes read;    ///< from the checkpoint, each element once
  Time load;     ///< reading it
  Time copying;  ///< the new strategy's copies for peers, made anew
  Bytes copied;
  /// Most on one device, of old state, new state (once where they are the
  /// same) and what is packed.
  Bytes peak;
  DeviceId fullest;
  bool out_of_memory = false;  ///< the peak is more than a device has
  std::int64_t verified = 0;   ///< tensors whose plan the checker passed
};

/// Sends of owners to peers after a step, priced as one batch.
Time copy_time(const Keeping& keeping, const reshard::Routes& routes);

/// To whom writes a trace.
inline constexpr std::string_view kTraceAdvice =
    "give the options \"peers\" or \"checkpoint\"";

/// Model:  Compute copies and the optimizer's tensors move in one batch. Each
///         box comes from the survivor (owner, peer, or for a compute copy a
///         holder of the master copy) that the balance of predicted link
///         loads prefers. What is read from the checkpoint is read once, by
///         one of its new owners, which then sends it to the others.
/// Errors: infeasible, naming parameter, box and dead owner, when something
///         is lost and nothing is read; a plan that the checker does not
///         pass; as `plan_switch`.
/// Requires: both keepings of the same parameters; `left` of `before`.
[[nodiscard]] Result<Recovery> plan_recovery(
    const Keeping& before, const Survival& left, const Keeping& after,
    const std::vector<models::Parameter>& parameters,
    const reshard::Routes& routes, const RecoveryOptions& options);

/// The message when state is lost and there is no checkpoint; ends with what
/// to do.
Error lost_state(const Survival& survival,
                 const std::vector<models::Parameter>& parameters,
                 std::string_view advice = kTraceAdvice);

}  // namespace troupe::runs
