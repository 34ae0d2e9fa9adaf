#include "profiles/torch_ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;
using Sizes = std::vector<std::int64_t>;

constexpr std::int64_t kMost = std::int64_t{1} << 40;

/// A call with its number format, and what is being made of it.
struct Reading {
  const TorchCall& call;
  int first = 0;    ///< the argument that says the shape
  int flag = -1;    ///< the argument that says whether attention is causal
  int window = -1;  ///< of the tokens before a query's own that it sees
  TorchPart part;

  /// Sizes of an argument; empty when it is no tensor.
  const Sizes& tensor(int i) const {
    static const Sizes none;
    const auto at = static_cast<std::size_t>(i);
    return at < call.sizes.size() ? call.sizes[at] : none;
  }
  std::string_view value(int i) const {
    const auto at = static_cast<std::size_t>(i);
    return i >= 0 && at < call.values.size() ? call.values[at]
                                             : std::string_view();
  }
  std::string_view type(int i) const {
    const auto at = static_cast<std::size_t>(i);
    return at < call.types.size() ? call.types[at] : std::string_view();
  }
};

/// Empty when all is well, else why not.
using Reader = std::string (*)(Reading&);

std::int64_t product(const Sizes& sizes, std::size_t count) {
  std::int64_t result = 1;
  for (std::size_t i = 0; i < count; ++i) {
    if (sizes[i] < 1 || sizes[i] > kMost / result) return 0;
    result *= sizes[i];
  }
  return result;
}
std::int64_t elements(const Sizes& sizes) {
  return product(sizes, sizes.size());
}

constexpr const char* kNoSizes =
    "sizes are missing or zero (record with record_shapes=True)";

std::string make_gemm(Reading& r, std::int64_t batch, std::int64_t m,
                      std::int64_t n, std::int64_t k) {
  if (batch < 1 || m < 1 || n < 1 || k < 1) return kNoSizes;
  r.part.op.kind = OpKind::gemm;
  r.part.op.dim = {batch, m, n, k};
  return {};
}

/// A(.., m, k) B(.., k, n).
std::string product_of(Reading& r, const Sizes& a, const Sizes& b) {
  if (a.size() < 2 || b.size() < 2) return kNoSizes;
  const std::int64_t k = a.back();
  if (b[b.size() - 2] != k) return "the sizes of the product do not fit";
  if (b.size() == 2) {
    return make_gemm(r, 1, product(a, a.size() - 1), b.back(), k);
  }
  if (a.size() != b.size()) return "a product that is broadcast";
  const std::int64_t batch = product(a, a.size() - 2);
  if (batch != product(b, b.size() - 2)) return "a product that is broadcast";
  return make_gemm(r, batch, a[a.size() - 2], b.back(), k);
}

std::string read_mm(Reading& r) {
  return product_of(r, r.tensor(r.first), r.tensor(r.first + 1));
}

std::string read_addmm(Reading& r) {
  if (r.tensor(0).size() > 1) {
    return "adds into an accumulator: another operator than the product";
  }
  return read_mm(r);
}

std::string read_accumulating(Reading&) {
  return "adds into an accumulator: another operator than the product";
}

/// x(.., k), weight(n, k).
std::string read_linear(Reading& r) {
  const Sizes& x = r.tensor(0);
  const Sizes& w = r.tensor(1);
  if (x.size() < 2 || w.size() != 2) return kNoSizes;
  if (x.back() != w[1]) return "the sizes of the product do not fit";
  return make_gemm(r, 1, product(x, x.size() - 1), w[0], w[1]);
}

std::string make_rows(Reading& r, OpKind kind, const Sizes& sizes) {
  if (sizes.empty()) return kNoSizes;
  const std::int64_t rows = product(sizes, sizes.size() - 1);
  if (rows < 1 || sizes.back() < 1) return kNoSizes;
  r.part.op.kind = kind;
  r.part.op.dim = {rows, sizes.back()};
  return {};
}

template <OpKind kind>
std::string read_rows(Reading& r) {
  return make_rows(r, kind, r.tensor(r.first));
}

std::string read_add(Reading& r) {
  const Sizes& a = r.tensor(0);
  if (a.size() < 2 || a != r.tensor(1)) {
    return "an addition of unequal tensors";
  }
  const auto to = torch_dtype(r.type(0)), from = torch_dtype(r.type(1));
  if (to == from) return make_rows(r, OpKind::add, a);
  if (to != DType::fp32) return "an addition of mixed number formats";
  r.part.op.kind = OpKind::gradient_accumulate;
  r.part.op.dtype = *from;
  r.part.op.dim = {elements(a)};
  return r.part.op.dim[0] < 1 ? kNoSizes : "";
}

