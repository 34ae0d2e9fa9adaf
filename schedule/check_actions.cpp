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
  bool counts(std::size_t inputs, std::size_t outputs) const {
    return op.inputs.size() >= inputs && op.outputs.size() >= outputs;
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

}  // namespace

std::string action_problem(const Block& block, const Operator& op) {
  const Operands o{block, op};
  const auto needs = [&](std::size_t inputs, std::size_t outputs) {
    return o.counts(inputs, outputs)
               ? std::string{}
               : fmt::format(
                     "{} operands and {} results, fewer than its "
                     "action needs",
                     op.inputs.size(), op.outputs.size());
  };
  const auto like = [&](const Tensor& a, const Tensor& b) {
    return differ(a, b.shape);
  };
  std::string lack;
  switch (op.action) {
    case Action::none:
    case Action::square_sum:
    case Action::adamw:
      return {};
    case Action::product:
    case Action::input_gradient:
    case Action::weight_gradient:
      lack = needs(2, 1);
      return lack.empty() ? matrix_problem(o) : lack;
    case Action::norm:
      lack = needs(2, 2);
      return lack.empty() ? first({role_problem(o.in(1), Role::parameter),
                                   like(o.out(0), o.in(0))})
                          : lack;
    case Action::norm_gradient:
      lack = needs(4, 2);
      return lack.empty()
                 ? first({role_problem(o.in(2), Role::parameter),
                          role_problem(o.out(1), Role::gradient),
                          like(o.in(1), o.in(0)), like(o.out(0), o.in(0))})
                 : lack;
    case Action::add:
      lack = needs(2, 1);
      return lack.empty()
                 ? first({like(o.in(1), o.in(0)), like(o.out(0), o.in(0))})
                 : lack;
    case Action::rotary:
    case Action::rotary_gradient:
      lack = needs(1, 1);
      return lack.empty() && op.inputs[0] != op.outputs[0] ? "is not in place"
                                                           : lack;
    case Action::embed:
    case Action::embed_gradient:
    case Action::add_positions:
    case Action::activation_gradient:
    case Action::cross_entropy_gradient:
    case Action::ring_home:
      return needs(2, 1);
    case Action::activation:
    case Action::cross_entropy:
    case Action::merge_loss:
    case Action::ring_shift:
    case Action::ring_shift_gradient:
      return needs(1, 1);
    case Action::attention:
      return needs(1, 2);
    case Action::attention_gradient:
      return needs(4, 1);
    case Action::attention_round:
      return needs(op.round > 0 ? 2 : 1, 3);
    case Action::attention_round_gradient:
      return needs(op.round > 0 ? 5 : 4, op.round > 0 ? 2 : 1);
  }
  return {};
}

}  // namespace troupe::schedule
