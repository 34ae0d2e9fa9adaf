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

void finish_key(profiles::LayerKey& key, const models::Model& model,
                models::LayerKind kind) {
  key.cross = kind == models::LayerKind::cross_decoder;
  key.window = static_cast<int>(models::window_of(model, kind, key.seq_len));
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

/// Among whom embedding and head are gathered and reduced.
Scope ends_scope(const models::Model& model) {
  return model.tied_embeddings ? Scope::ends : Scope::data;
}

void reduce_end_gradients(BlockBuilder& b, const models::Model& model,
                          const Layout& layout) {
  if (!scatters_gradients(layout)) return;
  b.reduce_gradients(ends_scope(model), b.scattered_elements(), layout.dtype);
}

void append_embedding_gradient(BlockBuilder& b, const models::Model& model,
                               const Layout& layout) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const DType wide = kernels::statistics_type(t);
  const std::int64_t vocab = ceil_div(model.vocab, layout.tp);
  const TensorIndex dx =
      b.tensor("out.grad", {s.shard, s.hidden}, Role::input, t);
  b.set_input(dx);
  if (scatters_gradients(layout)) b.scatter_gradients();
  std::vector<TensorIndex> outputs{
      b.weight("embedding.tokens", {vocab, s.hidden}, Role::gradient, wide)};
  const TensorIndex whole =
      gather_rows(b, layout, s, dx, "embedding.gather_gradient");
  std::vector<TensorIndex> inputs{b.kept("tokens", {s.tokens}, DType::int32),
                                  whole};
  if (model.positions == models::Positions::learned) {
    inputs.push_back(dx);
    outputs.push_back(b.weight("embedding.positions",
                               {model.max_positions, s.hidden}, Role::gradient,
                               wide));
  }
  b.compute(
      "embedding.backward", Action::embed_gradient,
      embedding_op(OpKind::embedding_backward, s.tokens, s.hidden, vocab, t),
      std::move(inputs), std::move(outputs));
  reduce_end_gradients(b, model, layout);
}

void append_embedding(BlockBuilder& b, const models::Model& model,
                      const Layout& layout) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const std::int64_t vocab = ceil_div(model.vocab, layout.tp);
  const TensorIndex ids = b.kept("tokens", {s.tokens}, DType::int32);
  if (gathers_weights(layout)) b.gather_weights(ends_scope(model), {});
  const TensorIndex rows =
      b.tensor("rows", {s.tokens, s.hidden}, Role::temporary, t);
  b.compute(
      "embedding", Action::embed,
      embedding_op(OpKind::embedding_forward, s.tokens, s.hidden, vocab, t),
      {ids,
       b.weight("embedding.tokens", {vocab, s.hidden}, Role::parameter, t)},
      {rows});
  TensorIndex x = reduce_rows(b, layout, s, rows, "embedding.reduce");
  const bool learned = model.positions == models::Positions::learned;
  if (learned || model.token_types > 0) {
    const TensorIndex sum =
        b.tensor("sum", {s.shard, s.hidden}, Role::temporary, t);
    std::vector<TensorIndex> inputs{x};
    if (learned) {
      inputs.push_back(b.weight("embedding.positions",
                                {model.max_positions, s.hidden},
                                Role::parameter, t));
    }
    b.compute("positions", learned ? Action::add_positions : Action::none,
              rows_by_columns(OpKind::add, s.shard, s.hidden, t),
              std::move(inputs), {sum});
    x = sum;
  }
  if (model.embedding_norm) {
    const TensorIndex normed =
        b.tensor("normed", {s.shard, s.hidden}, Role::saved, t);
    b.compute("embedding.norm",
              rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, t), {x},
              {normed});
    x = normed;
  }
  b.set_output(x);
}

/// What a vocabulary-parallel cross-entropy knows of each token: maximum, sum
/// of exponentials and the target's logit of the shard; then the logarithm of
/// the whole sum, and the loss.
struct LossTensors {
  TensorIndex shares, loss;
};
LossTensors loss_tensors(BlockBuilder& b, const Layout& layout,
                         const LayerSizes& s) {
  const DType wide = kernels::statistics_type(layout.dtype);
  return {b.kept("loss.shares", {3, s.tokens}, wide),
          b.kept("loss", {2, s.tokens}, wide)};
}

void append_loss(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                 TensorIndex logits, std::int64_t vocab) {
  const LossTensors t = loss_tensors(b, layout, s);
  const bool whole = layout.tp == 1;
  b.compute("cross_entropy", Action::cross_entropy,
            rows_by_columns(OpKind::cross_entropy_forward, s.tokens, vocab,
                            layout.dtype),
            {logits},
            whole ? std::vector<TensorIndex>{t.shares, t.loss}
                  : std::vector<TensorIndex>{t.shares});
  if (whole) return;
  b.communicate("loss.reduce",
                {.collective = Collective::all_reduce,
                 .scope = Scope::tensor,
                 .bytes = kernels::size_of(DType::fp32) * (3 * s.tokens),
                 .action = Action::merge_loss},
                {t.shares}, {t.loss});
}

Product head_product(const models::Model& model, const Layout& layout,
                     const LayerSizes& s) {
  return {"head", model.tied_embeddings ? "embedding.tokens" : "output",
          model.head_bias ? "output.bias" : "",
          ceil_div(model.vocab, layout.tp), s.hidden};
}

