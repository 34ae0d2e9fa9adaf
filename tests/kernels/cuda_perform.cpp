#include "tests/kernels/cuda_perform.h"

#include <algorithm>

namespace troupe::kernels::testing {
namespace {

// Bytes after an operand, to see what is written there.
constexpr std::size_t kGuard = 64;
constexpr std::byte kMark{0xA5};

}  // namespace

Perform perform_on(cuda::Context& context, std::int64_t offset) {
  return [&context, offset](
             Memory& operands,
             const std::function<Call(std::span<void* const>)>& make)
             -> Result<void> {
    std::vector<cuda::Buffer> buffers;
    std::vector<void*> addresses;
    std::vector<std::byte> padded;
    for (const auto& bytes : operands) {
      padded = bytes;
      padded.resize(bytes.size() + kGuard, kMark);
      const Bytes size{static_cast<std::int64_t>(padded.size())};
      TRY(auto buffer, context.allocate(size + Bytes{offset}));
      auto* at = static_cast<std::byte*>(buffer.data()) + offset;
      TRY_DO(context.copy_in(at, padded.data(), size));
      addresses.push_back(bytes.empty() ? nullptr : at);
      buffers.push_back(std::move(buffer));
    }
    TRY_DO(cuda::run(make(addresses), context));
    TRY_DO(context.synchronize());
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].empty()) continue;
      padded.resize(operands[i].size() + kGuard);
      TRY_DO(context.copy_out(padded.data(), addresses[i],
                              {static_cast<std::int64_t>(padded.size())}));
      const auto end =
          padded.begin() + static_cast<std::ptrdiff_t>(operands[i].size());
      if (std::any_of(end, padded.end(),
                      [](std::byte b) { return b != kMark; })) {
        return fail(Fault::io,
                    "wrote past the end of operand " + std::to_string(i));
      }
      std::copy(padded.begin(), end, operands[i].begin());
    }
    return {};
  };
}

}  // namespace troupe::kernels::testing
