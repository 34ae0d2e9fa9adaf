// Every compute operator of transformer training once: what its sizes mean,
// how many FLOPs and bytes it costs. No body and no parallelism here: a
// tensor-parallel GEMM is simply a smaller GEMM.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"

namespace troupe::kernels {

/// fp64 is for proofs of numerics on the CPU.
enum class DType : std::uint8_t {
  fp32,
  tf32,
  bf16,
  fp16,
  fp8,
  int32,
  int64,
  fp64
};

Bytes size_of(DType type);
std::string_view name_of(DType type);
std::optional<DType> parse_dtype(std::string_view name);

enum class OpKind : std::uint8_t {
  gemm,
  attention_forward,
  attention_backward,
  norm_forward,
  norm_backward,
  rotary,              ///< forward and backward cost the same
  activation_forward,  ///< SwiGLU, GELU, ... of the MLP
  activation_backward,
  add,  ///< residual add, or gradient accumulation of activations
  embedding_forward,
  embedding_backward,
  cross_entropy_forward,
  cross_entropy_backward,
  gradient_accumulate,  ///< adds a weight gradient into its fp32 sum
  gradient_norm,
  optimizer,  ///< AdamW on fp32 master weights
  cast,
  copy,
};
inline constexpr int kOpKinds = 18;

/// Which generation of fused attention kernels an attention is; other kinds
/// leave the default.
enum class AttentionKernel : std::uint8_t {
  tuned,   ///< as the profiles measured it: cuDNN or the newest FlashAttention
  flash1,  ///< FlashAttention 1 and its Triton port, 2022 to mid 2023
  flash2,  ///< FlashAttention 2, which knows no Hopper instructions
};
inline constexpr int kAttentionKernels = 3;

std::string_view name_of(AttentionKernel kernel);

std::string_view name_of(OpKind kind);
std::optional<OpKind> parse_op_kind(std::string_view name);

/// One operator with its sizes on one device.
///
/// Shapes: `dim` by kind
///   gemm        {batch, m, n, k}: C(m,n) = A(m,k) B(k,n), row-major
///   attention_* {sequences, q_len, kv_len, heads, kv_heads, head_dim}
///   norm_*, rotary, activation_*, add, cast, copy
///               {rows, columns}: columns of the output (an activation that
///               is gated reads 2 x columns)
///   embedding_* {rows, columns, vocabulary rows held here}
///   cross_entropy_* {rows, vocabulary columns held here}
///   gradient_accumulate, gradient_norm, optimizer {elements}
struct OpShape {
  OpKind kind = OpKind::gemm;
  DType dtype = DType::bf16;
  bool causal = false;  ///< attention: only the lower triangle is computed
  bool gated = false;   ///< activation: SwiGLU-like, two inputs
  AttentionKernel attention = AttentionKernel::tuned;
  /// Causal attention: keys that a query sees at most, its own among them;
  /// 0: all of them. Hides nothing: the same operator as without it.
  std::int64_t window = 0;
  std::array<std::int64_t, 6> dim{};

  auto operator<=>(const OpShape&) const = default;
};

OpShape gemm(std::int64_t m, std::int64_t n, std::int64_t k, DType dtype,
             std::int64_t batch = 1);
OpShape rows_by_columns(OpKind kind, std::int64_t rows, std::int64_t columns,
                        DType dtype);

/// Pairs of a query and a key that meet in `q_len` queries, the last ones of
/// `kv_len` keys: causal ones half of their square, of a sliding window what
/// lies in it.
double causal_pairs(double q_len, double kv_len, double window);

/// The window that changes something among `kv_len` keys, else 0.
constexpr std::int64_t effective_window(std::int64_t window,
                                        std::int64_t kv_len) {
  return window < kv_len ? window : 0;
}

/// FLOPs the operator really performs (causal attention half the square).
///
/// Model: GEMM 2 b m n k; attention forward 4 q kv heads head_dim, backward
///        2.5 times that (five matrix products, one of them recomputed);
///        pointwise kinds a small count per element.
/// Source: Dao, FlashAttention-2, arXiv 2307.08691, section 4.1 (backward).
Flops flops(const OpShape& op);

/// Bytes read and written once from and to device memory.
Bytes traffic(const OpShape& op);

/// True for kinds bound by the matrix units when large.
bool uses_matrix_units(OpKind kind);

/// Which sizes of `dim` the kind uses.
int dimensions(OpKind kind);

/// "gemm 1x4096x4096x4096 bf16", the stable spelling used as a key.
std::string to_string(const OpShape& op);

}  // namespace troupe::kernels
