#include "kernels/operator.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace troupe::kernels {
namespace {

// Pointwise FLOPs per element, counted from the usual formulas with a
// transcendental function as one: they only matter beside their traffic.
constexpr double kNormForward = 4;   // square, sum, scale, weight
constexpr double kNormBackward = 8;  // two reductions, input and weight
constexpr double kRotary = 3;        // two products, one sum
constexpr double kActivation = 8;    // tanh GELU
constexpr double kGated = 6;         // sigmoid, two products
constexpr double kCrossEntropy = 4;  // maximum, difference, exp, sum
constexpr double kAdamW = 14;        // two moments, root, quotient, decay

constexpr std::pair<DType, std::string_view> kDTypes[] = {
    {DType::fp32, "fp32"},   {DType::tf32, "tf32"}, {DType::bf16, "bf16"},
    {DType::fp16, "fp16"},   {DType::fp8, "fp8"},   {DType::int32, "int32"},
    {DType::int64, "int64"}, {DType::fp64, "fp64"}};

constexpr std::pair<std::string_view, DType> kOtherSpellings[] = {
    {"float32", DType::fp32}, {"float", DType::fp32}, {"bfloat16", DType::bf16},
    {"float16", DType::fp16}, {"half", DType::fp16},  {"fp8_e4m3", DType::fp8}};

constexpr std::array<std::string_view, kOpKinds> kKindNames = {
    "gemm",
    "attention_forward",
    "attention_backward",
    "norm_forward",
    "norm_backward",
    "rotary",
    "activation_forward",
    "activation_backward",
    "add",
    "embedding_forward",
    "embedding_backward",
    "cross_entropy_forward",
    "cross_entropy_backward",
    "gradient_accumulate",
    "gradient_norm",
    "optimizer",
    "cast",
    "copy"};

double size(const OpShape& op, std::size_t i) {
  return static_cast<double>(op.dim[i]);
}

/// rows x columns of a pointwise kind.
double area(const OpShape& op) { return size(op, 0) * size(op, 1); }

double pairs(const OpShape& op) {
  const double q = size(op, 1);
  const double kv = size(op, 2);
  if (!op.causal) return q * kv;
  return causal_pairs(q, kv, static_cast<double>(op.window));
}

double attention_flops(const OpShape& op) {
  return 4 * size(op, 0) * pairs(op) * size(op, 3) * size(op, 5);
}

/// Q-sized tensors, K-sized tensors and fp32 numbers per query and head.
double attention_traffic(const OpShape& op, double tensors, double numbers) {
  const double queries = size(op, 0) * size(op, 1) * size(op, 3);
  const double keys = size(op, 0) * size(op, 2) * size(op, 4);
  const auto element = static_cast<double>(size_of(op.dtype).v);
  return tensors * (queries + keys) * size(op, 5) * element +
         4 * numbers * queries;
}

double traffic_of(const OpShape& op) {
  const auto s = static_cast<double>(size_of(op.dtype).v);
  switch (op.kind) {
    case OpKind::gemm: {
      const double m = size(op, 1), n = size(op, 2), k = size(op, 3);
      return s * size(op, 0) * (m * k + k * n + m * n);
    }
    case OpKind::attention_forward:
      return attention_traffic(op, 2, 1);
    case OpKind::attention_backward:
      return attention_traffic(op, 4, 2);
    case OpKind::norm_forward:
      return s * (2 * area(op) + size(op, 1));
    case OpKind::norm_backward:
      return s * (3 * area(op) + 2 * size(op, 1));
    case OpKind::rotary:
    case OpKind::copy:
      return s * 2 * area(op);
    case OpKind::activation_forward:
      return s * (op.gated ? 3 : 2) * area(op);
    case OpKind::activation_backward:
      return s * (op.gated ? 5 : 3) * area(op);
    case OpKind::add:
      return s * 3 * area(op);
    case OpKind::embedding_forward:
      return s * 2 * area(op) + 8 * size(op, 0);
    case OpKind::embedding_backward:
      return s * 3 * area(op) + 8 * size(op, 0);
    case OpKind::cross_entropy_forward:
      return s * area(op) + 12 * size(op, 0);
    case OpKind::cross_entropy_backward:
      return s * 2 * area(op) + 12 * size(op, 0);
    case OpKind::gradient_accumulate:
      return (s + 8) * size(op, 0);
    case OpKind::gradient_norm:
      return s * size(op, 0);
    case OpKind::optimizer:
      // Master, two moments read and written, the gradient read, and the
      // working copy written where it is another type than the master.
      return (28 + (op.dtype == DType::fp32 ? 0 : s)) * size(op, 0);
    case OpKind::cast:
      return (s + 4) * area(op);
  }
  return 0;
}

}  // namespace

Bytes size_of(DType type) {
  switch (type) {
    case DType::fp32:
    case DType::tf32:
    case DType::int32:
      return {4};
    case DType::bf16:
    case DType::fp16:
      return {2};
    case DType::fp8:
      return {1};
    case DType::int64:
    case DType::fp64:
      return {8};
  }
  return {};
}

