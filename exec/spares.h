// Parameters' states that a device has beside its own: copies for peers, and
// what it read from a checkpoint.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "exec/weights.h"

namespace troupe::exec {

/// Who has what, by parameter of the programs; null: nobody.
using SpareLayouts = std::vector<std::shared_ptr<const reshard::Layout>>;

class Spares {
 public:
  /// Memory for all three states of what `layouts` gives to `self`, zero.
  ///
  /// Errors: of the device.
  static Result<Spares> of(const Program& program, const SpareLayouts& layouts,
                           reshard::DeviceId self, Device& device);

  /// As a run begins with them, or goes on from a checkpoint.
  Result<void> fill(const Program& program, Device& device,
                    const Values& values);
  /// Null where the device has nothing of a parameter.
  Storage* find(std::size_t parameter, State state);

 private:
  std::vector<std::array<OwnedStorage, kStates.size()>> held_;
};

}  // namespace troupe::exec