std::string read_copy(Reading& r) {
  const auto to = torch_dtype(r.type(0)), from = torch_dtype(r.type(1));
  if (!to || !from) return "a copy that does not say its number formats";
  const std::string problem = make_rows(r, OpKind::copy, r.tensor(0));
  if (to != from) r.part.op.kind = OpKind::cast;
  return problem;
}

std::string read_embedding(Reading& r) {
  const Sizes& table = r.tensor(0);
  const std::int64_t rows = elements(r.tensor(1));
  if (table.size() != 2 || r.tensor(1).empty() || rows < 1) return kNoSizes;
  r.part.op.kind = OpKind::embedding_forward;
  r.part.op.dim = {rows, table[1], table[0]};
  return {};
}

std::string read_embedding_backward(Reading& r) {
  std::int64_t vocabulary = 0;
  if (!from_text(r.value(2), vocabulary) || vocabulary < 1) {
    return "the size of the vocabulary is missing";
  }
  const std::string problem =
      make_rows(r, OpKind::embedding_backward, r.tensor(0));
  r.part.op.dim[2] = vocabulary;
  return problem;
}

/// Cross entropy is two calls: the soft-max and the loss.
template <OpKind kind, int part>
std::string read_loss(Reading& r) {
  r.part.part = part;
  r.part.parts = 2;
  return make_rows(r, kind, r.tensor(r.first));
}

std::string read_adam(Reading& r) {
  const auto& list = r.call.list_elements;
  if (list.empty() || list[0] < 1) {
    return "the sizes of the parameters are missing";
  }
  r.part.op.kind = OpKind::optimizer;
  r.part.op.dim = {list[0]};
  return {};
}

std::string make_attention(Reading& r, OpKind kind, bool heads_first) {
  const Sizes& q = r.tensor(r.first);
  const Sizes& k = r.tensor(r.first + 1);
  if (q.size() != 4 || k.size() != 4) {
    return q.size() == 3 ? "sequences of unequal length in one call" : kNoSizes;
  }
  const std::string_view causal = r.value(r.flag);
  if (causal != "True" && causal != "False") {
    return "does not say whether it is causal";
  }
  const std::size_t head = heads_first ? 1 : 2, length = heads_first ? 2 : 1;
  if (q[3] != k[3] || r.tensor(r.first + 2) != k) {
    return "heads of unequal size";
  }
  r.part.op.kind = kind;
  r.part.op.causal = causal == "True";
  if (std::int64_t before = -1;
      from_text(r.value(r.window), before) && before >= 0) {
    if (!r.part.op.causal) return "a window that is not causal";
    r.part.op.window = kernels::effective_window(before + 1, k[length]);
  }
  r.part.op.dim = {q[0], q[length], k[length], q[head], k[head], q[3]};
  return elements(q) < 1 || elements(k) < 1 ? kNoSizes : "";
}

template <OpKind kind, bool heads_first>
std::string read_attention(Reading& r) {
  return make_attention(r, kind, heads_first);
}

struct Entry {
  std::string_view name;
  Reader read;
  int first = 0;
  int flag = -1;
  bool wrapper = false;
  int window = -1;
};

constexpr auto kForward = OpKind::attention_forward;
constexpr auto kBackward = OpKind::attention_backward;
constexpr auto kLoss = OpKind::cross_entropy_forward;
constexpr auto kLossBackward = OpKind::cross_entropy_backward;

/// Argument positions as in PyTorch's native_functions.yaml and in the
/// flash-attn package. Attention backward: its first tensor is the gradient.
constexpr Entry kEntries[] = {
    {"aten::mm", read_mm},
    {"aten::bmm", read_mm},
    {"aten::_scaled_mm", read_mm},
    {"aten::addmm", read_addmm, 1},
    {"aten::baddbmm", read_accumulating},
    {"aten::matmul", read_mm, 0, -1, true},
    {"aten::linear", read_linear, 0, -1, true},
    {"aten::scaled_dot_product_attention", read_attention<kForward, true>, 0, 5,
     true},
    {"aten::_scaled_dot_product_flash_attention",
     read_attention<kForward, true>, 0, 4},
    {"aten::_scaled_dot_product_efficient_attention",
     read_attention<kForward, true>, 0, 6},
    {"aten::_scaled_dot_product_cudnn_attention",
     read_attention<kForward, true>, 0, 6},
    {"aten::_flash_attention_forward", read_attention<kForward, false>, 0, 8,
     false, 11},
    {"flash_attn::_flash_attn_forward", read_attention<kForward, false>, 0, 5,
     false, 6},
    {"aten::_scaled_dot_product_flash_attention_backward",
     read_attention<kBackward, true>, 1, 11},
    {"aten::_scaled_dot_product_efficient_attention_backward",
     read_attention<kBackward, true>, 1, 11},
    {"aten::_scaled_dot_product_cudnn_attention_backward",
     read_attention<kBackward, true>, 1, 14},
    {"aten::_flash_attention_backward", read_attention<kBackward, false>, 1, 11,
     false, 15},
    {"flash_attn::_flash_attn_backward", read_attention<kBackward, false>, 1,
     11, false, 12},
    {"aten::native_layer_norm", read_rows<OpKind::norm_forward>},
    {"aten::native_layer_norm_backward", read_rows<OpKind::norm_backward>},
    {"aten::rms_norm", read_rows<OpKind::norm_forward>},
    {"aten::_fused_rms_norm", read_rows<OpKind::norm_forward>},
    {"aten::_fused_rms_norm_backward", read_rows<OpKind::norm_backward>},
    {"aten::gelu", read_rows<OpKind::activation_forward>},
    {"aten::silu", read_rows<OpKind::activation_forward>},
    {"aten::gelu_backward", read_rows<OpKind::activation_backward>},
    {"aten::silu_backward", read_rows<OpKind::activation_backward>},
    {"aten::add", read_add},
    {"aten::add_", read_add},
    {"aten::copy_", read_copy},
    {"aten::embedding", read_embedding},
    {"aten::embedding_dense_backward", read_embedding_backward},
    {"aten::_log_softmax", read_loss<kLoss, 0>},
    {"aten::nll_loss_forward", read_loss<kLoss, 1>},
    {"aten::_log_softmax_backward_data", read_loss<kLossBackward, 0>},
    {"aten::nll_loss_backward", read_loss<kLossBackward, 1>, 1},
    {"aten::_fused_adam_", read_adam},
    {"aten::_fused_adamw_", read_adam},
};

