#include "kernels/call.h"

#include <algorithm>

#include "base/match.h"
#include "kernels/scratch.h"

namespace troupe::kernels {
namespace {

OpShape rows_shape(OpKind kind, std::int64_t rows, std::int64_t columns,
                   DType dtype) {
  return rows_by_columns(kind, rows, columns, dtype);
}

OpShape attention_shape(OpKind kind, const AttentionSizes& s, DType dtype) {
  OpShape op{.kind = kind, .dtype = dtype, .causal = s.causal};
  const std::int64_t count = std::max<std::int64_t>(s.sequences, 1);
  op.dim = {s.sequences, s.q_tokens / count, s.kv_tokens / count,
            s.heads,     s.kv_heads,         s.head_dim};
  op.window = effective_window(s.window, op.dim[2]);
  return op;
}

OpShape activation_shape(OpKind kind, std::int64_t rows, std::int64_t columns,
                         bool gated, DType dtype) {
  OpShape op = rows_shape(kind, rows, columns, dtype);
  op.gated = gated;
  return op;
}

OpShape embedding_shape(OpKind kind, std::int64_t rows, std::int64_t columns,
                        std::int64_t vocabulary, DType dtype) {
  OpShape op = rows_shape(kind, rows, columns, dtype);
  op.dim[2] = vocabulary;
  return op;
}

OpShape elements_shape(OpKind kind, std::int64_t elements, DType dtype) {
  OpShape op{.kind = kind, .dtype = dtype};
  op.dim = {elements};
  return op;
}

}  // namespace

DType statistics_type(DType type) {
  return type == DType::fp64 ? DType::fp64 : DType::fp32;
}

Bytes workspace(const Call& call) {
  const auto bytes = [](DType dtype) {
    return size_of(statistics_type(dtype));
  };
  return std::visit(
      Match{[&](const AttentionBackward& c) {
              // Row sums of out * d_out, and dq summed in S.
              return bytes(c.dtype) * (c.sizes.q_tokens * c.sizes.heads *
                                       (c.sizes.head_dim + 1));
            },
            [&](const NormBackward& c) {
              return bytes(c.dtype) *
                     (2 * column_sum_groups(c.rows) * c.columns);
            },
            [&](const BiasGradient& c) {
              return bytes(c.dtype) * (column_sum_groups(c.rows) * c.columns);
            },
            [&](const EmbeddingBackward& c) {
              return Bytes{8 * sort_slots(c.rows)};
            },
            [&](const SquareSum&) { return Bytes{8 * kSumParts}; },
            [](const auto&) { return Bytes{}; }},
      call);
}

namespace {

OpShape shape(const Gemm& c) { return gemm(c.m, c.n, c.k, c.dtype, c.batch); }

OpShape shape(const AttentionForward& c) {
  return attention_shape(OpKind::attention_forward, c.sizes, c.dtype);
}

OpShape shape(const AttentionBackward& c) {
  return attention_shape(OpKind::attention_backward, c.sizes, c.dtype);
}

OpShape shape(const AttentionMerge& c) {
  return rows_shape(OpKind::add, c.tokens, c.heads * c.head_dim,
                    statistics_type(c.dtype));
}

OpShape shape(const NormForward& c) {
  return rows_shape(OpKind::norm_forward, c.rows, c.columns, c.dtype);
}

OpShape shape(const NormBackward& c) {
  return rows_shape(OpKind::norm_backward, c.rows, c.columns, c.dtype);
}

OpShape shape(const Rotary& c) {
  return rows_shape(OpKind::rotary, c.tokens, c.heads * c.head_dim, c.dtype);
}

OpShape shape(const ActivationForward& c) {
  return activation_shape(OpKind::activation_forward, c.rows, c.columns,
                          c.gated, c.dtype);
}

OpShape shape(const ActivationBackward& c) {
  return activation_shape(OpKind::activation_backward, c.rows, c.columns,
                          c.gated, c.dtype);
}

OpShape shape(const Add& c) {
  return rows_shape(OpKind::add, 1, c.elements, c.dtype);
}

OpShape shape(const BiasAdd& c) {
  return rows_shape(OpKind::copy, c.rows, c.columns, c.dtype);
}

OpShape shape(const BiasGradient& c) {
  return elements_shape(OpKind::gradient_norm, c.rows * c.columns, c.dtype);
}

OpShape shape(const EmbeddingForward& c) {
  return embedding_shape(OpKind::embedding_forward, c.rows, c.columns,
                         c.vocabulary, c.dtype);
}

OpShape shape(const EmbeddingBackward& c) {
  return embedding_shape(OpKind::embedding_backward, c.rows, c.columns,
                         c.vocabulary, c.dtype);
}

OpShape shape(const CrossEntropyForward& c) {
  return rows_shape(OpKind::cross_entropy_forward, c.rows, c.columns, c.dtype);
}

OpShape shape(const CrossEntropyMerge& c) {
  return rows_shape(OpKind::copy, c.rows, 3 * c.shards,
                    statistics_type(c.dtype));
}

OpShape shape(const CrossEntropyBackward& c) {
  return rows_shape(OpKind::cross_entropy_backward, c.rows, c.columns, c.dtype);
}

OpShape shape(const AdamW& c) {
  return elements_shape(OpKind::optimizer, c.elements, c.dtype);
}

OpShape shape(const SquareSum& c) {
  return elements_shape(OpKind::gradient_norm, c.elements, c.dtype);
}

OpShape shape(const ClipFactor& c) {
  return elements_shape(OpKind::gradient_norm, 1, statistics_type(c.dtype));
}

OpShape shape(const Cast& c) {
  return c.accumulate
             ? elements_shape(OpKind::gradient_accumulate, c.elements, c.from)
             : rows_shape(OpKind::cast, 1, c.elements, c.to);
}

OpShape shape(const CopyBlock& c) {
  return rows_shape(OpKind::copy, c.size[0] * c.size[1] * c.size[2], c.size[3],
                    c.dtype);
}

}  // namespace

OpShape shape_of(const Call& call) {
  return std::visit([](const auto& c) { return shape(c); }, call);
}

}  // namespace troupe::kernels
