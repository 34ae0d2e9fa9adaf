#include "schedule/blocks.h"

#include <fmt/format.h>

#include "schedule/layer_blocks.h"

namespace troupe::schedule {
namespace {

using clusters::Collective;
using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;
using kernels::rows_by_columns;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

profiles::LayerKey key_of(const models::Model& model, const Layout& layout,
                          profiles::Part part, bool backward) {
  profiles::LayerKey key;
  key.part = part;
  key.backward = backward;
  key.hidden = model.hidden;
  key.heads = model.heads;
  key.kv_heads = model.kv_heads;
  key.head_dim = model.head_dim;
  key.ffn = model.ffn;
  key.gated = models::gated(model.activation);
  key.vocab = part == profiles::Part::layer ? 0 : model.vocab;
  key.tp = layout.tp;
  key.micro_batch = layout.micro_batch;
  key.seq_len = layout.seq_len;
  key.dtype = layout.dtype;
  return key;
}

std::string title(const char* what, const Layout& l) {
  return fmt::format("{} tp{} cp{} {}x{}{}", what, l.tp, l.cp, l.micro_batch,
                     ceil_div(l.tokens, l.micro_batch),
                     l.recompute == strategy::Recompute::full ? " recomputed"
                     : l.recompute == strategy::Recompute::selective
                         ? " core recomputed"
                         : "");
}

OpShape embedding_op(OpKind kind, std::int64_t rows, std::int64_t columns,
                     std::int64_t vocab, DType dtype) {
  OpShape op{.kind = kind, .dtype = dtype};
  op.dim = {rows, columns, vocab};
  return op;
}

void append_embedding(BlockBuilder& b, const models::Model& model,
                      const Layout& layout, bool backward) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const std::int64_t vocab = ceil_div(model.vocab, layout.tp);
  if (backward) {
    const TensorIndex dx =
        b.tensor("out.grad", {s.shard, s.hidden}, Role::input, t);
    const TensorIndex w = b.tensor("embedding.weight", {vocab, s.hidden},
                                   Role::gradient, DType::fp32);
    const TensorIndex whole =
        gather_rows(b, layout, s, dx, "embedding.gather_gradient");
    b.compute(
        "embedding.backward",
        embedding_op(OpKind::embedding_backward, s.tokens, s.hidden, vocab, t),
        {whole}, {w});
    return;
  }
  const TensorIndex ids =
      b.tensor("tokens", {s.tokens}, Role::saved, DType::int32);
  const TensorIndex rows =
      b.tensor("rows", {s.tokens, s.hidden}, Role::temporary, t);
  b.compute(
      "embedding",
      embedding_op(OpKind::embedding_forward, s.tokens, s.hidden, vocab, t),
      {ids}, {rows});
  TensorIndex x = reduce_rows(b, layout, s, rows, "embedding.reduce");
  const bool adds =
      model.positions == models::Positions::learned || model.token_types > 0;
  if (adds) {
    const TensorIndex sum =
        b.tensor("sum", {s.shard, s.hidden}, Role::temporary, t);
    b.compute("positions", rows_by_columns(OpKind::add, s.shard, s.hidden, t),
              {x}, {sum});
    x = sum;
  }
  if (model.embedding_norm) {
    const TensorIndex normed =
        b.tensor("normed", {s.shard, s.hidden}, Role::saved, t);
    b.compute("embedding.norm",
              rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, t), {x},
              {normed});
  }
}

/// The statistics of a vocabulary-parallel cross-entropy: maximum, sum of
/// exponentials and the target's logit, fp32, per token.
void reduce_statistics(BlockBuilder& b, const Layout& layout,
                       const LayerSizes& s, TensorIndex loss) {
  if (layout.tp == 1) return;
  b.communicate("loss.reduce",
                {Collective::all_reduce, Scope::tensor,
                 kernels::size_of(DType::fp32) * (3 * s.tokens)},
                {loss}, {loss});
}

void append_head_forward(BlockBuilder& b, const models::Model& model,
                         const Layout& layout) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const std::int64_t vocab = ceil_div(model.vocab, layout.tp);
  TensorIndex x = b.tensor("x", {s.shard, s.hidden}, Role::saved, t);
  if (model.head_transform) {
    const TensorIndex y =
        b.tensor("transformed", {s.shard, s.hidden}, Role::saved, t);
    b.compute("head.transform", kernels::gemm(s.shard, s.hidden, s.hidden, t),
              {x}, {y});
    x = y;
  }
  if (model.final_norm || model.head_transform) {
    const TensorIndex n = b.tensor("norm", {s.shard, s.hidden}, Role::saved, t);
    b.compute("final_norm",
              rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, t), {x},
              {n});
    x = n;
  }
  const TensorIndex whole = gather_rows(b, layout, s, x, "head.gather");
  const TensorIndex logits =
      b.tensor("logits", {s.tokens, vocab}, Role::saved, t);
  const TensorIndex loss =
      b.tensor("loss", {s.tokens, 3}, Role::saved, DType::fp32);
  b.compute("head", kernels::gemm(s.tokens, vocab, s.hidden, t), {whole},
            {logits});
  b.compute("cross_entropy",
            rows_by_columns(OpKind::cross_entropy_forward, s.tokens, vocab, t),
            {logits}, {loss});
  reduce_statistics(b, layout, s, loss);
}

