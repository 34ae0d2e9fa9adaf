#include "kernels/cuda/attention_forward.cuh"
#include "kernels/cuda/attention_launch.h"

namespace troupe::kernels::cuda {
namespace {

template <int dim, int keys>
Result<void> launch_one(const AttentionForward& call,
                        const AttentionShape& shape, const Device& device) {
  using F = ForwardTiles<dim, keys>;
  const ForwardOperands operands{
      static_cast<const bf16*>(call.q), static_cast<const bf16*>(call.k),
      static_cast<const bf16*>(call.v), static_cast<bf16*>(call.out),
      static_cast<float*>(call.lse)};
  const dim3 grid(blocks_of(shape.max_q, F::kQueries),
                  static_cast<unsigned>(shape.heads),
                  static_cast<unsigned>(shape.sequences));
  return start(&attention_forward<dim, keys>, grid, F::kThreads, F::kShared,
               device, shape, operands);
}

}  // namespace

// Keys to a tile: as many as leave two blocks of 255 registers to a
// multiprocessor without spilling sums. Shared memory (48 to 64 KiB) then
// allows two blocks on every GPU since sm_80.
Result<void> launch_tiles(const AttentionForward& call,
                          const AttentionShape& shape, const Device& device) {
  if (shape.head_dim <= 64) return launch_one<64, 128>(call, shape, device);
  if (shape.head_dim <= 80) return launch_one<80, 64>(call, shape, device);
  if (shape.head_dim <= 96) return launch_one<96, 64>(call, shape, device);
  if (shape.head_dim <= 112) return launch_one<112, 64>(call, shape, device);
  return launch_one<128, 64>(call, shape, device);
}

}  // namespace troupe::kernels::cuda
