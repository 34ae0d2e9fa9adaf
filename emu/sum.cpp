#include "emu/sum.h"

#include "base/result.h"
#include "kernels/cpu.h"

namespace troupe::emu {

void add_into(kernels::DType dtype, std::span<std::byte> sum,
              std::span<const std::byte> other) {
  kernels::Add call{.dtype = dtype};
  call.elements =
      static_cast<std::int64_t>(sum.size()) / kernels::size_of(dtype).v;
  call.a = sum.data();
  call.b = other.data();
  call.out = sum.data();
  check(kernels::cpu::run(call).has_value(), "a sum of an unknown type");
}

}  // namespace troupe::emu