const Entry* entry_of(std::string_view name) {
  for (const Entry& entry : kEntries) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace

TorchName torch_name(const TorchCall& call) {
  if (call.op) return TorchName::op;
  const Entry* entry = entry_of(call.name);
  if (entry == nullptr) return TorchName::unknown;
  return entry->wrapper ? TorchName::wrapper : TorchName::op;
}

TorchMatch match_torch(const TorchCall& call, std::optional<DType> kernel) {
  if (call.op) return {TorchPart{*call.op}, {}};
  const Entry* entry = entry_of(call.name);
  if (entry == nullptr) return {{}, "no such operator here"};
  if (call.sizes.empty()) return {{}, kNoSizes};
  Reading r{call, entry->first, entry->flag, entry->window, {}};
  const bool adam = entry->read == read_adam;
  auto dtype = torch_dtype(r.type(entry->first));
  if (adam) dtype = DType::fp32;  // the operator is Adam on fp32 weights
  if (entry->read == read_embedding_backward) dtype = torch_dtype(r.type(0));
  if (!dtype) dtype = kernel;
  if (!dtype) return {{}, "does not say its number format"};
  if (*dtype == DType::fp32 && kernel == DType::tf32) dtype = DType::tf32;
  r.part.op.dtype = *dtype;
  std::string problem = entry->read(r);
  if (!problem.empty()) return {{}, std::move(problem)};
  return {r.part, {}};
}

std::optional<DType> torch_dtype(std::string_view type) {
  constexpr std::pair<std::string_view, DType> kTypes[] = {
      {"c10::BFloat16", DType::bf16},
      {"c10::Half", DType::fp16},
      {"float", DType::fp32},
      {"double", DType::fp64},
      {"c10::Float8_e4m3fn", DType::fp8},
      {"c10::Float8_e5m2", DType::fp8},
      {"int", DType::int32},
      {"long int", DType::int64}};
  for (const auto& [name, value] : kTypes) {
    if (name == type) return value;
  }
  return {};
}

std::optional<DType> kernel_dtype(std::string_view kernel) {
  std::string lower(kernel);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  // In this order: half-precision kernels also name the float they sum in.
  // nvjet (cuBLAS since Hopper) has the formats of A, sum and C as letters.
  constexpr std::pair<std::string_view, DType> kMarks[] = {
      {"e4m3", DType::fp8},       {"bfloat16", DType::bf16},
      {"bf16", DType::bf16},      {"nvjet_tst", DType::bf16},
      {"c10::half", DType::fp16}, {"__half", DType::fp16},
      {"half_t", DType::fp16},    {"fp16", DType::fp16},
      {"f16f16", DType::fp16},    {"h16816", DType::fp16},
      {"s16816", DType::fp16},    {"h884", DType::fp16},
      {"s884", DType::fp16},      {"nvjet_hsh", DType::fp16},
      {"tf32", DType::tf32},      {"s1688", DType::tf32},
      {"sgemm", DType::fp32},     {"f32f32", DType::fp32},
      {"<float", DType::fp32},    {"float>", DType::fp32},
      {"float,", DType::fp32}};
  for (const auto& [mark, value] : kMarks) {
    if (lower.find(mark) != std::string::npos) return value;
  }
  return {};
}

}  // namespace troupe::profiles
