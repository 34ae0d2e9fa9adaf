#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/launch.h"

namespace troupe::kernels::cuda {
namespace {

dim3 plain_grid(const AttentionShape& shape, int longest, int heads) {
  return dim3(blocks_of(longest, kPlainWarps), static_cast<unsigned>(heads),
              static_cast<unsigned>(shape.sequences));
}

template <typename T>
Result<void> forward(const AttentionForward& call, const AttentionShape& shape,
                     const Device& device) {
  return start(&attention_plain_forward<T>,
               plain_grid(shape, shape.max_q, shape.heads), kPlainThreads,
               plain_shared(shape.head_dim), device, shape,
               static_cast<const T*>(call.q), static_cast<const T*>(call.k),
               static_cast<const T*>(call.v), static_cast<T*>(call.out),
               static_cast<float*>(call.lse));
}

template <typename T>
Result<void> backward(const AttentionBackward& call,
                      const AttentionShape& shape, const Device& device) {
  const PlainBackward<T> operands{static_cast<const T*>(call.q),
                                  static_cast<const T*>(call.k),
                                  static_cast<const T*>(call.v),
                                  static_cast<const T*>(call.d_out),
                                  static_cast<const float*>(call.lse),
                                  static_cast<const float*>(call.workspace),
                                  static_cast<T*>(call.dq),
                                  static_cast<T*>(call.dk),
                                  static_cast<T*>(call.dv)};
  const std::size_t shared = plain_shared(shape.head_dim);
  TRY_DO(start(&attention_plain_key_gradient<T>,
               plain_grid(shape, shape.max_kv, shape.kv_heads), kPlainThreads,
               shared, device, shape, operands));
  return start(&attention_plain_query_gradient<T>,
               plain_grid(shape, shape.max_q, shape.heads), kPlainThreads,
               shared, device, shape, operands);
}

template <typename T>
Result<void> delta(const AttentionBackward& call, const AttentionShape& shape,
                   const Device& device) {
  return start(
      &attention_delta<T>, blocks_of(shape.q_tokens * shape.heads, kPlainWarps),
      kPlainThreads, 0, device, shape, static_cast<const T*>(call.out),
      static_cast<const T*>(call.d_out), static_cast<float*>(call.workspace));
}

template <typename T>
Result<void> merge(const AttentionMerge& call, const Device& device) {
  const std::int64_t rows = call.tokens * call.heads;
  return start(&attention_merge<T>, blocks_of(rows, kPlainWarps), kPlainThreads,
               0, device, rows, static_cast<int>(call.head_dim), call.first,
               static_cast<const T*>(call.out),
               static_cast<const float*>(call.out_lse),
               static_cast<float*>(call.sum), static_cast<float*>(call.lse));
}

}  // namespace

Result<void> launch_plain(const AttentionForward& call,
                          const AttentionShape& shape, const Device& device) {
  return call.dtype == DType::bf16 ? forward<bf16>(call, shape, device)
                                   : forward<float>(call, shape, device);
}

Result<void> launch_plain(const AttentionBackward& call,
                          const AttentionShape& shape, const Device& device) {
  return call.dtype == DType::bf16 ? backward<bf16>(call, shape, device)
                                   : backward<float>(call, shape, device);
}

Result<void> launch_delta(const AttentionBackward& call,
                          const AttentionShape& shape, const Device& device) {
  return call.dtype == DType::bf16 ? delta<bf16>(call, shape, device)
                                   : delta<float>(call, shape, device);
}

Result<void> launch(const AttentionMerge& call, const Device& device) {
  AttentionSizes sizes;
  sizes.q_tokens = call.tokens;
  sizes.heads = sizes.kv_heads = call.heads;
  sizes.head_dim = call.head_dim;
  TRY_DO(attention_shape(sizes));
  if (call.dtype == DType::bf16) return merge<bf16>(call, device);
  if (call.dtype == DType::fp32) return merge<float>(call, device);
  return no_kernel("attention_merge", call.dtype);
}

}  // namespace troupe::kernels::cuda
