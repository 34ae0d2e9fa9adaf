#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_backward_query.cuh"
#include "kernels/cuda/attention_launch.h"

namespace troupe::kernels::cuda {
namespace {

BackwardOperands operands(const AttentionBackward& call) {
  return {static_cast<const bf16*>(call.q),
          static_cast<const bf16*>(call.k),
          static_cast<const bf16*>(call.v),
          static_cast<const bf16*>(call.d_out),
          static_cast<const float*>(call.lse),
          static_cast<const float*>(call.workspace),
          static_cast<bf16*>(call.dq),
          static_cast<bf16*>(call.dk),
          static_cast<bf16*>(call.dv)};
}

template <class T>
Result<void> launch_keys(const AttentionBackward& call,
                         const AttentionShape& shape, const Device& device) {
  const dim3 grid(blocks_of(shape.max_kv, T::kKeys),
                  static_cast<unsigned>(shape.kv_heads),
                  static_cast<unsigned>(shape.sequences));
  return start(&attention_key_gradient<T>, grid, T::kThreads, T::kShared,
               device, shape, operands(call));
}

template <class T>
Result<void> launch_queries(const AttentionBackward& call,
                            const AttentionShape& shape, const Device& device) {
  const dim3 grid(blocks_of(shape.max_q, T::kQueries),
                  static_cast<unsigned>(shape.heads),
                  static_cast<unsigned>(shape.sequences));
  return start(&attention_query_gradient<T>, grid, T::kThreads, T::kShared,
               device, shape, operands(call));
}

// Where two stages do not fit a block, one does everywhere since sm_80.
template <int dim, int m, int warps, int queries>
Result<void> launch_keys_by_memory(const AttentionBackward& call,
                                   const AttentionShape& shape,
                                   const Device& device) {
  using Two = KeyTiles<dim, m, warps, queries, 2>;
  using One = KeyTiles<dim, m, warps, queries, 1>;
  return Two::kShared <= device.shared_limit
             ? launch_keys<Two>(call, shape, device)
             : launch_keys<One>(call, shape, device);
}

// A second block on the multiprocessor hides more than a second stage. Every
// block takes 1 KiB more than it asks for.
template <int dim, int keys>
Result<void> launch_queries_by_memory(const AttentionBackward& call,
                                      const AttentionShape& shape,
                                      const Device& device) {
  using Two = QueryTiles<dim, keys, 2>;
  using One = QueryTiles<dim, keys, 1>;
  return 2 * Two::kShared + 1024 <= device.shared_limit
             ? launch_queries<Two>(call, shape, device)
             : launch_queries<One>(call, shape, device);
}

}  // namespace

// A narrow head leaves registers for 32 keys to a warp, which halves what is
// read from shared memory; wider ones take 16 keys and twice the warps.
Result<void> launch_key_tiles(const AttentionBackward& call,
                              const AttentionShape& s, const Device& device) {
  if (s.head_dim <= 64) {
    return launch_keys_by_memory<64, 2, 4, 32>(call, s, device);
  }
  if (s.head_dim <= 80) {
    return launch_keys_by_memory<80, 1, 8, 64>(call, s, device);
  }
  if (s.head_dim <= 96) {
    return launch_keys_by_memory<96, 1, 8, 64>(call, s, device);
  }
  if (s.head_dim <= 112) {
    return launch_keys_by_memory<112, 1, 8, 64>(call, s, device);
  }
  return launch_keys_by_memory<128, 1, 8, 64>(call, s, device);
}

Result<void> launch_query_tiles(const AttentionBackward& call,
                                const AttentionShape& s, const Device& device) {
  if (s.head_dim <= 64) {
    return launch_queries_by_memory<64, 64>(call, s, device);
  }
  if (s.head_dim <= 80) {
    return launch_queries_by_memory<80, 32>(call, s, device);
  }
  if (s.head_dim <= 96) {
    return launch_queries_by_memory<96, 32>(call, s, device);
  }
  if (s.head_dim <= 112) {
    return launch_queries_by_memory<112, 32>(call, s, device);
  }
  return launch_queries_by_memory<128, 32>(call, s, device);
}

}  // namespace troupe::kernels::cuda
