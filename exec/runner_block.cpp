// Blocks: memory for their tensors, operators in order, virtual time.
#include <fmt/format.h>

#include <algorithm>

#include "exec/runner.h"

namespace troupe::exec {

using schedule::Role;
using schedule::Scope;
using schedule::Task;
using schedule::TaskKind;

std::vector<Interpreter::Runner::Layer> Interpreter::Runner::layers_of(
    TaskId id) const {
  const Task& task = schedule_.tasks[id.at()];
  const auto& runs =
      schedule_.bodies[static_cast<std::size_t>(task.what)].of(member_);
  const std::vector<BlockTimes>* const times =
      prices_ == nullptr ? nullptr : &prices_->runs(id, member_);
  std::vector<Layer> out;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const schedule::BlockRun& run = runs[i];
    for (int c = 0; c < run.count; ++c) {
      const bool back = task.kind != TaskKind::forward;
      const int layer = run.first_layer < 0 ? run.first_layer
                        : back ? run.first_layer + run.count - 1 - c
                               : run.first_layer + c;
      out.push_back({run.block, &schedule_.block(run.block),
                     times == nullptr ? nullptr : &(*times)[i], layer});
    }
  }
  return out;
}

Result<Buffer> Interpreter::Runner::run_layers(TaskId id,
                                               std::vector<Layer>& layers,
                                               Buffer input, const Rows& rows) {
  if (!layers.empty()) TRY_DO(prefetch(layers[0], id, {}));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    clock_.begin_block(layers[i].block->operators.size());
    if (i + 1 < layers.size()) {
      TRY_DO(prefetch(layers[i + 1], id, clock_.block_end()));
    }
    TRY_DO(run_block(layers[i], id, rows, input));
    clock_.end_block();
  }
  return input;
}

/// By the price list and what deviates from it.
Time Interpreter::Runner::time_of(const Layer& layer, std::size_t o,
                                  TaskId id) const {
  const auto device = [&](RankId rank) { return schedule_.rank(rank).device; };
  return schedule::disturbed(prices_->disturbance,
                             {prices_->phase, id, layer.layer, o, device(self_),
                              device(tensor_group_[0])},
                             layer.block->operators[o],
                             layer.times->operators[o]);
}

Time Interpreter::Runner::pass_operator(const Layer& layer, std::size_t o,
                                        TaskId id, Time ready) {
  const Op& op = layer.block->operators[o];
  const Time time = time_of(layer, o, id);
  const Time end = clock_.finish(o, op, ready, time);
  if (keeps_operators) {
    operators.push_back({id, layer.layer, static_cast<std::uint16_t>(o),
                         layer.times->block, base_ + ready, base_ + end,
                         step_part});
  }
  return end;
}

/// Brings the weights of an operator's results together.
Result<void> Interpreter::Runner::gather(Layer& layer, const Op& op) {
  layer.gathered.resize(layer.block->tensors.size());
  for (const std::uint16_t t : op.outputs) {
    TRY(layer.gathered[t],
        weights.gathered(layer.block->tensors[t], layer.layer, communicator_));
  }
  return {};
}

Result<void> Interpreter::Runner::prefetch(Layer& layer, TaskId id,
                                           Time not_before) {
  const auto& ops = layer.block->operators;
  clock_.begin_prefetch(ops.size());
  for (std::size_t o = 0; o < ops.size(); ++o) {
    if (!ops[o].prefetch) continue;
    if (ops[o].action == schedule::Action::gather_weights) {
      TRY_DO(gather(layer, ops[o]));
    }
    if (prices_ == nullptr) continue;
    clock_.hold(ops[o].stream, not_before);
    pass_operator(layer, o, id, clock_.ready(ops[o]));
  }
  clock_.end_prefetch();
  return {};
}

/// Parameters and gradients of a block's tensors; null for other tensors.
const std::vector<std::byte*>& Interpreter::Runner::weights_of(
    const Layer& layer) {
  const auto [it, fresh] = bound_.try_emplace({layer.id.v, layer.layer});
  if (fresh) {
    for (const schedule::Tensor& t : layer.block->tensors) {
      it->second.push_back(
          t.role == Role::parameter  ? weights.parameter(layer.layer, t.name)
          : t.role == Role::gradient ? weights.gradient(layer.layer, t.name)
                                     : nullptr);
    }
  }
  return it->second;
}

