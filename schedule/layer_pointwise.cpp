// What a framework that does not fuse moves through memory besides the
// operators of layer_forward.cpp and layer_backward.cpp. Each extra pass is an
// operator of its own on tensors that are there anyway.
#include "schedule/layer_blocks.h"

namespace troupe::schedule {
namespace {

using kernels::DType;
using kernels::OpKind;
using strategy::Pointwise;

/// A pass over `rows` x `columns`: a copy reads and writes 16 bits (or fp32),
/// a cast one in 16 bits and one in fp32.
struct Extra {
  BlockBuilder& b;
  const Layout& layout;

  void pass(const std::string& name, OpKind kind, std::int64_t rows,
            std::int64_t columns, TensorIndex on) const {
    b.compute(name, kernels::rows_by_columns(kind, rows, columns, layout.dtype),
              {on}, {on});
  }
};

bool wide(DType dtype) { return kernels::size_of(dtype).v >= 4; }

}  // namespace

bool eager(const Layout& layout) {
  return layout.pointwise != Pointwise::fused;
}

bool autocasts(const Layout& layout) {
  return layout.pointwise == Pointwise::autocast && !wide(layout.dtype);
}

void append_eager_norm(BlockBuilder& b, const Layout& layout,
                       const LayerSizes& s, TensorIndex x,
                       const std::string& name) {
  if (!autocasts(layout)) return;
  Extra{b, layout}.pass(name + ".cast", OpKind::cast, s.shard, s.hidden, x);
}

void append_eager_sum(BlockBuilder& b, const Layout& layout,
                      const LayerSizes& s, TensorIndex sum,
                      const std::string& name) {
  if (!autocasts(layout)) return;
  // The residual is read and the sum written in 4 bytes instead of 2.
  Extra{b, layout}.pass(name + ".fp32", OpKind::copy, s.shard, s.hidden, sum);
}

void append_eager_rotary(BlockBuilder& b, const Layout& layout,
                         const LayerSizes& s, TensorIndex qkv,
                         const std::string& name) {
  if (!eager(layout)) return;
  // Turning the halves, two products and a sum make nine passes, not two.
  for (const char* step : {".halves", ".cosine", ".sine"}) {
    Extra{b, layout}.pass(name + step, OpKind::copy, s.tokens,
                          (s.heads + s.kv_heads) * s.head_dim, qkv);
  }
}

void append_eager_gate(BlockBuilder& b, const Layout& layout,
                       const LayerSizes& s, TensorIndex on, bool backward) {
  if (!eager(layout) || !s.gated) return;
  // The activated half goes through memory before the product; backward the
  // gradients of both factors and their joining do.
  const Extra extra{b, layout};
  extra.pass(backward ? "gate.backward" : "gate", OpKind::copy, s.tokens, s.ffn,
             on);
  if (backward) {
    extra.pass("gate.join", OpKind::copy, s.tokens, s.ffn, on);
  }
}

void append_eager_weights(BlockBuilder& b, const Layout& layout,
                          const LayerSizes& s) {
  if (!autocasts(layout)) return;
  const TensorIndex w =
      b.tensor("weights.cast", {s.parameters}, Role::temporary, layout.dtype);
  b.require_weights();
  Extra{b, layout}.pass("weights.cast", OpKind::cast, s.parameters, 1, w);
}

void append_eager_half_backward(BlockBuilder& b, const Layout& layout,
                                const LayerSizes& s, TensorIndex grad,
                                const std::string& name) {
  if (!eager(layout)) return;
  const Extra extra{b, layout};
  // A second kernel reads input and gradient again for the norm's weights.
  extra.pass(name + ".weights", OpKind::copy, s.shard, s.hidden, grad);
  if (!autocasts(layout)) return;
  extra.pass(name + ".uncast", OpKind::cast, s.shard, s.hidden, grad);
  extra.pass(name + ".fp32", OpKind::cast, s.shard, s.hidden, grad);
  extra.pass(name + ".cast", OpKind::cast, s.shard, s.hidden, grad);
}

void append_eager_attention_backward(BlockBuilder& b, const Layout& layout,
                                     const LayerSizes& s, TensorIndex dqkv) {
  if (!eager(layout)) return;
  Extra{b, layout}.pass("attention.join", OpKind::copy, s.tokens, s.qkv, dqkv);
}

void append_eager_gradients(BlockBuilder& b, const Layout& layout,
                            const LayerSizes& s, TensorIndex last) {
  if (!eager(layout)) return;
  const Extra extra{b, layout};
  const bool flattens = scatters_gradients(layout);
  const bool casts = autocasts(layout);
  if (casts) {
    extra.pass("gradients.uncast", OpKind::cast, s.parameters, 1, last);
  }
  if (!flattens) return;
  // Into the flat buffer that is reduced, in the parameters' type.
  b.compute("gradients.flatten",
            kernels::rows_by_columns(OpKind::copy, s.parameters, 1,
                                     casts ? DType::fp32 : layout.dtype),
            {last}, {last});
  if (casts) {
    extra.pass("gradients.cast", OpKind::cast, s.parameters, 1, last);
  }
}

}  // namespace troupe::schedule
