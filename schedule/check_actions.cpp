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

/// A weight: whole for the step, or gathered for the block.
std::string weight_problem(const Tensor& t) {
  return t.role == Role::gathered ? "" : role_problem(t, Role::parameter);
}

std::string gradient_problem(const Tensor& t) {
  return t.role == Role::scattered ? "" : role_problem(t, Role::gradient);
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
      return first({weight_problem(o.in(1)),
                    differ(o.in(1), {o.out(0).shape[1], a[1]}),
                    differ(o.out(0), {a[0], b[0]})});
    case Action::input_gradient:
      return first({weight_problem(o.in(1)),
                    differ(o.in(1), {a[1], o.out(0).shape[1]}),
                    differ(o.out(0), {a[0], b[1]})});
    default:
      return first({gradient_problem(o.out(0)), differ(o.in(1), {a[0], b[1]}),
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
      return first({weight_problem(o.in(1)), like(o.out(0), o.in(0))});
    case Action::norm_gradient:
      return first({weight_problem(o.in(2)), gradient_problem(o.out(1)),
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
    case Action::gather_weights:
    case Action::reduce_gradients:
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

namespace {

/// What is there of a block's weights and gradients on the way while its
/// operators run, in list order.
struct OnTheWay {
  const Block& block;
  std::vector<int> gathered;  ///< by tensor: the operator, -1, or -2: released
  std::vector<bool> made, reduced;

  std::string gather(std::size_t o, const Operator& op) {
    for (const std::uint16_t t : op.outputs) {
      const Tensor& tensor = block.tensors[t];
      if (tensor.role != Role::gathered) {
        return fmt::format("gathers '{}', which is a {}", tensor.name,
                           name_of(tensor.role));
      }
      if (gathered[t] >= 0) {
        return fmt::format("gathers '{}' a second time", tensor.name);
      }
      gathered[t] = static_cast<int>(o);
    }
    return {};
  }

  std::string read(const Operator& op, const std::vector<bool>& ended) const {
    for (const std::uint16_t t : op.inputs) {
      const Tensor& tensor = block.tensors[t];
      if (tensor.role != Role::gathered) continue;
      if (gathered[t] == -1) {
        return fmt::format("reads weights '{}' that nobody has gathered",
                           tensor.name);
      }
      if (gathered[t] == -2) {
        return fmt::format("reads weights '{}' after their release",
                           tensor.name);
      }
      if (!ended[static_cast<std::size_t>(gathered[t])]) {
        return fmt::format(
            "reads weights '{}' without waiting for their "
            "gather",
            tensor.name);
      }
    }
    return {};
  }

  std::string release(const Operator& op) {
    for (const std::uint16_t t : op.releases) {
      if (gathered[t] < 0) {
        return fmt::format("releases '{}', which is not there",
                           block.tensors[t].name);
      }
      gathered[t] = -2;
    }
    return {};
  }

  std::string reduce(const Operator& op) {
    for (const std::uint16_t t : op.inputs) {
      const Tensor& tensor = block.tensors[t];
      if (tensor.role != Role::scattered) {
        return fmt::format("reduces '{}', which is a {}", tensor.name,
                           name_of(tensor.role));
      }
      if (!made[t] || reduced[t]) {
        return fmt::format("reduces '{}' {}", tensor.name,
                           reduced[t] ? "a second time" : "before it is made");
      }
      reduced[t] = true;
    }
    return {};
  }

  std::string write(const Operator& op) {
    for (const std::uint16_t t : op.outputs) {
      made[t] = true;
      if (reduced[t]) {
        return fmt::format("adds to '{}' after it was reduced",
                           block.tensors[t].name);
      }
    }
    return {};
  }
};

}  // namespace

std::string sharing_problem(const Block& block) {
  const std::size_t tensors = block.tensors.size();
  OnTheWay way{block, std::vector<int>(tensors, -1), std::vector<bool>(tensors),
               std::vector<bool>(tensors)};
  // Operators that have ended before anything later on the compute stream.
  std::vector<bool> ended(block.operators.size());
  for (std::size_t o = 0; o < block.operators.size(); ++o) {
    const Operator& op = block.operators[o];
    for (const std::uint16_t a : op.after) {
      if (op.stream == Stream::compute) ended[a] = true;
    }
    const bool gathers = op.action == Action::gather_weights;
    const bool reduces = op.action == Action::reduce_gradients;
    const std::string problem =
        first({gathers ? way.gather(o, op) : way.read(op, ended),
               reduces ? way.reduce(op) : way.write(op), way.release(op)});
    if (!problem.empty()) {
      return fmt::format("operator {} ('{}') {}", o, op.name, problem);
    }
  }
  for (std::size_t t = 0; t < tensors; ++t) {
    const Tensor& tensor = block.tensors[t];
    if (tensor.role == Role::gathered && way.gathered[t] >= 0) {
      return fmt::format("weights '{}' are gathered and never released",
                         tensor.name);
    }
    if (tensor.role == Role::scattered && way.made[t] && !way.reduced[t]) {
      return fmt::format("gradients '{}' never reach their owners",
                         tensor.name);
    }
  }
  return {};
}

}  // namespace troupe::schedule
