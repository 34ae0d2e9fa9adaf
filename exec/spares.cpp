#include "exec/spares.h"

namespace troupe::exec {

Result<Spares> Spares::of(const Program& program, const SpareLayouts& layouts,
                          reshard::DeviceId self, Device& device) {
  Spares out;
  out.held_.resize(layouts.size());
  const kernels::DType wide = kernels::statistics_type(program.dtype);
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    if (layouts[i] == nullptr) continue;
    std::vector<Box> boxes;
    for (const reshard::Held& held : *layouts[i]) {
      if (held.device != self) continue;
      boxes.insert(boxes.end(), held.boxes.begin(), held.boxes.end());
    }
    if (boxes.empty()) continue;
    for (OwnedStorage& state : out.held_[i]) {
      TRY(state, OwnedStorage::of(device, boxes, wide));
    }
  }
  return out;
}

Result<void> Spares::fill(const Program& program, Device& device,
                          const Values& values) {
  for (std::size_t i = 0; i < held_.size(); ++i) {
    for (const State state : kStates) {
      Storage* const to = find(i, state);
      if (to == nullptr) continue;
      TRY_DO(fill_storage(device, program.weights[i].placement.parameter, state,
                          values, *to));
    }
  }
  return {};
}

Storage* Spares::find(std::size_t parameter, State state) {
  if (parameter >= held_.size()) return nullptr;
  Storage& found = held_[parameter][static_cast<std::size_t>(state)].storage;
  return found.pieces.empty() ? nullptr : &found;
}

}  // namespace troupe::exec
