#include "kernels/cpu.h"
#include "kernels/cpu/bodies.h"
#include "kernels/cpu/check.h"

namespace troupe::kernels::cpu {

Result<void> run(const Call& call) {
  TRY_DO(check_call(call));
  std::visit([](const auto& c) { perform(c); }, call);
  return {};
}

}  // namespace troupe::kernels::cpu
