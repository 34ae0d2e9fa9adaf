#include "measure/operands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/match.h"

namespace troupe::measure {
namespace {

using kernels::Call;
using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;
using kernels::statistics_type;

// Random contents repeat after so many elements: making gigabytes of them
// would take longer than measuring.
constexpr std::size_t kPattern = std::size_t{1} << 20;

/// Collects a call's operands.
template <typename C>
class Plan {
 public:
  explicit Plan(C call) : call_(std::move(call)) {}

  template <typename P>
  Plan& array(P C::* member, std::int64_t elements, DType dtype,
              Fill fill = Fill::normal, std::int64_t limit = 0) {
    Operand operand{kernels::size_of(dtype) * elements, dtype, fill, limit, {}};
    operand.bind = [member](Call& call, void* data) {
      std::get<C>(call).*member = static_cast<P>(data);
    };
    operands_.push_back(std::move(operand));
    return *this;
  }
  Plan& workspace() {
    const Bytes size = kernels::workspace(Call{call_});
    return array(&C::workspace, size.v / 4 + 1, DType::fp32, Fill::zeros);
  }
  Plan& operand(Operand operand) {
    operands_.push_back(std::move(operand));
    return *this;
  }
  CallPlan done() { return {Call{std::move(call_)}, std::move(operands_)}; }