std::string_view name_of(DType type) {
  for (const auto& [value, name] : kDTypes) {
    if (value == type) return name;
  }
  return "?";
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const auto& [value, spelling] : kDTypes) {
    if (spelling == name) return value;
  }
  for (const auto& [spelling, value] : kOtherSpellings) {
    if (spelling == name) return value;
  }
  return {};
}

std::string_view name_of(AttentionKernel kernel) {
  switch (kernel) {
    case AttentionKernel::tuned:
      return "tuned";
    case AttentionKernel::flash1:
      return "flash1";
    case AttentionKernel::flash2:
      return "flash2";
  }
  return "?";
}

std::string_view name_of(OpKind kind) {
  const auto i = static_cast<std::size_t>(kind);
  return i < kKindNames.size() ? kKindNames[i] : "?";
}

std::optional<OpKind> parse_op_kind(std::string_view name) {
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    if (kKindNames[i] == name) return static_cast<OpKind>(i);
  }
  return {};
}

OpShape gemm(std::int64_t m, std::int64_t n, std::int64_t k, DType dtype,
             std::int64_t batch) {
  return {.kind = OpKind::gemm, .dtype = dtype, .dim = {batch, m, n, k}};
}

OpShape rows_by_columns(OpKind kind, std::int64_t rows, std::int64_t columns,
                        DType dtype) {
  return {.kind = kind, .dtype = dtype, .dim = {rows, columns}};
}

double causal_pairs(double q_len, double kv_len, double window) {
  // Queries before the first key see nothing; the diagonal counts half, so
  // that a square gives exactly half.
  const double q = std::min(q_len, kv_len);
  const double before = kv_len - q;
  if (window <= 0 || window >= kv_len) return q * before + q * q / 2;
  const double growing = std::max(window - before, 0.0);
  return growing * before + growing * growing / 2 + (q - growing) * window;
}

Flops flops(const OpShape& op) {
  switch (op.kind) {
    case OpKind::gemm:
      return {2 * size(op, 0) * size(op, 1) * size(op, 2) * size(op, 3)};
    case OpKind::attention_forward:
      return {attention_flops(op)};
    case OpKind::attention_backward:
      return {2.5 * attention_flops(op)};
    case OpKind::norm_forward:
      return {kNormForward * area(op)};
    case OpKind::norm_backward:
      return {kNormBackward * area(op)};
    case OpKind::rotary:
      return {kRotary * area(op)};
    case OpKind::activation_forward:
      return {(op.gated ? kGated : kActivation) * area(op)};
    case OpKind::activation_backward:
      return {2 * (op.gated ? kGated : kActivation) * area(op)};
    case OpKind::add:
    case OpKind::embedding_backward:
      return {area(op)};
    case OpKind::cross_entropy_forward:
    case OpKind::cross_entropy_backward:
      return {kCrossEntropy * area(op)};
    case OpKind::gradient_accumulate:
      return {size(op, 0)};
    case OpKind::gradient_norm:
      return {2 * size(op, 0)};
    case OpKind::optimizer:
      return {kAdamW * size(op, 0)};
    case OpKind::embedding_forward:
    case OpKind::cast:
    case OpKind::copy:
      return {};
  }
  return {};
}

Bytes traffic(const OpShape& op) {
  const double bytes = traffic_of(op);
  // Sizes are limited where they are read; products saturate all the same.
  if (!(bytes < 9.2e18)) return {std::int64_t{9'200'000'000'000'000'000}};
  return {std::llround(bytes)};
}

bool uses_matrix_units(OpKind kind) {
  return kind == OpKind::gemm || kind == OpKind::attention_forward ||
         kind == OpKind::attention_backward;
}

int dimensions(OpKind kind) {
  switch (kind) {
    case OpKind::gemm:
      return 4;
    case OpKind::attention_forward:
    case OpKind::attention_backward:
      return 6;
    case OpKind::embedding_forward:
    case OpKind::embedding_backward:
      return 3;
    case OpKind::norm_forward:
    case OpKind::norm_backward:
    case OpKind::rotary:
    case OpKind::activation_forward:
    case OpKind::activation_backward:
    case OpKind::add:
    case OpKind::cross_entropy_forward:
    case OpKind::cross_entropy_backward:
    case OpKind::cast:
    case OpKind::copy:
      return 2;
    case OpKind::gradient_accumulate:
    case OpKind::gradient_norm:
    case OpKind::optimizer:
      return 1;
  }
  return 0;
}

std::string to_string(const OpShape& op) {
  std::string text(name_of(op.kind));
  text += ' ';
  for (int i = 0; i < dimensions(op.kind); ++i) {
    if (i > 0) text += 'x';
    text += std::to_string(op.dim[static_cast<std::size_t>(i)]);
  }
  text += ' ';
  text += name_of(op.dtype);
  if (op.causal) text += " causal";
  if (op.window > 0) text += " window " + std::to_string(op.window);
  if (op.gated) text += " gated";
  if (op.attention != AttentionKernel::tuned) {
    text += ' ';
    text += name_of(op.attention);
  }
  return text;
}

}  // namespace troupe::kernels
