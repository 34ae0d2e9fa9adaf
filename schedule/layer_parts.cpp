// What forward and backward of a layer have in common: norms and products
// with their parameters.
#include "schedule/layer_blocks.h"

namespace troupe::schedule {

using kernels::DType;
using kernels::OpKind;
using kernels::rows_by_columns;

Product qkv_product(const LayerSizes& s) {
  Product p{"qkv",
            "attention.query+attention.key+attention.value",
            {},
            s.qkv,
            s.hidden};
  if (s.qkv_bias) {
    p.bias = "attention.query.bias+attention.key.bias+attention.value.bias";
  }
  return p;
}

Product project_product(const LayerSizes& s) {
  return {"project", "attention.output",
          s.out_bias ? "attention.output.bias" : "", s.hidden,
          s.heads * s.head_dim};
}

Product up_product(const LayerSizes& s) {
  Product p{
      "mlp_up", s.gated ? "mlp.gate+mlp.up" : "mlp.up", {}, s.up, s.hidden};
  if (s.mlp_bias)
    p.bias = s.gated ? "mlp.gate.bias+mlp.up.bias" : "mlp.up.bias";
  return p;
}

Product down_product(const LayerSizes& s) {
  return {"mlp_down", "mlp.down", s.mlp_bias ? "mlp.down.bias" : "", s.hidden,
          s.ffn};
}

namespace {

/// A product that is cut along its input leaves its bias to the sum after it.
bool adds_bias(const Product& product) {
  return !product.bias.empty() && product.name != "project" &&
         product.name != "mlp_down";
}

}  // namespace

void append_product(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                    const Product& product, TensorIndex x, TensorIndex out) {
  std::vector<TensorIndex> inputs{
      x, b.weight(product.weight, {product.n, product.k}, Role::parameter,
                  layout.dtype)};
  if (adds_bias(product)) {
    inputs.push_back(
        b.weight(product.bias, {product.n}, Role::parameter, layout.dtype));
  }
  b.compute(product.name, Action::product,
            kernels::gemm(s.tokens, product.n, product.k, layout.dtype),
            std::move(inputs), {out});
}

void append_sum(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                const std::string& name, std::vector<TensorIndex> terms,
                const std::string& bias, TensorIndex out) {
  if (!bias.empty()) {
    terms.push_back(b.weight(bias, {s.hidden}, Role::parameter, layout.dtype));
  }
  b.compute(name, Action::add,
            rows_by_columns(OpKind::add, s.shard, s.hidden, layout.dtype),
            std::move(terms), {out});
}

void append_norm(BlockBuilder& b, const Layout& layout, const LayerSizes& s,
                 const NormName& name, TensorIndex x, TensorIndex out,
                 Role saved) {
  const DType wide = kernels::statistics_type(layout.dtype);
  std::vector<TensorIndex> inputs{
      x, b.weight(name.parameter + ".scale", {s.hidden}, Role::parameter,
                  layout.dtype)};
  std::vector<TensorIndex> outputs{
      out, b.tensor(name.parameter + ".rstd", {s.shard}, saved, wide)};
  if (!s.rms) {
    inputs.push_back(b.weight(name.parameter + ".bias", {s.hidden},
                              Role::parameter, layout.dtype));
    outputs.push_back(
        b.tensor(name.parameter + ".mean", {s.shard}, saved, wide));
  }
  b.compute(
      name.op, Action::norm,
      rows_by_columns(OpKind::norm_forward, s.shard, s.hidden, layout.dtype),
      std::move(inputs), std::move(outputs));
}

void append_norm_gradient(BlockBuilder& b, const Layout& layout,
                          const LayerSizes& s, const NormName& name,
                          TensorIndex x, TensorIndex d_out, TensorIndex dx) {
  const DType wide = kernels::statistics_type(layout.dtype);
  const auto gradient = [&](const char* part) {
    return b.weight(name.parameter + part, {s.hidden}, Role::gradient, wide);
  };
  std::vector<TensorIndex> inputs{
      d_out, x,
      b.weight(name.parameter + ".scale", {s.hidden}, Role::parameter,
               layout.dtype),
      b.kept(name.parameter + ".rstd", {s.shard}, wide)};
  std::vector<TensorIndex> outputs{dx, gradient(".scale")};
  if (!s.rms) {
    inputs.push_back(b.kept(name.parameter + ".mean", {s.shard}, wide));
    outputs.push_back(gradient(".bias"));
  }
  b.compute(
      name.op + ".backward", Action::norm_gradient,
      rows_by_columns(OpKind::norm_backward, s.shard, s.hidden, layout.dtype),
      std::move(inputs), std::move(outputs));
}

}  // namespace troupe::schedule
