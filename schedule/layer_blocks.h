// The operator lists of one transformer layer. Shapes are per rank.
#pragma once

#include <optional>

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
  std::int64_t widest = 0;      ///< T of the member that holds most
  std::int64_t window = 0;      ///< tokens a query sees; 0: all before it
  bool gated = false;
  bool causal = true;
  bool rms = true;
  bool rotary = true;
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool sequence_parallel = false;  ///< with tp > 1
};

LayerSizes layer_sizes(const models::Model& model, models::LayerKind kind,
                       const Layout& layout);

/// Appends the forward. `again`: as a recomputation, which saves nothing
/// (Role::temporary) or what a later weight gradient needs (Role::saved).
void append_forward(BlockBuilder& b, const models::Model& model,
                    models::LayerKind kind, const Layout& layout,
                    std::optional<Role> again = {});

/// Appends the backward, with the recomputation its layout asks for.
void append_backward(BlockBuilder& b, const models::Model& model,
                     models::LayerKind kind, const Layout& layout,
                     Gradients gradients);

/// Self attention from `qkv` to "attention": one fused kernel, a ring of
/// balanced chunks under context parallelism (every later round costs half of
/// its square), or unfused products through memory. `saved` is the role of
/// what the backward needs besides `out`.
void append_attention(BlockBuilder& b, const Layout& layout,
                      const LayerSizes& s, TensorIndex qkv, TensorIndex out,
                      Role saved);
/// Its gradient, from `da` to `dqkv`. In the ring, keys and values travel
/// again and their gradients with them, one round more than forward.
void append_attention_gradient(BlockBuilder& b, const Layout& layout,
                               const LayerSizes& s, TensorIndex da,
                               TensorIndex dqkv);
/// Shapes of the fused attention of `kv_len` keys a sequence.
kernels::OpShape attention_shape(kernels::OpKind kind, const Layout& layout,
                                 const LayerSizes& s, std::int64_t kv_len,
                                 bool causal);

/// What a norm is called as an operator and as a parameter.
struct NormName {
  std::string op, parameter;
};
/// A norm of `x` with its statistics, which `saved` is the role of.
void append_norm(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                 const NormName& name, TensorIndex x, TensorIndex out,
                 Role saved);
/// Its gradient: `dx` from `d_out`; `x` is what the norm read.
void append_norm_gradient(BlockBuilder& b, const Layout& layout,
                          const LayerSizes& s, const NormName& name,
                          TensorIndex x, TensorIndex d_out, TensorIndex dx);

/// A product with the weights of one or several parameters, (n, k).
struct Product {
  std::string name;    ///< of the operator
  std::string weight;  ///< of the parameter
  std::string bias;    ///< of the parameter; empty: none
  std::int64_t n = 0, k = 0;
};
Product qkv_product(const LayerSizes& s);
Product project_product(const LayerSizes& s);
Product up_product(const LayerSizes& s);
Product down_product(const LayerSizes& s);
/// `out` (tokens, n) = x weight', with the bias where the product is cut along
/// its output.
void append_product(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                    const Product& product, TensorIndex x, TensorIndex out);
/// `out` = a + b, and the bias of a product that is cut along its input: its
/// partial sums are complete here.
void append_sum(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                const std::string& name, std::vector<TensorIndex> terms,
                const std::string& bias, TensorIndex out);

/// Whether blocks gather their weights and reduce their gradients.
bool gathers_weights(const Layout& layout);
bool scatters_gradients(const Layout& layout);
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
