// The parameters of a model as named tensors: what is initialised, sharded,
// moved, checkpointed and compared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/model.h"

namespace troupe::models {

/// Where a parameter that belongs to no layer lives.
inline constexpr int kEmbedding = -1;
inline constexpr int kHead = -2;

/// How tensor parallelism treats a parameter.
enum class Cut : std::uint8_t {
  none,      ///< every rank holds it whole
  along,     ///< cut along `dimension`
  kv_heads,  ///< cut along `dimension` by key/value heads: with fewer of them
             ///< than ranks, neighbouring ranks hold the same head
};

/// What a parameter does; decides its initial values and weight decay.
enum class ParameterRole : std::uint8_t { matrix, table, scale, bias };

/// One parameter tensor, whole.
///
/// Shapes: matrices are (outputs, inputs), row-major; those of attention keep
///         heads as a dimension: query (heads, head_dim, hidden), key and
///         value (kv_heads, head_dim, hidden), output (hidden, heads,
///         head_dim). Tables are (rows, hidden).
struct Parameter {
  std::string name;  ///< "layers.3.attention.query", "embedding.tokens"
  int layer = 0;     ///< or kEmbedding, kHead
  std::vector<std::int64_t> shape;
  Cut cut = Cut::none;
  int dimension = 0;
  ParameterRole role = ParameterRole::matrix;
  std::int64_t elements() const;
  bool operator==(const Parameter&) const = default;
};

std::vector<Parameter> layer_parameter_list(const Model& model, int layer);
std::vector<Parameter> embedding_parameter_list(const Model& model);
/// Final norms, head transform, pooler and the output matrix; a tied matrix
/// is the embedding's and not listed.
std::vector<Parameter> head_parameter_list(const Model& model);
/// Embedding, layers in order, head. Sums to `parameters(model)`.
std::vector<Parameter> parameter_list(const Model& model);

}  // namespace troupe::models
