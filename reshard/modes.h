// What has to move at a change of strategy: it depends on what the run did
// under the old one.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace troupe::reshard {

/// How far a run went under a strategy.
enum class RunLevel : std::uint8_t {
  topology,      ///< graphs only, nothing is in memory
  allocate,      ///< parameters are in memory, nothing was computed
  compute_only,  ///< forward and backward whose gradients nobody keeps
  gradient,      ///< gradients are summed up, no update yet
  update,        ///< gradients synchronised and applied
};
std::string_view name_of(RunLevel level);

/// What moves.
struct Moves {
  /// What forward and backward multiply with, in the working type (with fp32
  /// as that type: the masters).
  bool parameters = false;
  bool gradients = false;  ///< summed and synchronised so far
  /// Master parameters and both moments, in fp32. After an update they are
  /// what is newest, and the working copies are made from them.
  bool states = false;
  bool operator==(const Moves&) const = default;
};

/// What moves between a run at level `before` and the next at level `after`.
///
/// Model:  after topology nothing; after allocate the parameters; after
///         gradient parameters and gradients; after update the states, or,
///         with `one_state_layout`, the parameters made from them anew. Adam's
///         step number and activations never move.
///         `one_state_layout`: both strategies keep states in one layout
///         (HotSPa's first strategy, Hydraulis' optimizer strategy).
/// Errors: input, for successions that lose something: topology is only a
///         beginning; allocate follows topology, allocate or update;
///         gradient is followed by gradient or update; what computes only
///         keeps no gradients, so it follows and is followed by itself, or
///         follows topology or allocate.
/// Source: HotSPa and Hetu v2, run levels.
[[nodiscard]] Result<Moves> moves_between(RunLevel before, RunLevel after,
                                          bool one_state_layout);

}  // namespace troupe::reshard
