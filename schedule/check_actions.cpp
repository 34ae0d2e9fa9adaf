#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schedule/check.h"

namespace troupe::schedule {
namespace {

using Shape = std::vector<std::int64_t>;

/// An operator's operands, for one look at a time.
struct Operands {
  const Block& block;
  const Operator& op;

  const Tensor& in(std::size_t i) const { return block.tensors[op.inputs[i]]; }
  const Tensor& out(std::size_t i) const {
    return block.tensors[op.outputs[i]];
  }
};

std::string differ(const Tensor& t, const Shape& wanted) {
  if (t.shape == wanted) return {};
  return fmt::format("'{}' is {} where the action needs {}", t.name,
                     fmt::join(t.shape, "x"), fmt::join(wanted, "x"));
}

std::string role_problem(const Tensor& t, Role wanted) {
  if (t.role == wanted) return {};
  return fmt::format("'{}' is a {} where the action needs a {}", t.name,
                     name_of(t.role), name_of(wanted));
}

std::string first(std::initializer_list<std::string> problems) {
  for (const std::string& p : problems) {
    if (!p.empty()) return p;
  }
  return {};
}

std::string matrix_problem(const Operands& o) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (o.in(i).shape.size() != 2) return "an operand that is no matrix";
  }
  if (o.out(0).shape.size() != 2) return "a result that is no matrix";
  const Shape& a = o.in(0).shape;
  const Shape& b = o.in(1).shape;
  switch (o.op.action) {
    case Action::product:
      return first({role_problem(o.in(1), Role::parameter),
                    differ(o.in(1), {o.out(0).shape[1], a[1]}),
                    differ(o.out(0), {a[0], b[0]})});
    case Action::input_gradient:
      return first({role_problem(o.in(1), Role::parameter),
                    differ(o.in(1), {a[1], o.out(0).shape[1]}),
                    differ(o.out(0), {a[0], b[1]})});
    default:
      return first({role_problem(o.out(0), Role::gradient),
                    differ(o.in(1), {a[0], b[1]}),
                    differ(o.out(0), {b[1], a[1]})});
  }
}

/// Shapes and roles of an action that has as many operands as it needs.
std::string operand_problem(const Operands& o) {
  const auto like = [](const Tensor& a, const Tensor& b) {
    return differ(a, b.shape);
  };
  switch (o.op.action) {
    case Action::product:
    case Action::input_gradient:
    case Action::weight_gradient:
      return matrix_problem(o);
    case Action::norm:
      return first(
          {role_problem(o.in(1), Role::parameter), like(o.out(0), o.in(0))});
    case Action::norm_gradient:
      return first({role_problem(o.in(2), Role::parameter),
                    role_problem(o.out(1), Role::gradient),
                    like(o.in(1), o.in(0)), like(o.out(0), o.in(0))});
    case Action::add:
      return first({like(o.in(1), o.in(0)), like(o.out(0), o.in(0))});
    case Action::rotary:
    case Action::rotary_gradient:
      return o.op.inputs[0] == o.op.outputs[0] ? "" : "is not in place";
    default:
      return {};
  }
}

/// How many operands and results an action needs at least.
std::pair<std::size_t, std::size_t> counts_of(const Operator& op) {
  const bool later = op.round > 0;
  switch (op.action) {
    case Action::none:
    case Action::square_sum:
    case Action::adamw:
      return {0, 0};
    case Action::rotary:
    case Action::rotary_gradient:
    case Action::activation:
    case Action::cross_entropy:
    case Action::merge_loss:
    case Action::ring_shift:
    case Action::ring_shift_gradient:
      return {1, 1};
    case Action::product:
    case Action::input_gradient:
    case Action::weight_gradient:
    case Action::add:
    case Action::embed:
    case Action::embed_gradient:
    case Action::add_positions:
    case Action::activation_gradient:
    case Action::cross_entropy_gradient:
    case Action::ring_home:
      return {2, 1};
    case Action::attention:
      return {1, 2};
    case Action::norm:
      return {2, 2};
    case Action::attention_gradient:
      return {4, 1};
    case Action::norm_gradient:
      return {4, 2};
    case Action::attention_round:
      return {later ? 2 : 1, 3};
    case Action::attention_round_gradient:
      return {later ? 5 : 4, later ? 2 : 1};
  }
  return {0, 0};
}

}  // namespace

std::string action_problem(const Block& block, const Operator& op) {
  const Operands operands{block, op};
  const auto [inputs, outputs] = counts_of(op);
  if (op.inputs.size() < inputs || op.outputs.size() < outputs) {
    return fmt::format("{} operands and {} results; its action needs {} and {}",
                       op.inputs.size(), op.outputs.size(), inputs, outputs);
  }
  return operand_problem(operands);
}

}  // namespace troupe::schedule
