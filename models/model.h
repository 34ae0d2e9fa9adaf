// What a transformer is: shapes and counts, nothing of devices or
// parallelism.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "kernels/rotary_scaling.h"

namespace troupe::models {

enum class Norm : std::uint8_t { rms, layer };
enum class Activation : std::uint8_t {
  swiglu,
  geglu,
  gelu,
  relu,
  gelu_tanh  ///< the tanh approximation of GELU, of GPT-2
};
enum class Positions : std::uint8_t { none, rotary, learned, alibi, relative };

/// What one transformer layer does. A decoder of an encoder-decoder attends
/// to the encoder's output as well (cross attention); a local decoder only to
/// the last tokens (a sliding window).
enum class LayerKind : std::uint8_t {
  decoder,
  encoder,
  cross_decoder,
  local_decoder
};

/// A stack of transformer layers of equal size between an embedding and a
/// head.
///
/// Layers [0, encoder_layers) are encoder layers, the rest decoder layers;
/// GPT and Llama have no encoder layers, BERT only such, T5 both.
struct Model {
  std::string name;
  std::string source;  ///< where the figures come from
  int layers = 0;
  int encoder_layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int ffn = 0;
  int vocab = 0;
  int max_positions = 0;     ///< rows of a learned position table, else 0
  int token_types = 0;       ///< rows of a token-type table (BERT), else 0
  int relative_buckets = 0;  ///< rows of a relative-bias table (T5), else 0
  int seq_len = 0;           ///< the length it is usually trained with
  /// Tokens that a local layer attends to, its own among them; 0: no layer is
  /// local.
  int attention_window = 0;
  int full_attention_first = 0;  ///< the first so many layers are not local
  int full_attention_every = 0;  ///< nor is every so manieth; 0: all are
  double rotary_base = 10000;    ///< Su et al., arXiv 2104.09864
  kernels::RotaryScaling rotary_scaling;
  double norm_epsilon = 1e-5;
  Norm norm = Norm::rms;
  Activation activation = Activation::swiglu;
  Positions positions = Positions::rotary;
  bool qkv_bias = false;
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool head_bias = false;       ///< bias on the output vocabulary
  bool head_transform = false;  ///< BERT: dense + norm before the head
  bool embedding_norm = false;  ///< BERT: norm after the embedding
  bool final_norm = true;
  bool tied_embeddings = false;
  bool pooler = false;     ///< BERT: hidden x hidden layer on the first token
  bool pair_head = false;  ///< BERT: two classes from the pooled token

  bool operator==(const Model&) const = default;
};

LayerKind layer_kind(const Model& model, int layer);
/// How many layers of each kind there are; no kind twice, in order of the
/// first layer of each.
std::vector<std::pair<LayerKind, int>> layer_counts(const Model& model);
/// Tokens that a layer of the kind attends to in sequences of `seq_len`; 0:
/// no window, or one that no sequence is longer than.
std::int64_t window_of(const Model& model, LayerKind kind,
                       std::int64_t seq_len);
bool gated(Activation activation);

/// Number of parameters, by part; what tensor parallelism splits and what it
/// repeats are kept apart, for the same count serves sharding and memory.
struct ParameterCount {
  /// Matrices cut by tensor parallelism, and the biases along a cut output
  /// (of Q, the first MLP matrices and the vocabulary).
  std::int64_t split = 0;
  std::int64_t repeated = 0;  ///< norms, tables and the other biases
  /// K and V: cut by key heads, so neighbouring ranks hold the same ones
  /// where there are more ranks than `kv_heads`.
  std::int64_t key_value = 0;
  int kv_heads = 1;
  std::int64_t total() const { return split + repeated + key_value; }
  /// Parts into which K and V are cut among `tp` ranks.
  std::int64_t key_parts(std::int64_t tp) const;
  /// Most that a rank of `tp` holds.
  std::int64_t on_rank(std::int64_t tp) const;
};
/// Requires: counts of the same model.
ParameterCount operator+(const ParameterCount& a, const ParameterCount& b);

ParameterCount layer_parameters(const Model& model, LayerKind kind);
/// Token embedding, learned positions and token types, embedding norm, and
/// the relative-bias tables (one per stack).
ParameterCount embedding_parameters(const Model& model);
/// Final norms (one per stack), head transform, pooler and the output matrix.
/// A tied output matrix is not counted here; a pipeline whose last stage is not
/// its first holds a copy of it all the same (see `tied_copy`).
ParameterCount head_parameters(const Model& model);
/// Elements of the output matrix that is the embedding's when tied, else 0.
std::int64_t tied_copy(const Model& model);
/// Parameters of the whole model, a tied matrix counted once.
std::int64_t parameters(const Model& model);

/// Model FLOPs of one training step's share, forward and backward, without
/// recomputation.
///
/// Model:    3 x forward; forward of a matrix product is 2 FLOPs per
///           parameter and token; attention scores and their product with V
///           2 x 2 x seq x heads x head_dim per token, causal attention
///           counted as half, and of a sliding window what lies in it; the
///           output matrix counts, the look-up and the pooler's one token per
///           sequence do not. Encoder and cross attention have no causal half.
/// Units:    `tokens` tokens in sequences of `seq_len`; with an encoder and
///           a decoder, that many in each of the two.
Flops model_flops(const Model& model, std::int64_t tokens,
                  std::int64_t seq_len);
/// The same with the full square of causal attention, windows or not
/// (Megatron's custom).
Flops model_flops_full_attention(const Model& model, std::int64_t tokens,
                                 std::int64_t seq_len);
/// Forward FLOPs of one layer (half of causal attention), and of the head.
Flops layer_forward_flops(const Model& model, LayerKind kind,
                          std::int64_t tokens, std::int64_t seq_len);
Flops head_forward_flops(const Model& model, std::int64_t tokens);

}  // namespace troupe::models
