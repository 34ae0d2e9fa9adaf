// An operator with its operands: what a device is told to run. The same call
// has one meaning everywhere; `kernels/cpu.h` performs it in host memory and
// is the definition, `kernels/cuda.h` performs it on a GPU.
//
// Matrices are row-major. A row stride (`ld`, in elements) of 0 means packed.
// `dtype` is the type of the operands; statistics, and whatever is said to be
// of type S, are fp32 (fp64 where dtype is fp64). Sums run in S at least.
// Indices (tokens, positions, sequence starts) are int32.
// Outputs do not overlap inputs unless said. An operand without elements may
// be null. What rounds to bf16 rounds once, to nearest even. NaN operands give
// NaN results.
#pragma once

#include <array>
#include <cstdint>
#include <variant>

#include "kernels/operator.h"
#include "kernels/rotary_scaling.h"

namespace troupe::kernels {

/// The type of statistics and master copies beside operands of `type`.
DType statistics_type(DType type);

/// C(m,n) = A(m,k) B(k,n) [+ bias(n)] [+ C], for each of `batch` products.
/// Transposed operands are stored (k,m) and (n,k). The products' operands lie
/// one after the other: stored rows times row stride apart; bias serves all.
struct Gemm {
  DType dtype = DType::bf16;
  DType out = DType::bf16;  ///< of C: dtype, or S (gradient sums)
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;                 ///< adds to what C holds
  std::int64_t lda = 0, ldb = 0, ldc = 0;  ///< of the operands as stored
  const void* a = nullptr;
  const void* b = nullptr;
  const void* bias = nullptr;  ///< of type dtype; may be null
  void* c = nullptr;
};

/// Attention over packed sequences of unequal lengths.
///
/// Shapes: q, out (q tokens, heads, head_dim); k, v (kv tokens, kv_heads,
///         head_dim), each with its own row stride per token; lse (q tokens,
///         heads) of type S. Sequence i has queries [q_starts[i],
///         q_starts[i+1]) and keys [kv_starts[i], kv_starts[i+1]).
/// Model:  softmax(scale q k') v. Causal: the queries of a sequence are the
///         last ones of its keys: query j of nq sees key t of nk when
///         t <= j + nk - nq. A query without any key gives 0 and lse -inf.
///         A sliding window leaves of the keys that a query sees the last
///         `window`, its own among them; it needs a causal call.
///         heads is a multiple of kv_heads; head h reads kv head
///         h / (heads / kv_heads). Tokens of no sequence are left alone.
///         `uniform` says ahead of the starts that sequence i has the queries
///         [i max_q, (i + 1) max_q) and the keys [i max_kv, (i + 1) max_kv):
///         a GPU's bodies cannot see that.
struct AttentionSizes {
  std::int64_t sequences = 0;
  std::int64_t q_tokens = 0, kv_tokens = 0;  ///< of all sequences
  std::int64_t max_q = 0, max_kv = 0;        ///< no sequence is longer
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t q_ld = 0, kv_ld = 0, out_ld = 0;  ///< elements per token
  bool causal = true;
  bool uniform = false;
  std::int64_t window = 0;                  ///< keys; 0: no window
  double scale = 0;                         ///< 0: 1 / sqrt(head_dim)
  const std::int32_t* q_starts = nullptr;   ///< sequences + 1
  const std::int32_t* kv_starts = nullptr;  ///< sequences + 1
};
struct AttentionForward {
  DType dtype = DType::bf16;
  AttentionSizes sizes{};
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;
  void* lse = nullptr;  ///< natural log of the sum of exp(scale q k')
};
/// Gradients of attention. `out` and `lse` may be those of a wider attention
/// (all rounds of a ring): then dq, dk and dv are this part's share.
/// Shapes: as forward; d_out like out, dq like q, dk and dv like k.
struct AttentionBackward {
  DType dtype = DType::bf16;
  AttentionSizes sizes{};
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  const void* out = nullptr;
  const void* lse = nullptr;
  const void* d_out = nullptr;
  void* dq = nullptr;
  void* dk = nullptr;
  void* dv = nullptr;
  void* workspace = nullptr;  ///< `workspace` bytes
};
/// Folds one round of a ring into the result so far: (sum, lse) becomes the
/// attention over both key sets. `sum` is of type S, packed; a first round
/// (`first`) overwrites.
struct AttentionMerge {
  DType dtype = DType::bf16;
  std::int64_t tokens = 0, heads = 0, head_dim = 0;
  bool first = false;
  const void* out = nullptr;  ///< (tokens, heads, head_dim), of dtype
  const void* out_lse = nullptr;
  void* sum = nullptr;
  void* lse = nullptr;
};

/// RMSNorm (no mean, no bias) or LayerNorm over the columns.
/// Shapes: in, out (rows, columns); weight, bias (columns); mean, rstd
///         (rows) of type S; mean is unused by RMSNorm.
struct NormForward {
  DType dtype = DType::bf16;
  bool rms = true;
  std::int64_t rows = 0, columns = 0;
  double epsilon = 1e-5;
  const void* in = nullptr;
  const void* weight = nullptr;
  const void* bias = nullptr;  ///< may be null
  void* out = nullptr;
  void* mean = nullptr;
  void* rstd = nullptr;
};
/// d_weight and d_bias (columns) are of type S and added to.
struct NormBackward {
  DType dtype = DType::bf16;
  bool rms = true;
  std::int64_t rows = 0, columns = 0;
  const void* in = nullptr;
  const void* weight = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* d_out = nullptr;
  void* d_in = nullptr;
  void* d_weight = nullptr;
  void* d_bias = nullptr;     ///< may be null
  void* workspace = nullptr;  ///< `workspace` bytes
};

/// Rotary positions, in place: pairs (i, i + head_dim/2) of every head turn by
/// position * base^(-2i/head_dim): (x, y) becomes (x cos - y sin, y cos +
/// x sin). `inverse` turns back (the gradient). head_dim is even.
/// Shapes: data (tokens, heads, head_dim), `ld` elements per token.
struct Rotary {
  DType dtype = DType::bf16;
  std::int64_t tokens = 0, heads = 0, head_dim = 0, ld = 0;
  double base = 10000;
  RotaryScaling scaling = {};
  bool inverse = false;
  const std::int32_t* positions = nullptr;  ///< (tokens)
  void* data = nullptr;
};

enum class Pointwise : std::uint8_t {
  silu,       ///< x / (1 + exp(-x))
  gelu,       ///< x Phi(x), by erf
  gelu_tanh,  ///< its tanh approximation
  relu,       ///< its slope at 0 is 0
};
/// out = f(in), or f(gate) * up where gated: a row of `in` is then the gate's
/// columns followed by the up projection's.
/// Shapes: in (rows, columns or 2 columns), out (rows, columns).
struct ActivationForward {
  DType dtype = DType::bf16;
  Pointwise function = Pointwise::silu;
  bool gated = true;
  std::int64_t rows = 0, columns = 0;
  const void* in = nullptr;
  void* out = nullptr;
};
struct ActivationBackward {
  DType dtype = DType::bf16;
  Pointwise function = Pointwise::silu;
  bool gated = true;
  std::int64_t rows = 0, columns = 0;
  const void* in = nullptr;
  const void* d_out = nullptr;  ///< (rows, columns)
  void* d_in = nullptr;         ///< like in
};

/// out = a + b over `elements`; out may be a or b.
struct Add {
  DType dtype = DType::bf16;
  std::int64_t elements = 0;
  const void* a = nullptr;
  const void* b = nullptr;
  void* out = nullptr;
};
/// in(rows, columns) += bias(columns), in place.
struct BiasAdd {
  DType dtype = DType::bf16;
  std::int64_t rows = 0, columns = 0;
  const void* bias = nullptr;
  void* data = nullptr;
};
/// d_bias(columns), of type S, gains the column sums of d_out(rows, columns).
struct BiasGradient {
  DType dtype = DType::bf16;
  std::int64_t rows = 0, columns = 0;
  const void* d_out = nullptr;
  void* d_bias = nullptr;
  void* workspace = nullptr;  ///< `workspace` bytes
};

/// Rows of a table that holds vocabulary [first, first + vocabulary): tokens
/// outside give 0. `add` adds to out (a position table after a token table).
/// Shapes: tokens (rows); table (vocabulary, columns); out (rows, columns).
struct EmbeddingForward {
  DType dtype = DType::bf16;
  std::int64_t rows = 0, columns = 0, vocabulary = 0, first = 0;
  bool add = false;
  const std::int32_t* tokens = nullptr;
  const void* table = nullptr;
  void* out = nullptr;
};
/// d_table, of type S, gains the gradients of its tokens' rows. The result
/// does not depend on the order of threads.
struct EmbeddingBackward {
  DType dtype = DType::bf16;
  std::int64_t rows = 0, columns = 0, vocabulary = 0, first = 0;
  const std::int32_t* tokens = nullptr;
  const void* d_out = nullptr;
  void* d_table = nullptr;
  void* workspace = nullptr;  ///< `workspace` bytes
};

/// What one vocabulary shard knows of each row, of type S.
/// Shapes: logits (rows, columns); labels (rows), < 0 for none;
///         maximum, sum, target (rows).
/// Model:  maximum of the row's logits here, sum of exp(logit - maximum),
///         target: the label's logit if it is in [first, first + columns),
///         else 0. Without columns: -inf, 0 and 0.
struct CrossEntropyForward {
  DType dtype = DType::bf16;
  std::int64_t rows = 0, columns = 0, first = 0, ld = 0;
  const void* logits = nullptr;
  const std::int32_t* labels = nullptr;
  void* maximum = nullptr;
  void* sum = nullptr;
  void* target = nullptr;
};
/// Joins the statistics of `shards` vocabulary shards.
/// Shapes: maximum, sum, target (shards, rows); lse, loss (rows), of type S.
/// Model:  loss = lse - target; 0 where the label is < 0. Labels lie in some
///         shard: nothing here can tell.
struct CrossEntropyMerge {
  DType dtype = DType::bf16;  ///< fp64 or not decides S
  std::int64_t rows = 0, shards = 1;
  const std::int32_t* labels = nullptr;
  const void* maximum = nullptr;
  const void* sum = nullptr;
  const void* target = nullptr;
  void* lse = nullptr;
  void* loss = nullptr;
};
/// d_logits = (exp(logit - lse) - [column is label]) * scale, 0 where the
/// label is < 0. `d_logits` may be `logits`.
struct CrossEntropyBackward {
  DType dtype = DType::bf16;
  std::int64_t rows = 0, columns = 0, first = 0, ld = 0;
  double scale = 1;
  const void* logits = nullptr;
  const std::int32_t* labels = nullptr;
  const void* lse = nullptr;
  void* d_logits = nullptr;
};

/// One AdamW step with decoupled decay.
///
/// Model:  g = gradient * gradient_scale * *clip; m = b1 m + (1-b1) g;
///         v = b2 v + (1-b2) g^2; w -= lr (m/(1-b1^t) / (sqrt(v/(1-b2^t)) +
///         epsilon) + decay w).
/// Shapes: all (elements); master, gradient, m, v of type S; `copy`, of
///         dtype, receives the new weights (may be null).
/// Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2.
struct AdamW {
  DType dtype = DType::bf16;
  std::int64_t elements = 0;
  double rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, decay = 0.1;
  std::int64_t step = 1;  ///< t, from 1
  double gradient_scale = 1;
  const void* clip = nullptr;  ///< one S on the device; null counts as 1
  const void* gradient = nullptr;
  void* master = nullptr;
  void* m = nullptr;
  void* v = nullptr;
  void* copy = nullptr;
};

/// *sum (one fp64 on the device) gains the sum of squares of `data`.
struct SquareSum {
  DType dtype = DType::fp32;
  std::int64_t elements = 0;
  const void* data = nullptr;
  void* sum = nullptr;
  void* workspace = nullptr;  ///< `workspace` bytes
};
/// *clip (one S) = min(1, limit / (sqrt(*sum) * scale)), 1 where limit is 0.
struct ClipFactor {
  DType dtype = DType::fp32;
  double limit = 1, scale = 1;
  const void* sum = nullptr;  ///< one fp64
  void* clip = nullptr;
};

/// out = scale * in, in another type; `accumulate` adds to what out holds.
struct Cast {
  DType from = DType::fp32, to = DType::bf16;
  std::int64_t elements = 0;
  double scale = 1;
  bool accumulate = false;
  const void* in = nullptr;
  void* out = nullptr;
};

/// Copies a block of up to four dimensions between strided arrays: slices,
/// concatenations and transposes of resharding.
/// Shapes: element (i0, i1, i2, i3) is at the sum of i * stride, elements.
///         Strides are not negative and no two elements share a target.
struct CopyBlock {
  DType dtype = DType::bf16;
  std::array<std::int64_t, 4> size{1, 1, 1, 1};
  std::array<std::int64_t, 4> from_stride{};
  std::array<std::int64_t, 4> to_stride{};
  bool accumulate = false;
  const void* in = nullptr;
  void* out = nullptr;
};

using Call =
    std::variant<Gemm, AttentionForward, AttentionBackward, AttentionMerge,
                 NormForward, NormBackward, Rotary, ActivationForward,
                 ActivationBackward, Add, BiasAdd, BiasGradient,
                 EmbeddingForward, EmbeddingBackward, CrossEntropyForward,
                 CrossEntropyMerge, CrossEntropyBackward, AdamW, SquareSum,
                 ClipFactor, Cast, CopyBlock>;

/// Scratch memory that a call needs on any device, in bytes.
Bytes workspace(const Call& call);

/// The sizes by which the profile database knows the call. Calls of small
/// pointwise kinds without a key of their own are copies of their traffic.
OpShape shape_of(const Call& call);

}  // namespace troupe::kernels
