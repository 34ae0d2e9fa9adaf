#include "schedule/schedule.h"

namespace troupe::schedule {

std::string_view name_of(Stream stream) {
  switch (stream) {
    case Stream::compute:
      return "compute";
    case Stream::tensor:
      return "tensor";
    case Stream::context:
      return "context";
    case Stream::data:
      return "data";
    case Stream::pipeline:
      return "pipeline";
  }
  return "";
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::input:
      return "input";
    case Role::output:
      return "output";
    case Role::parameter:
      return "parameter";
    case Role::gradient:
      return "gradient";
    case Role::saved:
      return "saved";
    case Role::temporary:
      return "temporary";
    case Role::gathered:
      return "gathered";
    case Role::scattered:
      return "scattered";
  }
  return "";
}

std::string_view name_of(TaskKind kind) {
  switch (kind) {
    case TaskKind::forward:
      return "forward";
    case TaskKind::backward:
      return "backward";
    case TaskKind::backward_input:
      return "backward_input";
    case TaskKind::backward_weight:
      return "backward_weight";
    case TaskKind::transfer:
      return "transfer";
    case TaskKind::gradient_sync:
      return "gradient_sync";
    case TaskKind::optimizer:
      return "optimizer";
    case TaskKind::parameter_gather:
      return "parameter_gather";
    case TaskKind::layout_switch:
      return "layout_switch";
  }
  return "";
}

bool computes(TaskKind kind) {
  switch (kind) {
    case TaskKind::forward:
    case TaskKind::backward:
    case TaskKind::backward_input:
    case TaskKind::backward_weight:
    case TaskKind::optimizer:
      return true;
    case TaskKind::transfer:
    case TaskKind::gradient_sync:
    case TaskKind::parameter_gather:
    case TaskKind::layout_switch:
      return false;
  }
  return false;
}

Bytes size_of(const Tensor& tensor) {
  std::int64_t elements = 1;
  for (const std::int64_t d : tensor.shape) elements *= d;
  return kernels::size_of(tensor.dtype) * elements;
}

int Stage::tp() const {
  std::size_t most = 0;
  for (const auto& member : members) most = std::max(most, member.size());
  return static_cast<int>(most);
}

int Stage::ranks() const {
  std::size_t count = 0;
  for (const auto& member : members) count += member.size();
  return static_cast<int>(count);
}

}  // namespace troupe::schedule