void append_head_forward(BlockBuilder& b, const models::Model& model,
                         const Layout& layout) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const Product product = head_product(model, layout, s);
  TensorIndex x = b.tensor("x", {s.shard, s.hidden}, Role::saved, t);
  b.set_input(x);
  if (gathers_weights(layout)) b.gather_weights(ends_scope(model), {});
  if (model.head_transform) {
    const TensorIndex y =
        b.tensor("transformed", {s.shard, s.hidden}, Role::saved, t);
    b.compute("head.transform", kernels::gemm(s.shard, s.hidden, s.hidden, t),
              {x}, {y});
    x = y;
  }
  if (model.final_norm || model.head_transform) {
    const TensorIndex n =
        b.tensor("normed", {s.shard, s.hidden}, Role::saved, t);
    append_norm(b, layout, s, {"final_norm", "norm"}, x, n, Role::saved);
    x = n;
  }
  const TensorIndex whole = gather_rows(b, layout, s, x, "head.gather");
  const TensorIndex logits =
      b.tensor("logits", {s.tokens, product.n}, Role::saved, t);
  append_product(b, layout, s, product, whole, logits);
  append_loss(b, layout, s, logits, product.n);
}

void append_head_backward(BlockBuilder& b, const models::Model& model,
                          const Layout& layout) {
  const LayerSizes s = layer_sizes(model, models::LayerKind::decoder, layout);
  const DType t = layout.dtype;
  const DType wide = kernels::statistics_type(t);
  const Product product = head_product(model, layout, s);
  const std::int64_t vocab = product.n;
  const bool norms = model.final_norm || model.head_transform;
  if (gathers_weights(layout)) b.gather_weights(ends_scope(model), {});
  if (scatters_gradients(layout)) b.scatter_gradients();
  const TensorIndex dlogits =
      b.tensor("logits.grad", {s.tokens, vocab}, Role::temporary, t);
  const TensorIndex dn =
      b.tensor("norm.grad", {s.tokens, s.hidden}, Role::temporary, t);
  const TensorIndex n = b.kept(norms ? "normed" : "x", {s.shard, s.hidden}, t);
  b.compute(
      "cross_entropy.backward", Action::cross_entropy_gradient,
      rows_by_columns(OpKind::cross_entropy_backward, s.tokens, vocab, t),
      {b.kept("logits", {s.tokens, vocab}, t), loss_tensors(b, layout, s).loss},
      {dlogits});
  b.compute("head.input_gradient", Action::input_gradient,
            kernels::gemm(s.tokens, s.hidden, vocab, t),
            {dlogits,
             b.weight(product.weight, {vocab, s.hidden}, Role::parameter, t)},
            {dn});
  const TensorIndex whole = gather_rows(b, layout, s, n, "head.regather");
  const TensorIndex r = reduce_rows(b, layout, s, dn, "head.reduce_gradient");
  std::vector<TensorIndex> gradients{
      b.weight(product.weight, {vocab, s.hidden}, Role::gradient, wide)};
  if (!product.bias.empty()) {
    gradients.push_back(b.weight(product.bias, {vocab}, Role::gradient, wide));
  }
  b.compute("head.weight_gradient", Action::weight_gradient,
            kernels::gemm(s.hidden, vocab, s.tokens, t), {whole, dlogits},
            gradients);
  TensorIndex dx = r;
  if (norms) {
    dx = b.tensor("x.grad", {s.shard, s.hidden}, Role::output, t);
    const TensorIndex x = b.kept(model.head_transform ? "transformed" : "x",
                                 {s.shard, s.hidden}, t);
    append_norm_gradient(b, layout, s, {"final_norm", "norm"}, x, r, dx);
  }
  if (model.head_transform) {
    b.compute("head.transform.input_gradient",
              kernels::gemm(s.shard, s.hidden, s.hidden, t), {dx}, {dx});
    b.compute("head.transform.weight_gradient",
              kernels::gemm(s.hidden, s.hidden, s.shard, t), {dx},
              {gradients[0]});
  }
  reduce_end_gradients(b, model, layout);
  b.set_output(dx);
}

/// A measured layer knows nothing of weights or gradients on the way.
bool exchanges(const Layout& layout, bool backward) {
  return gathers_weights(layout) || (backward && scatters_gradients(layout));
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
    append_forward(b, model_, kind, layout);
    Block block = b.finish(title("layer.forward", layout));
    block.key = key_of(model_, layout, profiles::Part::layer, false);
    finish_key(block.key, model_, kind);
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
    finish_key(block.key, model_, kind);
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
    if (backward) {
      append_embedding_gradient(b, model_, plain);
    } else {
      append_embedding(b, model_, plain);
    }
    Block block = b.finish(
        title(backward ? "embedding.backward" : "embedding.forward", plain));
    block.key = key_of(model_, plain, profiles::Part::embedding, backward);
    block.has_key = plain.cp == 1 && !exchanges(plain, backward);
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
    block.has_key = plain.cp == 1 && !exchanges(plain, backward);
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
    b.compute("gradient_norm", Action::square_sum, norm, {g}, {});
    b.compute("adamw", Action::adamw, adam, {g, w}, {w});
    return b.finish(fmt::format("optimizer {}", elements));
  });
}

}  // namespace troupe::schedule
