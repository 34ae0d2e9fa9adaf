#include "kernels/check.h"
#include "kernels/cpu.h"
#include "kernels/cpu/bodies.h"

namespace troupe::kernels::cpu {

Result<void> run(const Call& call) {
  TRY_DO(check_call(call, Side::host));
  std::visit([](const auto& c) { perform(c); }, call);
  return {};
}

}  // namespace troupe::kernels::cpu
