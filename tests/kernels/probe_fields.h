// The fields of every call by name, for the program that other languages
// drive (kernels_probe): `f(name, field)` for each, operands as pointers.
#pragma once

#include "kernels/call.h"

namespace troupe::kernels::testing {

template <typename F>
void fields(Gemm& c, F&& f) {
  f("dtype", c.dtype), f("out", c.out), f("m", c.m), f("n", c.n);
  f("k", c.k), f("batch", c.batch), f("transpose_a", c.transpose_a);
  f("transpose_b", c.transpose_b), f("accumulate", c.accumulate);
  f("lda", c.lda), f("ldb", c.ldb), f("ldc", c.ldc);
  f("a", c.a), f("b", c.b), f("bias", c.bias), f("c", c.c);
}
template <typename F>
void fields(AttentionSizes& c, F&& f) {
  f("sequences", c.sequences), f("q_tokens", c.q_tokens);
  f("kv_tokens", c.kv_tokens), f("max_q", c.max_q), f("max_kv", c.max_kv);
  f("heads", c.heads), f("kv_heads", c.kv_heads), f("head_dim", c.head_dim);
  f("q_ld", c.q_ld), f("kv_ld", c.kv_ld), f("out_ld", c.out_ld);
  f("causal", c.causal), f("window", c.window), f("scale", c.scale),
      f("q_starts", c.q_starts);
  f("kv_starts", c.kv_starts);
}
template <typename F>
void fields(AttentionForward& c, F&& f) {
  fields(c.sizes, f), f("dtype", c.dtype), f("q", c.q), f("k", c.k);
  f("v", c.v), f("out", c.out), f("lse", c.lse);
}
template <typename F>
void fields(AttentionBackward& c, F&& f) {
  fields(c.sizes, f), f("dtype", c.dtype), f("q", c.q), f("k", c.k);
  f("v", c.v), f("out", c.out), f("lse", c.lse), f("d_out", c.d_out);
  f("dq", c.dq), f("dk", c.dk), f("dv", c.dv);
}
template <typename F>
void fields(AttentionMerge& c, F&& f) {
  f("dtype", c.dtype), f("tokens", c.tokens), f("heads", c.heads);
  f("head_dim", c.head_dim), f("first", c.first), f("out", c.out);
  f("out_lse", c.out_lse), f("sum", c.sum), f("lse", c.lse);
}
template <typename F>
void fields(NormForward& c, F&& f) {
  f("dtype", c.dtype), f("rms", c.rms), f("rows", c.rows);
  f("columns", c.columns), f("epsilon", c.epsilon), f("in", c.in);
  f("weight", c.weight), f("bias", c.bias), f("out", c.out);
  f("mean", c.mean), f("rstd", c.rstd);
}
template <typename F>
void fields(NormBackward& c, F&& f) {
  f("dtype", c.dtype), f("rms", c.rms), f("rows", c.rows);
  f("columns", c.columns), f("in", c.in), f("weight", c.weight);
  f("mean", c.mean), f("rstd", c.rstd), f("d_out", c.d_out);
  f("d_in", c.d_in), f("d_weight", c.d_weight), f("d_bias", c.d_bias);
}
template <typename F>
void fields(Rotary& c, F&& f) {
  f("dtype", c.dtype), f("tokens", c.tokens), f("heads", c.heads);
  f("head_dim", c.head_dim), f("ld", c.ld), f("base", c.base);
  f("inverse", c.inverse), f("positions", c.positions), f("data", c.data);
  f("factor", c.scaling.factor), f("low", c.scaling.low);
  f("high", c.scaling.high), f("original", c.scaling.original);
}
template <typename F>
void fields(ActivationForward& c, F&& f) {
  f("dtype", c.dtype), f("function", c.function), f("gated", c.gated);
  f("rows", c.rows), f("columns", c.columns), f("in", c.in);
  f("out", c.out);
}
template <typename F>
void fields(ActivationBackward& c, F&& f) {
  f("dtype", c.dtype), f("function", c.function), f("gated", c.gated);
  f("rows", c.rows), f("columns", c.columns), f("in", c.in);
  f("d_out", c.d_out), f("d_in", c.d_in);
}
template <typename F>
void fields(Add& c, F&& f) {
  f("dtype", c.dtype), f("elements", c.elements), f("a", c.a);
  f("b", c.b), f("out", c.out);
}
template <typename F>
void fields(BiasAdd& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("columns", c.columns);
  f("bias", c.bias), f("data", c.data);
}
template <typename F>
void fields(BiasGradient& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("columns", c.columns);
  f("d_out", c.d_out), f("d_bias", c.d_bias);
}
template <typename F>
void fields(EmbeddingForward& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("columns", c.columns);
  f("vocabulary", c.vocabulary), f("first", c.first), f("add", c.add);
  f("tokens", c.tokens), f("table", c.table), f("out", c.out);
}
template <typename F>
void fields(EmbeddingBackward& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("columns", c.columns);
  f("vocabulary", c.vocabulary), f("first", c.first);
  f("tokens", c.tokens), f("d_out", c.d_out), f("d_table", c.d_table);
}
template <typename F>
void fields(CrossEntropyForward& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("columns", c.columns);
  f("first", c.first), f("ld", c.ld), f("logits", c.logits);
  f("labels", c.labels), f("maximum", c.maximum), f("sum", c.sum);
  f("target", c.target);
}
template <typename F>
void fields(CrossEntropyMerge& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("shards", c.shards);
  f("labels", c.labels), f("maximum", c.maximum), f("sum", c.sum);
  f("target", c.target), f("lse", c.lse), f("loss", c.loss);
}
template <typename F>
void fields(CrossEntropyBackward& c, F&& f) {
  f("dtype", c.dtype), f("rows", c.rows), f("columns", c.columns);
  f("first", c.first), f("ld", c.ld), f("scale", c.scale);
  f("logits", c.logits), f("labels", c.labels), f("lse", c.lse);
  f("d_logits", c.d_logits);
}
template <typename F>
void fields(AdamW& c, F&& f) {
  f("dtype", c.dtype), f("elements", c.elements), f("rate", c.rate);
  f("beta1", c.beta1), f("beta2", c.beta2), f("epsilon", c.epsilon);
  f("decay", c.decay), f("step", c.step), f("clip", c.clip);
  f("gradient_scale", c.gradient_scale), f("gradient", c.gradient);
  f("master", c.master), f("m", c.m), f("v", c.v), f("copy", c.copy);
}
template <typename F>
void fields(SquareSum& c, F&& f) {
  f("dtype", c.dtype), f("elements", c.elements), f("data", c.data);
  f("sum", c.sum);
}
template <typename F>
void fields(ClipFactor& c, F&& f) {
  f("dtype", c.dtype), f("limit", c.limit), f("scale", c.scale);
  f("sum", c.sum), f("clip", c.clip);
}
template <typename F>
void fields(Cast& c, F&& f) {
  f("from", c.from), f("to", c.to), f("elements", c.elements);
  f("scale", c.scale), f("accumulate", c.accumulate), f("in", c.in);
  f("out", c.out);
}
template <typename F>
void fields(CopyBlock& c, F&& f) {
  f("dtype", c.dtype), f("size", c.size), f("from_stride", c.from_stride);
  f("to_stride", c.to_stride), f("accumulate", c.accumulate);
  f("in", c.in), f("out", c.out);
}

}  // namespace troupe::kernels::testing
