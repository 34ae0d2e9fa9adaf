// Between the files that launch attention: one for each kernel family, so
// that they compile side by side.
#pragma once

#include "kernels/cuda/attention_shape.h"
#include "kernels/cuda/device.h"

namespace troupe::kernels::cuda {

/// Blocks of `tile` that hold `n`.
inline unsigned blocks_of(std::int64_t n, std::int64_t tile) {
  return static_cast<unsigned>((n + tile - 1) / tile);
}

/// bf16 on matrix units; `shape.head_dim` at most kWidestTile.
Result<void> launch_tiles(const AttentionForward& call,
                          const AttentionShape& shape, const Device& device);
Result<void> launch_key_tiles(const AttentionBackward& call,
                              const AttentionShape& shape,
                              const Device& device);
Result<void> launch_query_tiles(const AttentionBackward& call,
                                const AttentionShape& shape,
                                const Device& device);

/// Any type of value that has kernels, any head to kWidestHead.
Result<void> launch_plain(const AttentionForward& call,
                          const AttentionShape& shape, const Device& device);
Result<void> launch_plain(const AttentionBackward& call,
                          const AttentionShape& shape, const Device& device);
/// delta into the call's workspace.
Result<void> launch_delta(const AttentionBackward& call,
                          const AttentionShape& shape, const Device& device);

}  // namespace troupe::kernels::cuda
