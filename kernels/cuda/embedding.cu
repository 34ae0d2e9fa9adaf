// Rows of a table by token, and their gradients: tokens are sorted with their
// places, so that every row of the table has its gradients added in the order
// of the text.
#include "kernels/cuda/each.cuh"
#include "kernels/scratch.h"

namespace troupe::kernels::cuda {
namespace {

template <typename T, bool add>
struct GatherBody {
  static constexpr int kUnroll = 2;
  const std::int32_t* tokens;
  const T* table;
  T* out;
  std::int64_t columns, vocabulary, first;

  template <int W>
  struct In {
    Pack<T, W> x, before;
  };
  template <int W>
  __device__ In<W> load(std::int64_t r, std::int64_t c) const {
    In<W> all;
    const std::int64_t row = __ldg(tokens + r) - first;
    if (row >= 0 && row < vocabulary) {
      all.x = cuda::load<W>(table + row * columns + c);
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) all.x.v[i] = from_float<T>(0);
    }
    if constexpr (add) all.before = cuda::load<W>(out + r * columns + c);
    return all;
  }
  template <int W>
  __device__ void store(std::int64_t r, std::int64_t c, In<W> all) const {
    if constexpr (add) {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        all.x.v[i] =
            from_float<T>(to_float(all.x.v[i]) + to_float(all.before.v[i]));
      }
    }
    cuda::store<W>(out + r * columns + c, all.x);
  }
};

template <typename T, bool add>
Result<void> gather(const EmbeddingForward& call, const Device& device) {
  const GatherBody<T, add> body{call.tokens,
                                static_cast<const T*>(call.table),
                                static_cast<T*>(call.out),
                                call.columns,
                                call.vocabulary,
                                call.first};
  return each<kWide<T>>(
      body, call.rows, call.columns,
      all_aligned(call.table, call.out) && call.columns % kWide<T> == 0,
      device);
}

// A key is the token's row in its upper half and its place in the lower; keys
// differ, so any sort gives the same order.
using Key = unsigned long long;
constexpr unsigned kSortThreads = 512;
constexpr int kSortBlock = 2 * kSortThreads;  // keys in shared memory

__global__ void keys_kernel(const std::int32_t* tokens, std::int64_t rows,
                            std::int64_t vocabulary, std::int64_t first,
                            std::int64_t slots, Key* keys) {
  const std::int64_t i =
      static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= slots) return;
  // Tokens held elsewhere, and slots without a token, come last.
  Key key = ~Key{0};
  if (i < rows) {
    const std::int64_t row = tokens[i] - first;
    if (row >= 0 && row < vocabulary) {
      key = static_cast<Key>(row) << 32 | static_cast<Key>(i);
    }
  }
  keys[i] = key;
}

// One exchange of a bitonic sort: i and its partner `by` away, ascending where
// bit `size` of i is clear.
__device__ inline void exchange(Key& low, Key& high, bool ascending) {
  if ((low > high) != ascending) return;
  const Key other = low;
  low = high;
  high = other;
}

// Sorts (from_size = 2) or merges (from_size = size) within blocks of
// kSortBlock keys, up to `to_size`, by steps that fit shared memory.
__global__ void __launch_bounds__(kSortThreads)
    sort_shared_kernel(Key* keys, std::int64_t slots, std::int64_t from_size,
                       std::int64_t to_size) {
  TROUPE_SHARED(Key, part, kSortBlock);
  const std::int64_t start_at =
      static_cast<std::int64_t>(blockIdx.x) * kSortBlock;
  const int count = slots < kSortBlock ? static_cast<int>(slots) : kSortBlock;
  for (int i = static_cast<int>(threadIdx.x); i < count;
       i += static_cast<int>(blockDim.x)) {
    part[i] = keys[start_at + i];
  }
  const int t = static_cast<int>(threadIdx.x);
  for (std::int64_t size = from_size; size <= to_size; size *= 2) {
    const std::int64_t widest = size / 2 < count / 2 ? size / 2 : count / 2;
    for (int by = static_cast<int>(widest); by > 0; by /= 2) {
      __syncthreads();
      if (t >= count / 2) continue;
      const int i = t / by * 2 * by + t % by;
      exchange(part[i], part[i + by], ((start_at + i) & size) == 0);
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < count;
       i += static_cast<int>(blockDim.x)) {
    keys[start_at + i] = part[i];
  }
}

__global__ void sort_step_kernel(Key* keys, std::int64_t slots,
                                 std::int64_t size, std::int64_t by) {
  const std::int64_t t =
      static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t >= slots / 2) return;
  const std::int64_t i = t / by * 2 * by + t % by;
  exchange(keys[i], keys[i + by], (i & size) == 0);
}