/// Where the tensors of a block lie: parameters and saved tensors where they
/// live, the input as it came, all else in new memory.
Result<std::vector<std::byte*>> Interpreter::Runner::memory_of(
    const Layer& layer, TaskId id, const Rows& rows, Buffer& input,
    Buffer& output, Buffer& temporaries) {
  const Task& task = schedule_.tasks[id.at()];
  const schedule::Block& block = *layer.block;
  const BlockMemory& memory = program_.memory[layer.id.at()];
  Saved& saved = saved_[{task.micro_batch, layer.layer}];
  std::vector<std::byte*> data = weights_of(layer);
  TRY(temporaries, Buffer::of(device_, memory.temporaries));
  if (block.output >= 0) {
    const auto& out = block.tensors[static_cast<std::size_t>(block.output)];
    TRY(output, Buffer::scratch(device_, schedule::size_of(out)));
  }
  std::byte* fresh = nullptr;  // for what this block saves
  for (std::size_t t = 0; t < data.size(); ++t) {
    const schedule::Tensor& tensor = block.tensors[t];
    if (data[t] != nullptr) continue;
    if (tensor.role == Role::gathered) {
      if (t < layer.gathered.size() && layer.gathered[t]) {
        data[t] = layer.gathered[t].at({});
      }
      continue;
    }
    if (tensor.dtype == kernels::DType::int32) {
      data[t] = rows.ids.at({});
    } else if (static_cast<int>(t) == block.output) {
      data[t] = output.at({});
    } else if (static_cast<int>(t) == block.input) {
      data[t] = input.at({});
      if (tensor.role != Role::saved) continue;
      saved.tensors.emplace_back(memory.name[t], data[t]);
      saved.memory.push_back(std::move(input));
    } else if (memory.temporary[t] >= 0) {
      data[t] = temporaries.at(Bytes{memory.temporary[t]});
    } else if (memory.saved[t] >= 0) {
      data[t] =
          task.kind == TaskKind::forward ? nullptr : saved.find(memory.name[t]);
      if (data[t] != nullptr) continue;
      if (fresh == nullptr) {
        TRY(Buffer kept, Buffer::scratch(device_, memory.kept));
        fresh = kept.at({});
        saved.memory.push_back(std::move(kept));
      }
      data[t] = fresh + memory.saved[t];
      saved.tensors.emplace_back(memory.name[t], data[t]);
    }
  }
  return data;
}

Result<void> Interpreter::Runner::run_block(Layer& layer, TaskId id,
                                            const Rows& rows, Buffer& carried) {
  const Task& task = schedule_.tasks[id.at()];
  Frame frame{layer.block, layer.layer, &rows, {}};
  Buffer output;
  Buffer temporaries;
  TRY(frame.data, memory_of(layer, id, rows, carried, output, temporaries));
  TRY_DO(run_operators(layer, frame, id));
  carried = std::move(output);
  // A layer whose weight gradients are a task of their own waits for it.
  const bool done = task.kind == TaskKind::backward ||
                    task.kind == TaskKind::backward_weight ||
                    (task.kind == TaskKind::backward_input && layer.layer < 0);
  if (done) saved_.erase({task.micro_batch, layer.layer});
  return {};
}

namespace {

std::string where(const schedule::Block& block, int layer,
                  const schedule::Operator& op) {
  return fmt::format("block '{}' of layer {}, operator '{}'", block.name, layer,
                     op.name);
}

}  // namespace

/// Gathered weights are gone after their release: an operator that reads them
/// without a gather stops the run.
Result<void> Interpreter::Runner::run_operators(Layer& layer, Frame& frame,
                                                TaskId id) {
  const schedule::Block& block = *layer.block;
  for (std::size_t o = 0; o < block.operators.size(); ++o) {
    const Op& op = block.operators[o];
    if (op.prefetch) continue;
    for (const std::uint16_t t : op.inputs) {
      if (frame.data[t] != nullptr || frame.tensor(t).role != Role::gathered) {
        continue;
      }
      return fail(
          Fault::input,
          fmt::format("{}: weights '{}' are not here: nobody has "
                      "gathered them, or they were released",
                      where(block, layer.layer, op), frame.tensor(t).name));
    }
    TRY_DO(run_operator(layer, o, frame, id));
    for (const std::uint16_t t : op.releases) {
      if (t < layer.gathered.size()) layer.gathered[t] = {};
      frame.data[t] = nullptr;
    }
  }
  for (std::size_t t = 0; t < layer.gathered.size(); ++t) {
    if (!layer.gathered[t]) continue;
    return fail(Fault::input,
                fmt::format("block '{}' of layer {} ends and has not released "
                            "weights '{}'",
                            block.name, layer.layer, block.tensors[t].name));
  }
  return {};
}

/// Everyone who takes part in a collective is ready.
Result<Time> Interpreter::Runner::meet_for(const Op& op, Time ready) {
  if (!op.communicates) return ready;
  Time at = base_ + ready;
  if (op.scope == Scope::context) {
    TRY_DO(communicator_.meet(context_group_, at));
  }
  return at - base_;
}

Result<void> Interpreter::Runner::run_operator(const Layer& layer,
                                               std::size_t o,
                                               const Frame& frame, TaskId id) {
  const Op& op = layer.block->operators[o];
  Time start;
  if (prices_ != nullptr) {
    TRY(start, meet_for(op, clock_.ready(op)));
  }
  if (op.communicates) {
    Time at = base_ + start;
    TRY_DO(exchange(frame, op, at));
    start = at - base_;
  } else {
    TRY_DO(act(frame, op));
  }
  if (prices_ == nullptr) return {};
  pass_operator(layer, o, id, start);
  return {};
}

}  // namespace troupe::exec