 private:
  C call_;
  std::vector<Operand> operands_;
};

CallPlan plan_gemm(const Wanted& wanted) {
  const OpShape& op = wanted.op;
  kernels::Gemm c{.dtype = op.dtype,
                  .out = op.dtype,
                  .m = op.dim[1],
                  .n = op.dim[2],
                  .k = op.dim[3],
                  .batch = op.dim[0]};
  switch (wanted.product) {
    case Product::forward:
      c.transpose_b = true;
      break;
    case Product::input_gradient:
      break;
    case Product::weight_gradient:
      c.transpose_a = true;
      c.out = statistics_type(op.dtype);
      c.accumulate = true;
      break;
  }
  return Plan(c)
      .array(&kernels::Gemm::a, c.batch * c.m * c.k, c.dtype)
      .array(&kernels::Gemm::b, c.batch * c.k * c.n, c.dtype)
      .array(&kernels::Gemm::c, c.batch * c.m * c.n, c.out, Fill::zeros)
      .done();
}

kernels::AttentionSizes attention_sizes(const OpShape& op) {
  kernels::AttentionSizes s;
  s.sequences = op.dim[0];
  s.max_q = op.dim[1];
  s.max_kv = op.dim[2];
  s.q_tokens = s.sequences * s.max_q;
  s.kv_tokens = s.sequences * s.max_kv;
  s.heads = op.dim[3];
  s.kv_heads = op.dim[4];
  s.head_dim = op.dim[5];
  s.causal = op.causal;
  s.window = op.window;
  s.uniform = true;
  return s;
}

template <typename C>
void add_starts(Plan<C>& plan, const kernels::AttentionSizes& s) {
  const Bytes size = kernels::size_of(DType::int32) * (s.sequences + 1);
  plan.operand(
      {size, DType::int32, Fill::starts, s.max_q, [](Call& call, void* data) {
         std::get<C>(call).sizes.q_starts =
             static_cast<const std::int32_t*>(data);
       }});
  plan.operand(
      {size, DType::int32, Fill::starts, s.max_kv, [](Call& call, void* data) {
         std::get<C>(call).sizes.kv_starts =
             static_cast<const std::int32_t*>(data);
       }});
}

CallPlan plan_attention(const OpShape& op) {
  using C = kernels::AttentionForward;
  const C c{.dtype = op.dtype, .sizes = attention_sizes(op)};
  const auto& s = c.sizes;
  const std::int64_t q = s.q_tokens * s.heads * s.head_dim;
  const std::int64_t kv = s.kv_tokens * s.kv_heads * s.head_dim;
  Plan<C> plan(c);
  add_starts(plan, s);
  return plan.array(&C::q, q, c.dtype)
      .array(&C::k, kv, c.dtype)
      .array(&C::v, kv, c.dtype)
      .array(&C::out, q, c.dtype, Fill::zeros)
      .array(&C::lse, s.q_tokens * s.heads, statistics_type(c.dtype),
             Fill::zeros)
      .done();
}

CallPlan plan_attention_backward(const OpShape& op) {
  using C = kernels::AttentionBackward;
  const C c{.dtype = op.dtype, .sizes = attention_sizes(op)};
  const auto& s = c.sizes;
  const std::int64_t q = s.q_tokens * s.heads * s.head_dim;
  const std::int64_t kv = s.kv_tokens * s.kv_heads * s.head_dim;
  Plan<C> plan(c);
  add_starts(plan, s);
  return plan.array(&C::q, q, c.dtype)
      .array(&C::k, kv, c.dtype)
      .array(&C::v, kv, c.dtype)
      .array(&C::out, q, c.dtype)
      .array(&C::lse, s.q_tokens * s.heads, statistics_type(c.dtype),
             Fill::zeros)
      .array(&C::d_out, q, c.dtype)
      .array(&C::dq, q, c.dtype, Fill::zeros)
      .array(&C::dk, kv, c.dtype, Fill::zeros)
      .array(&C::dv, kv, c.dtype, Fill::zeros)
      .workspace()
      .done();
}

CallPlan plan_norm(const OpShape& op) {
  using C = kernels::NormForward;
  const C c{.dtype = op.dtype, .rows = op.dim[0], .columns = op.dim[1]};
  const DType s = statistics_type(op.dtype);
  return Plan(c)
      .array(&C::in, c.rows * c.columns, c.dtype)
      .array(&C::weight, c.columns, c.dtype, Fill::ones)
      .array(&C::out, c.rows * c.columns, c.dtype, Fill::zeros)
      .array(&C::mean, c.rows, s, Fill::zeros)
      .array(&C::rstd, c.rows, s, Fill::zeros)
      .done();
}

CallPlan plan_norm_backward(const OpShape& op) {
  using C = kernels::NormBackward;
  const C c{.dtype = op.dtype, .rows = op.dim[0], .columns = op.dim[1]};
  const DType s = statistics_type(op.dtype);
  return Plan(c)
      .array(&C::in, c.rows * c.columns, c.dtype)
      .array(&C::weight, c.columns, c.dtype, Fill::ones)
      .array(&C::mean, c.rows, s, Fill::zeros)
      .array(&C::rstd, c.rows, s, Fill::ones)
      .array(&C::d_out, c.rows * c.columns, c.dtype)
      .array(&C::d_in, c.rows * c.columns, c.dtype, Fill::zeros)
      .array(&C::d_weight, c.columns, s, Fill::zeros)
      .workspace()
      .done();
}

CallPlan plan_rotary(const OpShape& op) {
  using C = kernels::Rotary;
  C c{.dtype = op.dtype, .tokens = op.dim[0]};
  c.head_dim = op.dim[1];
  for (const std::int64_t d : {128, 64, 104, 80, 96}) {
    if (op.dim[1] % d != 0) continue;
    c.head_dim = d;
    break;
  }
  c.heads = op.dim[1] / c.head_dim;
  return Plan(c)
      .array(&C::positions, c.tokens, DType::int32, Fill::positions, c.tokens)
      .array(&C::data, c.tokens * op.dim[1], c.dtype)
      .done();
}

CallPlan plan_activation(const OpShape& op) {
  using C = kernels::ActivationForward;
  const C c{.dtype = op.dtype,
            .function =
                op.gated ? kernels::Pointwise::silu : kernels::Pointwise::gelu,
            .gated = op.gated,
            .rows = op.dim[0],
            .columns = op.dim[1]};
  const std::int64_t area = c.rows * c.columns;
  return Plan(c)
      .array(&C::in, (c.gated ? 2 : 1) * area, c.dtype)
      .array(&C::out, area, c.dtype, Fill::zeros)
      .done();
}

CallPlan plan_activation_backward(const OpShape& op) {
  using C = kernels::ActivationBackward;
  const C c{.dtype = op.dtype,
            .function =
                op.gated ? kernels::Pointwise::silu : kernels::Pointwise::gelu,
            .gated = op.gated,
            .rows = op.dim[0],
            .columns = op.dim[1]};
  const std::int64_t area = c.rows * c.columns;
  const std::int64_t inputs = c.gated ? 2 : 1;
  return Plan(c)
      .array(&C::in, inputs * area, c.dtype)
      .array(&C::d_out, area, c.dtype)
      .array(&C::d_in, inputs * area, c.dtype, Fill::zeros)
      .done();
}

CallPlan plan_add(const OpShape& op) {
  using C = kernels::Add;
  const C c{.dtype = op.dtype, .elements = op.dim[0] * op.dim[1]};
  return Plan(c)
      .array(&C::a, c.elements, c.dtype)
      .array(&C::b, c.elements, c.dtype)
      .array(&C::out, c.elements, c.dtype, Fill::zeros)
      .done();
}

CallPlan plan_embedding(const OpShape& op) {
  using C = kernels::EmbeddingForward;
  const C c{.dtype = op.dtype,
            .rows = op.dim[0],
            .columns = op.dim[1],
            .vocabulary = op.dim[2]};
  return Plan(c)
      .array(&C::tokens, c.rows, DType::int32, Fill::tokens, c.vocabulary)
      .array(&C::table, c.vocabulary * c.columns, c.dtype)
      .array(&C::out, c.rows * c.columns, c.dtype, Fill::zeros)
      .done();
}

CallPlan plan_embedding_backward(const OpShape& op) {
  using C = kernels::EmbeddingBackward;
  const C c{.dtype = op.dtype,
            .rows = op.dim[0],
            .columns = op.dim[1],
            .vocabulary = op.dim[2]};
  return Plan(c)
      .array(&C::tokens, c.rows, DType::int32, Fill::tokens, c.vocabulary)
      .array(&C::d_out, c.rows * c.columns, c.dtype)
      .array(&C::d_table, c.vocabulary * c.columns, statistics_type(c.dtype),
             Fill::zeros)
      .workspace()
      .done();
}

CallPlan plan_cross_entropy(const OpShape& op) {
  using C = kernels::CrossEntropyForward;
  const C c{.dtype = op.dtype, .rows = op.dim[0], .columns = op.dim[1]};
  const DType s = statistics_type(op.dtype);
  return Plan(c)
      .array(&C::logits, c.rows * c.columns, c.dtype)
      .array(&C::labels, c.rows, DType::int32, Fill::tokens, c.columns)
      .array(&C::maximum, c.rows, s, Fill::zeros)
      .array(&C::sum, c.rows, s, Fill::zeros)
      .array(&C::target, c.rows, s, Fill::zeros)
      .done();
}

CallPlan plan_cross_entropy_backward(const OpShape& op) {
  using C = kernels::CrossEntropyBackward;
  const C c{.dtype = op.dtype, .rows = op.dim[0], .columns = op.dim[1]};
  return Plan(c)
      .array(&C::logits, c.rows * c.columns, c.dtype)
      .array(&C::labels, c.rows, DType::int32, Fill::tokens, c.columns)
      .array(&C::lse, c.rows, statistics_type(op.dtype), Fill::ones)
      .array(&C::d_logits, c.rows * c.columns, c.dtype, Fill::zeros)
      .done();
}

CallPlan plan_optimizer(const OpShape& op) {
  using C = kernels::AdamW;
  const C c{.dtype = op.dtype, .elements = op.dim[0], .rate = 1e-6};
  const DType s = statistics_type(op.dtype);
  Plan<C> plan(c);
  plan.array(&C::gradient, c.elements, s)
      .array(&C::master, c.elements, s)
      .array(&C::m, c.elements, s, Fill::zeros)
      .array(&C::v, c.elements, s, Fill::ones);
  if (op.dtype != s) plan.array(&C::copy, c.elements, op.dtype, Fill::zeros);
  return plan.done();
}

CallPlan plan_square_sum(const OpShape& op) {
  using C = kernels::SquareSum;
  const C c{.dtype = op.dtype, .elements = op.dim[0]};
  return Plan(c)
      .array(&C::data, c.elements, c.dtype)
      .array(&C::sum, 1, DType::fp64, Fill::zeros)
      .workspace()
      .done();
}

CallPlan plan_cast(std::int64_t elements, DType from, DType to,
                   bool accumulate) {
  using C = kernels::Cast;
  const C c{
      .from = from, .to = to, .elements = elements, .accumulate = accumulate};
  return Plan(c)
      .array(&C::in, elements, from)
      .array(&C::out, elements, to, Fill::zeros)
      .done();
}

CallPlan plan_copy(const OpShape& op) {
  using C = kernels::CopyBlock;
  const std::int64_t rows = op.dim[0];
  const std::int64_t columns = op.dim[1];
  C c{.dtype = op.dtype, .size = {1, 1, rows, columns}};
  c.from_stride = {0, 0, columns, 1};
  c.to_stride = c.from_stride;
  return Plan(c)
      .array(&C::in, rows * columns, c.dtype)
      .array(&C::out, rows * columns, c.dtype, Fill::zeros)
      .done();
}

CallPlan plan_of(const Wanted& wanted) {
  const OpShape& op = wanted.op;
  switch (op.kind) {
    case OpKind::gemm:
      return plan_gemm(wanted);
    case OpKind::attention_forward:
      return plan_attention(op);
    case OpKind::attention_backward:
      return plan_attention_backward(op);
    case OpKind::norm_forward:
      return plan_norm(op);
    case OpKind::norm_backward:
      return plan_norm_backward(op);
    case OpKind::rotary:
      return plan_rotary(op);
    case OpKind::activation_forward:
      return plan_activation(op);
    case OpKind::activation_backward:
      return plan_activation_backward(op);
    case OpKind::add:
      return plan_add(op);
    case OpKind::embedding_forward:
      return plan_embedding(op);
    case OpKind::embedding_backward:
      return plan_embedding_backward(op);
    case OpKind::cross_entropy_forward:
      return plan_cross_entropy(op);
    case OpKind::cross_entropy_backward:
      return plan_cross_entropy_backward(op);
    case OpKind::gradient_accumulate:
      return plan_cast(op.dim[0], op.dtype, statistics_type(op.dtype), true);
    case OpKind::gradient_norm:
      return plan_square_sum(op);
    case OpKind::optimizer:
      return plan_optimizer(op);
    case OpKind::cast:
      return plan_cast(op.dim[0] * op.dim[1], statistics_type(op.dtype),
                       op.dtype, false);
    case OpKind::copy:
      return plan_copy(op);
  }
  return {};
}

/// The element of `fill` at `i`, as a number.
double number(Fill fill, std::int64_t limit, std::size_t i,
              std::mt19937_64& random) {
  switch (fill) {
    case Fill::normal: {
      // Four uniforms from one draw: close enough to a bell.
      double sum = -2;
      const std::uint64_t bits = random();
      for (int part = 0; part < 4; ++part) {
        sum += static_cast<double>((bits >> (16 * part)) & 0xffff) / 65535.0;
      }
      return sum * 1.7320508075688772;
    }
    case Fill::ones:
      return 1;
    case Fill::zeros:
      return 0;
    case Fill::tokens:
      return static_cast<double>(random() % static_cast<std::uint64_t>(limit));
    case Fill::positions:
      return static_cast<double>(static_cast<std::int64_t>(i) % limit);
    case Fill::starts:
      return static_cast<double>(static_cast<std::int64_t>(i) * limit);
  }
  return 0;
}

template <typename T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

void put_number(std::byte* at, DType dtype, double value) {
  switch (dtype) {
    case DType::fp64:
      return put(at, value);
    case DType::bf16: {
      // Round to nearest even on the upper half of the float.
      std::uint32_t bits = 0;
      const auto single = static_cast<float>(value);
      std::memcpy(&bits, &single, sizeof bits);
      bits += 0x7fff + ((bits >> 16) & 1);
      return put(at, static_cast<std::uint16_t>(bits >> 16));
    }
    case DType::int32:
      return put(at, static_cast<std::int32_t>(value));
    case DType::int64:
      return put(at, static_cast<std::int64_t>(value));
    case DType::fp32:
    case DType::tf32:
      return put(at, static_cast<float>(value));
    case DType::fp16:
    case DType::fp8:
      check(false, "operands of a type without bodies");
  }
}

}  // namespace

Bytes CallPlan::size() const {
  Bytes sum;
  for (const Operand& operand : operands) sum += operand.size;
  return sum;
}

Result<CallPlan> plan_call(const Wanted& wanted) {
  const OpShape& op = wanted.op;
  const bool body = op.dtype == DType::bf16 || op.dtype == DType::fp32 ||
                    op.dtype == DType::fp64;
  if (!body) {
    return fail(Fault::input,
                fmt::format("{}: operators have bodies in bf16, fp32 and "
                            "fp64, not in {}",
                            to_string(op), name_of(op.dtype)));
  }
  for (int i = 0; i < kernels::dimensions(op.kind); ++i) {
    if (op.dim[static_cast<std::size_t>(i)] < 1) {
      return fail(Fault::input, fmt::format("{}: expected sizes of at least 1",
                                            to_string(op)));
    }
  }
  return plan_of(wanted);
}

std::vector<std::byte> contents(const Operand& operand, std::uint64_t seed) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(operand.size.v));
  if (operand.fill == Fill::zeros) return bytes;
  const auto element =
      static_cast<std::size_t>(kernels::size_of(operand.dtype).v);
  const std::size_t count = bytes.size() / element;
  const bool repeats =
      operand.fill == Fill::normal || operand.fill == Fill::ones;
  const std::size_t made = repeats ? std::min(count, kPattern) : count;
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < made; ++i) {
    put_number(bytes.data() + i * element, operand.dtype,
               number(operand.fill, operand.limit, i, random));
  }
  for (std::size_t at = made * element; at < bytes.size();
       at += made * element) {
    const std::size_t length = std::min(made * element, bytes.size() - at);
    std::memcpy(bytes.data() + at, bytes.data(), length);
  }
  return bytes;
}

}  // namespace troupe::measure
