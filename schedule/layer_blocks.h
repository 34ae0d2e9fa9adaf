// The operator lists of one transformer layer. Shapes are per rank.
#pragma once

#include "models/model.h"
#include "schedule/block_builder.h"
#include "schedule/blocks.h"

namespace troupe::schedule {

/// Sizes of a layer on one rank, worked out once.
struct LayerSizes {
  std::int64_t tokens = 0;    ///< T: of this member
  std::int64_t shard = 0;     ///< T / tp under sequence parallelism, else T
  std::int64_t hidden = 0;    ///< h
  std::int64_t heads = 0;     ///< query heads here
  std::int64_t kv_heads = 0;  ///< key/value heads here (at least one)
  std::int64_t head_dim = 0;  ///< d
  std::int64_t qkv = 0;       ///< columns of the fused QKV product
  std::int64_t ffn = 0;       ///< f / tp
  std::int64_t up = 0;        ///< f / tp, twice that when gated
  std::int64_t sequences = 0;
  std::int64_t q_len = 0;       ///< tokens of one sequence here
  std::int64_t kv_len = 0;      ///< tokens of one whole sequence
  std::int64_t parameters = 0;  ///< of the layer, here
  bool gated = false;
  bool causal = true;
  bool sequence_parallel = false;  ///< with tp > 1
};

LayerSizes layer_sizes(const models::Model& model, models::LayerKind kind,
                       const Layout& layout);

/// Appends the forward. With `keep` false nothing is saved (recomputation).
void append_forward(BlockBuilder& b, const models::Model& model,
                    models::LayerKind kind, const Layout& layout, bool keep);

/// Appends the backward, with the recomputation its layout asks for.
void append_backward(BlockBuilder& b, const models::Model& model,
                     models::LayerKind kind, const Layout& layout,
                     Gradients gradients);

/// Self attention from `qkv` to `out`: one fused kernel, a ring of balanced
/// chunks under context parallelism (every later round costs half of its
/// square), or unfused products through memory. `saved` is the role of what
/// the backward needs besides `out`.
void append_attention(BlockBuilder& b, const Layout& layout,
                      const LayerSizes& s, TensorIndex qkv, TensorIndex out,
                      Role saved);

/// ZeRO 3: gathers the layer's weights before its first operator.
void gather_weights(BlockBuilder& b, const Layout& layout, const LayerSizes& s);
/// Column-parallel input: all-gathers rows under sequence parallelism; else
/// returns `shard`.
TensorIndex gather_rows(BlockBuilder& b, const Layout& layout,
                        const LayerSizes& s, TensorIndex shard,
                        const std::string& name);
/// Row-parallel output (or input gradient of a column-parallel product):
/// reduce-scatter or all-reduce of `partial`.
TensorIndex reduce_rows(BlockBuilder& b, const Layout& layout,
                        const LayerSizes& s, TensorIndex partial,
                        const std::string& name);

// Passes of a framework that does not fuse (Layout::pointwise); nothing when
// it does. Bytes per element as PyTorch 2 moves them.
bool eager(const Layout& layout);
bool autocasts(const Layout& layout);
/// Before a norm: the fp32 residual is cast.
void append_eager_norm(BlockBuilder& b, const Layout& layout,
                       const LayerSizes& s, TensorIndex x,
                       const std::string& name);
/// After a residual sum: its fp32 operands.
void append_eager_sum(BlockBuilder& b, const Layout& layout,
                      const LayerSizes& s, TensorIndex sum,
                      const std::string& name);
void append_eager_rotary(BlockBuilder& b, const Layout& layout,
                         const LayerSizes& s, TensorIndex qkv,
                         const std::string& name);
void append_eager_gate(BlockBuilder& b, const Layout& layout,
                       const LayerSizes& s, TensorIndex on, bool backward);
/// The casts of a layer's parameters, forward.
void append_eager_weights(BlockBuilder& b, const Layout& layout,
                          const LayerSizes& s);
/// After the backward of a norm and its residual sum.
void append_eager_half_backward(BlockBuilder& b, const Layout& layout,
                                const LayerSizes& s, TensorIndex grad,
                                const std::string& name);
/// Joining the gradients of query, key and value.
void append_eager_attention_backward(BlockBuilder& b, const Layout& layout,
                                     const LayerSizes& s, TensorIndex dqkv);
/// Casts and copies of a layer's weight gradients.
void append_eager_gradients(BlockBuilder& b, const Layout& layout,
                            const LayerSizes& s, TensorIndex last);

}  // namespace troupe::schedule