Result<void> sort(Key* keys, std::int64_t slots, const Device& device) {
  const std::int64_t inside = slots < kSortBlock ? slots : kSortBlock;
  const auto blocks = static_cast<unsigned>(slots / inside);
  TRY_DO(start(&sort_shared_kernel, blocks, kSortThreads, 0, device, keys,
               slots, 2, inside));
  for (std::int64_t size = 2 * kSortBlock; size <= slots; size *= 2) {
    for (std::int64_t by = size / 2; by > kSortBlock / 2; by /= 2) {
      TRY_DO(start(&sort_step_kernel,
                   static_cast<unsigned>(divide_up(slots / 2, 256)), 256, 0,
                   device, keys, slots, size, by));
    }
    TRY_DO(start(&sort_shared_kernel, blocks, kSortThreads, 0, device, keys,
                 slots, size, size));
  }
  return {};
}

// A row of threads takes each place where a new token begins, and adds the
// gradients of all its places.
template <typename T, int W>
__global__ void __launch_bounds__(128)
    scatter_kernel(const Key* keys, std::int64_t rows, std::int64_t columns,
                   const T* d_out, float* d_table) {
  constexpr int unroll = 4;
  constexpr Key nowhere = ~Key{0};
  for (std::int64_t at = blockIdx.y; at < rows; at += gridDim.y) {
    const Key mine = keys[at];
    if (mine == nowhere) return;
    const Key row = mine >> 32;
    if (at > 0 && keys[at - 1] >> 32 == row) continue;
    for (std::int64_t c = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x +
                           threadIdx.x) *
                          W;
         c < columns; c += static_cast<std::int64_t>(gridDim.x) * 128 * W) {
      float* to = d_table + static_cast<std::int64_t>(row) * columns + c;
      Pack<float, W> sum = load<W>(to);
      bool more = true;
      for (std::int64_t i = at; more; i += unroll) {
        Pack<T, W> x[unroll];
        bool same[unroll];
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
          const Key key = i + u < rows ? keys[i + u] : nowhere;
          same[u] = key >> 32 == row && key != nowhere;
          if (!same[u]) continue;
          const auto place = static_cast<std::int64_t>(key & 0xFFFFFFFFU);
          x[u] = load<W>(d_out + place * columns + c);
        }
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
          more = same[u];
          if (!same[u]) continue;
#pragma unroll
          for (int j = 0; j < W; ++j) sum.v[j] += to_float(x[u].v[j]);
        }
      }
      store<W>(to, sum);
    }
  }
}

}  // namespace

Result<void> launch(const EmbeddingForward& call, const Device& device) {
  return by_type(call.dtype, "embedding_forward", [&](auto type) {
    using T = decltype(type);
    return call.add ? gather<T, true>(call, device)
                    : gather<T, false>(call, device);
  });
}

Result<void> launch(const EmbeddingBackward& call, const Device& device) {
  if (call.rows == 0 || call.columns == 0) return {};
  if (call.rows > (std::int64_t{1} << 30)) {
    return fail(Fault::unavailable, "over 2^30 rows of embedding at once");
  }
  return by_type(
      call.dtype, "embedding_backward", [&](auto type) -> Result<void> {
        using T = decltype(type);
        auto* keys = static_cast<Key*>(call.workspace);
        const std::int64_t slots = sort_slots(call.rows);
        TRY_DO(start(&keys_kernel, static_cast<unsigned>(divide_up(slots, 256)),
                     256, 0, device, call.tokens, call.rows, call.vocabulary,
                     call.first, slots, keys));
        TRY_DO(sort(keys, slots, device));
        const auto* d_out = static_cast<const T*>(call.d_out);
        auto* d_table = static_cast<float*>(call.d_table);
        const bool wide =
            all_aligned(d_out, d_table) && call.columns % kWide<T> == 0;
        const std::int64_t width = 128 * (wide ? kWide<T> : 1);
        const dim3 grid(clamp_grid(divide_up(call.columns, width), 64),
                        clamp_grid(call.rows, 65535));
        return start(
            wide ? &scatter_kernel<T, kWide<T>> : &scatter_kernel<T, 1>, grid,
            128, 0, device, static_cast<const Key*>(keys), call.rows,
            call.columns, d_out, d_table);
      });
}

}  // namespace troupe::kernels::cuda
