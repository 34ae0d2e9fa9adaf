// What each operator computes, as calls of kernels/call.h on the tensors of
// its block.
#include "exec/runner.h"
#include "exec/weight_layout.h"
#include "strategy/annotation.h"

namespace troupe::exec {

using kernels::DType;
using schedule::Action;

Result<void> Interpreter::Runner::run(kernels::Call call) {
  const Bytes need = kernels::workspace(call);
  if (need > scratch_.size()) {
    TRY(scratch_, Buffer::of(device_, need));
  }
  std::visit(
      [&](auto& c) {
        if constexpr (requires { c.workspace; }) c.workspace = scratch_.data();
      },
      call);
  return device_.run(call);
}

strategy::Span Interpreter::Runner::vocabulary() const {
  return strategy::part_of(schedule_.numerics.vocab, rank_.tp_index, tp_);
}

Result<void> Interpreter::Runner::act(const Frame& f, const Op& op) {
  switch (op.action) {
    case Action::none:
    case Action::square_sum:
    case Action::adamw:
    case Action::gather_weights:
    case Action::reduce_gradients:
    case Action::merge_loss:
    case Action::ring_shift:
    case Action::ring_shift_gradient:
      return {};
    case Action::embed:
    case Action::add_positions:
      return embed(f, op);
    case Action::embed_gradient:
      return embed_gradient(f, op);
    case Action::norm:
      return norm(f, op);
    case Action::norm_gradient:
      return norm_gradient(f, op);
    case Action::product:
      return product(f, op);
    case Action::input_gradient:
      return input_gradient(f, op);
    case Action::weight_gradient:
      return weight_gradient(f, op);
    case Action::rotary:
    case Action::rotary_gradient:
      return rotary(f, op);
    case Action::attention:
      return attention(f, op);
    case Action::attention_gradient:
      return attention_gradient(f, op);
    case Action::attention_round:
      return round(f, op);
    case Action::attention_round_gradient:
      return round_gradient(f, op);
    case Action::ring_home:
      return home(f, op);
    case Action::activation:
    case Action::activation_gradient:
      return activation(f, op);
    case Action::add:
      return add(f, op);
    case Action::cross_entropy:
      return cross_entropy(f, op);
    case Action::cross_entropy_gradient:
      return cross_entropy_gradient(f, op);
  }
  return {};
}

Result<void> Interpreter::Runner::embed(const Frame& f, const Op& op) {
  const bool positions = op.action == Action::add_positions;
  const std::uint16_t out = op.outputs[0];
  kernels::EmbeddingForward call{.dtype = program_.dtype};
  call.rows = positions ? f.rows->shard : f.rows->tokens;
  call.columns = f.extent(out, 1);
  call.vocabulary = f.extent(op.inputs[1], 0);
  call.table = f.data[op.inputs[1]];
  call.out = f.data[out];
  if (positions) {
    TRY_DO(device_.copy(f.data[out], f.data[op.inputs[0]],
                        schedule::size_of(f.tensor(out))));
    call.add = true;
    call.tokens = ints(f.rows->shard_positions);
  } else {
    const auto [first, last] = vocabulary();
    call.first = first;
    call.vocabulary = last - first;
    call.tokens = ints(f.rows->ids);
  }
  return run(call);
}

Result<void> Interpreter::Runner::embed_gradient(const Frame& f, const Op& op) {
  const auto [first, last] = vocabulary();
  kernels::EmbeddingBackward call{.dtype = program_.dtype};
  call.rows = f.rows->tokens;
  call.columns = f.extent(op.outputs[0], 1);
  call.vocabulary = last - first;
  call.first = first;
  call.tokens = ints(f.rows->ids);
  call.d_out = f.data[op.inputs[1]];
  call.d_table = f.data[op.outputs[0]];
  TRY_DO(run(call));
  if (op.outputs.size() < 2) return {};
  call.rows = f.rows->shard;
  call.vocabulary = f.extent(op.outputs[1], 0);
  call.first = 0;
  call.tokens = ints(f.rows->shard_positions);
  call.d_out = f.data[op.inputs[2]];
  call.d_table = f.data[op.outputs[1]];
  return run(call);
}

Result<void> Interpreter::Runner::norm(const Frame& f, const Op& op) {
  const bool rms = schedule_.numerics.rms;
  kernels::NormForward call{.dtype = program_.dtype, .rms = rms};
  call.rows = f.extent(op.inputs[0], 0);
  call.columns = f.extent(op.inputs[0], 1);
  call.epsilon = schedule_.numerics.epsilon;
  call.in = f.data[op.inputs[0]];
  call.weight = f.data[op.inputs[1]];
  call.out = f.data[op.outputs[0]];
  call.rstd = f.data[op.outputs[1]];
  if (!rms) {
    call.bias = f.data[op.inputs[2]];
    call.mean = f.data[op.outputs[2]];
  }
  return run(call);
}

Result<void> Interpreter::Runner::norm_gradient(const Frame& f, const Op& op) {
  const bool rms = schedule_.numerics.rms;
  kernels::NormBackward call{.dtype = program_.dtype, .rms = rms};
  call.rows = f.extent(op.inputs[0], 0);
  call.columns = f.extent(op.inputs[0], 1);
  call.d_out = f.data[op.inputs[0]];
  call.in = f.data[op.inputs[1]];
  call.weight = f.data[op.inputs[2]];
  call.rstd = f.data[op.inputs[3]];
  call.d_in = f.data[op.outputs[0]];
  call.d_weight = f.data[op.outputs[1]];
  if (!rms) {
    call.mean = f.data[op.inputs[4]];
    call.d_bias = f.data[op.outputs[2]];
  }
  return run(call);
}

Result<void> Interpreter::Runner::product(const Frame& f, const Op& op) {
  kernels::Gemm call{.dtype = program_.dtype, .out = program_.dtype};
  call.m = f.extent(op.inputs[0], 0);
  call.k = f.extent(op.inputs[0], 1);
  call.n = f.extent(op.outputs[0], 1);
  call.transpose_b = true;
  call.a = f.data[op.inputs[0]];
  call.b = f.data[op.inputs[1]];
  if (op.inputs.size() > 2 && is_weight(f.tensor(op.inputs[2]).role)) {
    call.bias = f.data[op.inputs[2]];
  }
  call.c = f.data[op.outputs[0]];
  return run(call);
}

Result<void> Interpreter::Runner::input_gradient(const Frame& f, const Op& op) {
  kernels::Gemm call{.dtype = program_.dtype, .out = program_.dtype};
  call.m = f.extent(op.inputs[0], 0);
  call.k = f.extent(op.inputs[0], 1);
  call.n = f.extent(op.outputs[0], 1);
  call.a = f.data[op.inputs[0]];
  call.b = f.data[op.inputs[1]];
  call.c = f.data[op.outputs[0]];
  return run(call);
}

Result<void> Interpreter::Runner::weight_gradient(const Frame& f,
                                                  const Op& op) {
  const std::uint16_t x = op.inputs[0];
  const std::uint16_t d_out = op.inputs[1];
  kernels::Gemm call{.dtype = program_.dtype, .out = wide_};
  call.m = f.extent(d_out, 1);
  call.n = f.extent(x, 1);
  call.k = f.extent(x, 0);
  call.transpose_a = true;
  call.accumulate = true;
  call.a = f.data[d_out];
  call.b = f.data[x];
  call.c = f.data[op.outputs[0]];
  TRY_DO(run(call));
  if (op.outputs.size() < 2) return {};
  const std::uint16_t rows = op.inputs.size() > 2 ? op.inputs[2] : d_out;
  kernels::BiasGradient bias{.dtype = program_.dtype};
  bias.rows = f.extent(rows, 0);
  bias.columns = f.extent(rows, 1);
  bias.d_out = f.data[rows];
  bias.d_bias = f.data[op.outputs[1]];
  return run(bias);
}

Result<void> Interpreter::Runner::rotary(const Frame& f, const Op& op) {
  const Heads h = heads();
  kernels::Rotary call{.dtype = program_.dtype};
  call.tokens = f.rows->tokens;
  call.heads = h.q + h.kv;  // keys follow the queries
  call.head_dim = h.dim;
  call.ld = h.width();
  call.base = schedule_.numerics.rotary_base;
  call.scaling = schedule_.numerics.rotary_scaling;
  call.inverse = op.action == Action::rotary_gradient;
  call.positions = ints(f.rows->positions);
  call.data = f.data[op.outputs[0]];
  return run(call);
}

Result<void> Interpreter::Runner::activation(const Frame& f, const Op& op) {
  const schedule::Numerics& n = schedule_.numerics;
  if (op.action == Action::activation) {
    kernels::ActivationForward call{
        .dtype = program_.dtype, .function = n.activation, .gated = n.gated};
    call.rows = f.extent(op.outputs[0], 0);
    call.columns = f.extent(op.outputs[0], 1);
    call.in = f.data[op.inputs[0]];
    call.out = f.data[op.outputs[0]];
    return run(call);
  }
  kernels::ActivationBackward call{
      .dtype = program_.dtype, .function = n.activation, .gated = n.gated};
  call.rows = f.extent(op.inputs[0], 0);
  call.columns = f.extent(op.inputs[0], 1);
  call.d_out = f.data[op.inputs[0]];
  call.in = f.data[op.inputs[1]];
  call.d_in = f.data[op.outputs[0]];
  return run(call);
}

Result<void> Interpreter::Runner::add(const Frame& f, const Op& op) {
  const std::uint16_t out = op.outputs[0];
  kernels::Add call{.dtype = program_.dtype};
  call.elements = f.extent(out, 0) * f.extent(out, 1);
  call.a = f.data[op.inputs[0]];
  call.b = f.data[op.inputs[1]];
  call.out = f.data[out];
  TRY_DO(run(call));
  if (op.inputs.size() < 3 || !is_weight(f.tensor(op.inputs[2]).role)) {
    return {};
  }
  kernels::BiasAdd bias{.dtype = program_.dtype};
  bias.rows = f.extent(out, 0);
  bias.columns = f.extent(out, 1);
  bias.bias = f.data[op.inputs[2]];
  bias.data = f.data[out];
  return run(bias);
}

Result<void> Interpreter::Runner::cross_entropy(const Frame& f, const Op& op) {
  const auto [first, last] = vocabulary();
  const std::int64_t row = (kernels::size_of(wide_) * f.rows->tokens).v;
  std::byte* const shares = f.data[op.outputs[0]];
  kernels::CrossEntropyForward call{.dtype = program_.dtype};
  call.rows = f.rows->tokens;
  call.columns = last - first;
  call.first = first;
  call.ld = f.extent(op.inputs[0], 1);
  call.logits = f.data[op.inputs[0]];
  call.labels = ints(f.rows->labels);
  call.maximum = shares;
  call.sum = shares + row;
  call.target = shares + 2 * row;
  TRY_DO(run(call));
  if (op.outputs.size() < 2) return {};
  return merge_loss(f, shares, 1, f.data[op.outputs[1]]);
}

Result<void> Interpreter::Runner::merge_loss(const Frame& f,
                                             const std::byte* shares,
                                             std::int64_t count,
                                             std::byte* loss) {
  const std::int64_t tokens = f.rows->tokens;
  const std::int64_t row = (kernels::size_of(wide_) * tokens).v;
  // From (shard, kind, token) to (kind, shard, token).
  TRY(Buffer turned, Buffer::of(device_, Bytes{3 * count * row}));
  kernels::CopyBlock turn{.dtype = wide_};
  turn.size = {1, count, 3, tokens};
  turn.from_stride = {0, 3 * tokens, tokens, 1};
  turn.to_stride = {0, tokens, count * tokens, 1};
  turn.in = shares;
  turn.out = turned.data();
  TRY_DO(run(turn));
  kernels::CrossEntropyMerge call{.dtype = wide_};
  call.rows = tokens;
  call.shards = count;
  call.labels = ints(f.rows->labels);
  call.maximum = turned.at({});
  call.sum = turned.at(Bytes{count * row});
  call.target = turned.at(Bytes{2 * count * row});
  call.lse = loss;
  call.loss = loss + row;
  TRY_DO(run(call));
  if (tp_index_ != 0) return {};
  // Every rank of the member has the same losses: the first one counts them.
  TRY(Buffer wide, Buffer::of(device_, Bytes{8 * tokens}));
  kernels::Cast cast{.from = wide_, .to = DType::fp64, .elements = tokens};
  cast.in = call.loss;
  cast.out = wide.data();
  TRY_DO(run(cast));
  std::vector<double> losses(static_cast<std::size_t>(tokens));
  TRY_DO(
      device_.copy_out(std::as_writable_bytes(std::span(losses)), wide.data()));
  for (const double l : losses) loss_sum_ += l;
  return {};
}

Result<void> Interpreter::Runner::cross_entropy_gradient(const Frame& f,
                                                         const Op& op) {
  const auto [first, last] = vocabulary();
  kernels::CrossEntropyBackward call{.dtype = program_.dtype};
  call.rows = f.rows->tokens;
  call.columns = last - first;
  call.first = first;
  call.ld = f.extent(op.inputs[0], 1);
  call.scale = loss_scale_;
  call.logits = f.data[op.inputs[0]];
  call.labels = ints(f.rows->labels);
  call.lse = f.data[op.inputs[1]];
  call.d_logits = f.data[op.outputs[0]];
  return run(call);
}

}  // namespace troupe::exec
