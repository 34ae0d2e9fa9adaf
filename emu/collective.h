// What ranks bring to a collective, and whether it fits.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "exec/communicator.h"

namespace troupe::emu {

enum class Operation : std::int32_t { all_gather, all_reduce, meet };

std::string_view name_of(Operation operation);

/// What one member wants, without the bytes.
struct Intent {
  Operation operation = Operation::meet;
  kernels::DType dtype = kernels::DType::fp32;
  std::int64_t brings = 0, gets = 0;  ///< bytes
};

/// What is wrong when the members want different things, or empty. `sizes`
/// are those that a member expects of an all-gather, else empty.
std::string mismatch(std::span<const exec::RankId> group,
                     std::span<const Intent> intents,
                     std::span<const Bytes> sizes);

/// What a rank says that reads what another does not expose (any more).
std::string nothing_exposed(exec::RankId owner, exec::RankId reader);
/// Packs strips of `memory` into `to`; what is wrong with them, or empty.
std::string copy_strips(std::span<const std::byte> memory,
                        std::span<const exec::Strip> strips,
                        std::span<std::byte> to);

/// "rank 2 sent 7 bytes to rank 0, which expects 8".
std::string wrong_size(exec::RankId from, std::size_t sent, exec::RankId to,
                       std::size_t expected);

}  // namespace troupe::emu