void append_head_backward(BlockBuilder& b, const models::Model& model,
                          const Layout& layout) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const std::int64_t vocab = ceil_div(model.vocab, layout.tp);
  const TensorIndex dlogits =
      b.tensor("logits.grad", {s.tokens, vocab}, Role::temporary, t);
  const TensorIndex dn =
      b.tensor("norm.grad", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex n =
      b.tensor("norm", {s.shard, s.hidden}, Role::temporary, t);
  const TensorIndex w =
      b.tensor("head.weight", {s.hidden, vocab}, Role::gradient, DType::fp32);
  const TensorIndex dx =
      b.tensor("x.grad", {s.shard, s.hidden}, Role::output, t);
  b.compute("cross_entropy.backward",
            rows_by_columns(OpKind::cross_entropy_backward, s.tokens, vocab, t),
            {}, {dlogits});
  b.compute("head.input_gradient", kernels::gemm(s.tokens, s.hidden, vocab, t),
            {dlogits}, {dn});
  const TensorIndex whole = gather_rows(b, layout, s, n, "head.regather");
  const TensorIndex r = reduce_rows(b, layout, s, dn, "head.reduce_gradient");
  b.compute("head.weight_gradient", kernels::gemm(s.hidden, vocab, s.tokens, t),
            {whole, dlogits}, {w});
  if (model.final_norm || model.head_transform) {
    b.compute("final_norm.backward",
              rows_by_columns(OpKind::norm_backward, s.shard, s.hidden, t), {r},
              {dx});
  }
  if (model.head_transform) {
    b.compute("head.transform.input_gradient",
              kernels::gemm(s.shard, s.hidden, s.hidden, t), {dx}, {dx});
    b.compute("head.transform.weight_gradient",
              kernels::gemm(s.hidden, s.hidden, s.shard, t), {dx}, {w});
  }
}

}  // namespace

template <typename Make>
BlockId BlockShop::once(const Request& request, Make make) {
  const auto [it, fresh] = made_.try_emplace(request);
  if (fresh) {
    it->second = make_id<BlockId>(blocks_.size());
    blocks_.push_back(make());
  }
  return it->second;
}

BlockId BlockShop::forward(models::LayerKind kind, const Layout& layout) {
  return once({0, static_cast<int>(kind), Gradients::both, 0, layout}, [&] {
    BlockBuilder b;
    append_forward(b, model_, kind, layout, true);
    Block block = b.finish(title("layer.forward", layout));
    block.key = key_of(model_, layout, profiles::Part::layer, false);
    block.key.cross = kind == models::LayerKind::cross_decoder;
    block.has_key = layout.cp == 1 && layout.zero != strategy::Zero::three;
    return block;
  });
}

BlockId BlockShop::backward(models::LayerKind kind, const Layout& layout,
                            Gradients gradients) {
  return once({1, static_cast<int>(kind), gradients, 0, layout}, [&] {
    BlockBuilder b;
    append_backward(b, model_, kind, layout, gradients);
    const char* what = gradients == Gradients::both ? "layer.backward"
                       : gradients == Gradients::input
                           ? "layer.backward_input"
                           : "layer.backward_weight";
    Block block = b.finish(title(what, layout));
    block.key = key_of(model_, layout, profiles::Part::layer, true);
    block.key.cross = kind == models::LayerKind::cross_decoder;
    block.has_key = layout.cp == 1 && gradients == Gradients::both &&
                    layout.zero < strategy::Zero::two;
    block.recomputes = layout.recompute == strategy::Recompute::full;
    return block;
  });
}

BlockId BlockShop::embedding(bool backward, const Layout& layout) {
  Layout plain = layout;
  plain.recompute = strategy::Recompute::none;
  return once({2, backward ? 1 : 0, Gradients::both, 0, plain}, [&] {
    BlockBuilder b;
    append_embedding(b, model_, plain, backward);
    Block block = b.finish(
        title(backward ? "embedding.backward" : "embedding.forward", plain));
    block.key = key_of(model_, plain, profiles::Part::embedding, backward);
    block.has_key = plain.cp == 1;
    return block;
  });
}

BlockId BlockShop::head(bool backward, const Layout& layout) {
  Layout plain = layout;
  plain.recompute = strategy::Recompute::none;
  return once({3, backward ? 1 : 0, Gradients::both, 0, plain}, [&] {
    BlockBuilder b;
    if (backward) {
      append_head_backward(b, model_, plain);
    } else {
      append_head_forward(b, model_, plain);
    }
    Block block =
        b.finish(title(backward ? "head.backward" : "head.forward", plain));
    block.key = key_of(model_, plain, profiles::Part::head, backward);
    block.has_key = plain.cp == 1;
    return block;
  });
}

BlockId BlockShop::optimizer(std::int64_t elements, kernels::DType dtype) {
  Layout layout;
  layout.dtype = dtype;
  return once({4, 0, Gradients::both, elements, layout}, [&] {
    BlockBuilder b;
    const TensorIndex g =
        b.tensor("gradients", {elements}, Role::gradient, DType::fp32);
    const TensorIndex w =
        b.tensor("master", {elements}, Role::parameter, DType::fp32);
    OpShape norm{.kind = OpKind::gradient_norm, .dtype = DType::fp32};
    norm.dim = {elements};
    OpShape adam{.kind = OpKind::optimizer, .dtype = dtype};
    adam.dim = {elements};
    b.compute("gradient_norm", norm, {g}, {});
    b.compute("adamw", adam, {g, w}, {w});
    return b.finish(fmt::format("optimizer {}", elements));
  });
}

}  // namespace troupe::schedule
