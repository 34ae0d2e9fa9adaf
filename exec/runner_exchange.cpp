// Collectives inside a block.
#include "exec/runner.h"

namespace troupe::exec {

using clusters::Collective;
using schedule::Action;

Result<void> Interpreter::Runner::exchange(const Frame& f, const Op& op,
                                           Time& time) {
  if (op.action == Action::reduce_gradients) return give_gradients(f, op);
  if (op.scope == schedule::Scope::context) return shift(f, op, time);
  if (op.action == Action::merge_loss) return gather_loss(f, op, time);
  if (op.collective == Collective::all_gather) return gather_rows(f, op, time);
  return reduce_rows(f, op, time);
}

Result<void> Interpreter::Runner::give_gradients(const Frame& f, const Op& op) {
  for (const std::uint16_t t : op.inputs) {
    TRY_DO(weights.give(f.tensor(t), f.layer, f.data[t], communicator_));
  }
  return {};
}

/// All ranks of the phase are here: from now on nobody reads or sends what
/// belongs to what was before. The simulator's steps begin and end so, too.
Result<void> Interpreter::Runner::meet_replicas() {
  if (!program_.shares) return {};
  Time unused;
  return communicator_.meet(everyone(schedule_.ranks.size()), unused);
}

Result<void> Interpreter::Runner::gather_rows(const Frame& f, const Op& op,
                                              Time& time) {
  const std::int64_t columns = f.extent(op.outputs[0], 1);
  const Bytes row = Bytes{size_of_type()} * columns;
  std::vector<Bytes> sizes;
  for (std::int64_t r = 0; r < tp_; ++r) {
    sizes.push_back(row * schedule::row_shard(f.rows->tokens, r, tp_).count());
  }
  const auto count = [](Bytes b) { return static_cast<std::size_t>(b.v); };
  return communicator_.all_gather(
      tensor_group_, {f.data[op.inputs[0]], count(row * f.rows->count)}, sizes,
      {f.data[op.outputs[0]], count(row * f.rows->tokens)}, time);
}

Result<void> Interpreter::Runner::reduce_rows(const Frame& f, const Op& op,
                                              Time& time) {
  const std::int64_t columns = f.extent(op.inputs[0], 1);
  const Bytes row = Bytes{size_of_type()} * columns;
  std::byte* const partial = f.data[op.inputs[0]];
  TRY_DO(communicator_.all_reduce(
      tensor_group_, program_.dtype,
      {partial, static_cast<std::size_t>((row * f.rows->tokens).v)}, time));
  return device_.copy(f.data[op.outputs[0]], partial + (row * f.rows->first).v,
                      row * f.rows->count);
}

Result<void> Interpreter::Runner::gather_loss(const Frame& f, const Op& op,
                                              Time& time) {
  const std::int64_t tokens = f.rows->tokens;
  const Bytes size = kernels::size_of(wide_) * (3 * tokens);
  const auto count = static_cast<std::size_t>(size.v);
  TRY(Buffer all, Buffer::of(device_, size * tp_));
  const std::vector<Bytes> sizes(static_cast<std::size_t>(tp_), size);
  TRY_DO(communicator_.all_gather(
      tensor_group_, {f.data[op.inputs[0]], count}, sizes,
      {all.at({}), count * static_cast<std::size_t>(tp_)}, time));
  return merge_loss(f, all.at({}), tp_, f.data[op.outputs[0]]);
}

}  // namespace troupe::exec
