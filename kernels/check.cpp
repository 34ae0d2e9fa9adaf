#include "kernels/check.h"

#include <cmath>
#include <string>
#include <string_view>

#include "kernels/checker.h"

namespace troupe::kernels {
namespace {

Result<void> check(const Gemm& c, Side side) {
  Checker checker("gemm", side);
  checker.type("dtype", c.dtype);
  checker.sizes({{"m", c.m}, {"n", c.n}, {"k", c.k}, {"batch", c.batch}});
  if (c.out != c.dtype && c.out != statistics_type(c.dtype)) {
    checker.complain("out", name_of(c.out),
                     "it must be dtype or its type of statistics");
  }
  checker.stride("lda", c.lda, c.transpose_a ? c.m : c.k);
  checker.stride("ldb", c.ldb, c.transpose_b ? c.k : c.n);
  checker.stride("ldc", c.ldc, c.n);
  const auto volume = [&](std::string_view rows_name, std::int64_t rows,
                          std::string_view row_name, std::int64_t row) {
    checker.volume({{"batch", c.batch}, {rows_name, rows}, {row_name, row}});
  };
  volume("m", c.m, "k", c.k);
  volume("k", c.k, "n", c.n);
  volume("m", c.m, "n", c.n);
  volume("rows of a", c.transpose_a ? c.k : c.m, "lda", c.lda);
  volume("rows of b", c.transpose_b ? c.n : c.k, "ldb", c.ldb);
  volume("m", c.m, "ldc", c.ldc);
  const bool some = c.batch > 0 && c.m > 0 && c.n > 0;
  checker.pointers(some, {{"c", c.c}});
  checker.pointers(some && c.k > 0, {{"a", c.a}, {"b", c.b}});
  return checker.done();
}

// Returns whether there is anything in (rows, columns).
bool matrix(Checker& checker, DType dtype, std::int64_t rows,
            std::int64_t columns, std::int64_t columns_factor = 1) {
  checker.type("dtype", dtype);
  checker.sizes({{"rows", rows}, {"columns", columns}});
  checker.volume(
      {{"rows", rows}, {"columns", columns}, {"columns", columns_factor}});
  return rows > 0 && columns > 0;
}

Result<void> check(const NormForward& c, Side side) {
  Checker checker("norm_forward", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.sizes({{"columns", c.columns}}, 1);
  checker.range("epsilon", c.epsilon, 0, HUGE_VAL);
  checker.pointers(
      some,
      {{"in", c.in}, {"weight", c.weight}, {"out", c.out}, {"rstd", c.rstd}});
  checker.pointers(some && !c.rms, {{"mean", c.mean}});
  return checker.done();
}

Result<void> check(const NormBackward& c, Side side) {
  Checker checker("norm_backward", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.sizes({{"columns", c.columns}}, 1);
  checker.pointers(some, {{"in", c.in},
                          {"weight", c.weight},
                          {"rstd", c.rstd},
                          {"d_out", c.d_out},
                          {"d_in", c.d_in},
                          {"d_weight", c.d_weight}});
  checker.pointers(some && !c.rms, {{"mean", c.mean}});
  checker.scratch(c);
  return checker.done();
}

Result<void> check(const Rotary& c, Side side) {
  Checker checker("rotary", side);
  checker.type("dtype", c.dtype);
  checker.sizes(
      {{"tokens", c.tokens}, {"heads", c.heads}, {"head_dim", c.head_dim}});
  checker.volume(
      {{"tokens", c.tokens}, {"heads", c.heads}, {"head_dim", c.head_dim}});
  if (c.head_dim % 2 != 0) {
    checker.complain("head_dim", std::to_string(c.head_dim),
                     "pairs need an even one");
  }
  if (!checker.good()) return checker.done();
  const bool some = c.tokens > 0 && c.heads > 0 && c.head_dim > 0;
  if (some) checker.stride("ld", c.ld, c.heads * c.head_dim);
  checker.volume({{"tokens", c.tokens}, {"ld", c.ld}});
  checker.finite("base", c.base);
  checker.range("scaling.factor", c.scaling.factor, 1, 0x1p32);
  checker.range("scaling.low", c.scaling.low, 0x1p-32, 0x1p32);
  checker.range("scaling.original", c.scaling.original, 1, 0x1p40);
  checker.range("scaling.high", c.scaling.high, c.scaling.low, 0x1p33);
  if (c.scaling.high == c.scaling.low) {
    checker.complain("scaling.high", std::to_string(c.scaling.high),
                     "it must be above scaling.low");
  }
  if (!(c.base > 0)) checker.range("base", c.base, 0x1p-1022, HUGE_VAL);
  checker.pointers(some, {{"positions", c.positions}, {"data", c.data}});
  return checker.done();
}

Result<void> check(const ActivationForward& c, Side side) {
  Checker checker("activation_forward", side);
  const bool some =
      matrix(checker, c.dtype, c.rows, c.columns, c.gated ? 2 : 1);
  checker.pointers(some, {{"in", c.in}, {"out", c.out}});
  return checker.done();
}

Result<void> check(const ActivationBackward& c, Side side) {
  Checker checker("activation_backward", side);
  const bool some =
      matrix(checker, c.dtype, c.rows, c.columns, c.gated ? 2 : 1);
  checker.pointers(some, {{"in", c.in}, {"d_out", c.d_out}, {"d_in", c.d_in}});
  return checker.done();
}

// Returns whether there are any elements.
bool elements(Checker& checker, DType dtype, std::int64_t count) {
  checker.type("dtype", dtype);
  checker.sizes({{"elements", count}});
  checker.volume({{"elements", count}});
  return count > 0;
}

Result<void> check(const Add& c, Side side) {
  Checker checker("add", side);
  const bool some = elements(checker, c.dtype, c.elements);
  checker.pointers(some, {{"a", c.a}, {"b", c.b}, {"out", c.out}});
  return checker.done();
}

Result<void> check(const BiasAdd& c, Side side) {
  Checker checker("bias_add", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.pointers(some, {{"bias", c.bias}, {"data", c.data}});
  return checker.done();
}

Result<void> check(const BiasGradient& c, Side side) {
  Checker checker("bias_gradient", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.pointers(some, {{"d_out", c.d_out}, {"d_bias", c.d_bias}});
  checker.scratch(c);
  return checker.done();
}

Result<void> check(const EmbeddingForward& c, Side side) {
  Checker checker("embedding_forward", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.sizes({{"vocabulary", c.vocabulary}, {"first", c.first}});
  checker.volume({{"vocabulary", c.vocabulary}, {"columns", c.columns}});
  checker.pointers(some, {{"tokens", c.tokens}, {"out", c.out}});
  checker.pointers(some && c.vocabulary > 0, {{"table", c.table}});
  return checker.done();
}

Result<void> check(const EmbeddingBackward& c, Side side) {
  Checker checker("embedding_backward", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.sizes({{"vocabulary", c.vocabulary}, {"first", c.first}});
  checker.volume({{"vocabulary", c.vocabulary}, {"columns", c.columns}});
  checker.pointers(some, {{"tokens", c.tokens}, {"d_out", c.d_out}});
  checker.pointers(some && c.vocabulary > 0, {{"d_table", c.d_table}});
  checker.scratch(c);
  return checker.done();
}

Result<void> check(const CrossEntropyForward& c, Side side) {
  Checker checker("cross_entropy_forward", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.sizes({{"first", c.first}});
  checker.stride("ld", c.ld, c.columns);
  checker.volume({{"rows", c.rows}, {"ld", c.ld}});
  checker.pointers(some, {{"logits", c.logits}});
  checker.pointers(c.rows > 0, {{"labels", c.labels},
                                {"maximum", c.maximum},
                                {"sum", c.sum},
                                {"target", c.target}});
  return checker.done();
}

Result<void> check(const CrossEntropyMerge& c, Side side) {
  Checker checker("cross_entropy_merge", side);
  checker.type("dtype", c.dtype);
  checker.sizes({{"rows", c.rows}});
  checker.sizes({{"shards", c.shards}}, 1);
  checker.volume({{"rows", c.rows}, {"shards", c.shards}});
  checker.pointers(c.rows > 0, {{"labels", c.labels},
                                {"maximum", c.maximum},
                                {"sum", c.sum},
                                {"target", c.target},
                                {"lse", c.lse},
                                {"loss", c.loss}});
  return checker.done();
}

Result<void> check(const CrossEntropyBackward& c, Side side) {
  Checker checker("cross_entropy_backward", side);
  const bool some = matrix(checker, c.dtype, c.rows, c.columns);
  checker.sizes({{"first", c.first}});
  checker.stride("ld", c.ld, c.columns);
  checker.volume({{"rows", c.rows}, {"ld", c.ld}});
  checker.finite("scale", c.scale);
  checker.pointers(some, {{"logits", c.logits},
                          {"labels", c.labels},
                          {"lse", c.lse},
                          {"d_logits", c.d_logits}});
  return checker.done();
}

Result<void> check(const AdamW& c, Side side) {
  Checker checker("adamw", side);
  const bool some = elements(checker, c.dtype, c.elements);
  checker.sizes({{"step", c.step}}, 1);
  checker.finite("rate", c.rate);
  checker.finite("decay", c.decay);
  checker.finite("gradient_scale", c.gradient_scale);
  checker.range("beta1", c.beta1, 0, 1);
  checker.range("beta2", c.beta2, 0, 1);
  checker.range("epsilon", c.epsilon, 0, HUGE_VAL);
  checker.pointers(
      some,
      {{"gradient", c.gradient}, {"master", c.master}, {"m", c.m}, {"v", c.v}});
  return checker.done();
}

Result<void> check(const SquareSum& c, Side side) {
  Checker checker("square_sum", side);
  const bool some = elements(checker, c.dtype, c.elements);
  checker.pointers(some, {{"data", c.data}});
  checker.pointers(true, {{"sum", c.sum}});
  checker.scratch(c);
  return checker.done();
}

Result<void> check(const ClipFactor& c, Side side) {
  Checker checker("clip_factor", side);
  checker.type("dtype", c.dtype);
  checker.range("limit", c.limit, 0, HUGE_VAL);
  checker.range("scale", c.scale, 0, HUGE_VAL);
  checker.pointers(true, {{"sum", c.sum}, {"clip", c.clip}});
  return checker.done();
}

Result<void> check(const Cast& c, Side side) {
  Checker checker("cast", side);
  const bool some = elements(checker, c.from, c.elements);
  checker.type("to", c.to);
  checker.finite("scale", c.scale);
  checker.pointers(some, {{"in", c.in}, {"out", c.out}});
  return checker.done();
}

Result<void> check(const CopyBlock& c, Side side) {
  static constexpr std::string_view kSize[] = {"size[0]", "size[1]", "size[2]",
                                               "size[3]"};
  Checker checker("copy_block", side);
  checker.type("dtype", c.dtype);
  bool some = true;
  for (std::size_t i = 0; i < 4; ++i) {
    checker.sizes({{kSize[i], c.size[i]}});
    some = some && c.size[i] > 0;
  }
  if (!some || !checker.good()) return checker.done();
  for (std::size_t i = 0; i < 4; ++i) {
    checker.sizes(
        {{"from_stride", c.from_stride[i]}, {"to_stride", c.to_stride[i]}});
    if (c.size[i] == 1) continue;
    checker.volume({{kSize[i], c.size[i]}, {"from_stride", c.from_stride[i]}});
    checker.volume({{kSize[i], c.size[i]}, {"to_stride", c.to_stride[i]}});
    if (c.to_stride[i] == 0) {
      checker.complain(kSize[i], std::to_string(c.size[i]),
                       "its to_stride is 0: elements would be written twice");
    }
  }
  checker.volume({{kSize[0], c.size[0]},
                  {kSize[1], c.size[1]},
                  {kSize[2], c.size[2]},
                  {kSize[3], c.size[3]}});
  checker.pointers(true, {{"in", c.in}, {"out", c.out}});
  return checker.done();
}

}  // namespace

Result<void> check_call(const Call& call, Side side) {
  return std::visit([&](const auto& c) { return check(c, side); }, call);
}

}  // namespace troupe::kernels
