#include "schedule/block_builder.h"

#include <algorithm>

namespace troupe::schedule {
namespace {

Stream stream_of(Scope scope) {
  switch (scope) {
    case Scope::tensor:
      return Stream::tensor;
    case Scope::context:
      return Stream::context;
    case Scope::data:
    case Scope::ends:
      return Stream::data;
  }
  return Stream::compute;
}

}  // namespace

TensorIndex BlockBuilder::tensor(std::string name,
                                 std::vector<std::int64_t> shape, Role role,
                                 kernels::DType dtype) {
  block_.tensors.push_back({std::move(name), std::move(shape), dtype, role});
  writer_.push_back(-1);
  return static_cast<TensorIndex>(block_.tensors.size() - 1);
}

TensorIndex BlockBuilder::named(const std::string& name,
                                std::vector<std::int64_t> shape, Role role,
                                kernels::DType dtype) {
  const auto same = [&](const Tensor& t) {
    return t.name == name && (role == Role::saved || t.role == role);
  };
  const auto it = std::ranges::find_if(block_.tensors, same);
  if (it != block_.tensors.end()) {
    return static_cast<TensorIndex>(it - block_.tensors.begin());
  }
  return tensor(name, std::move(shape), role, dtype);
}

TensorIndex BlockBuilder::kept(const std::string& name,
                               std::vector<std::int64_t> shape,
                               kernels::DType dtype) {
  return named(name, std::move(shape), Role::saved, dtype);
}

TensorIndex BlockBuilder::weight(const std::string& name,
                                 std::vector<std::int64_t> shape, Role role,
                                 kernels::DType dtype) {
  const bool gathers = role == Role::parameter && gather_ >= 0;
  if (gathers) role = Role::gathered;
  if (role == Role::gradient && scatters_) role = Role::scattered;
  const std::size_t before = block_.tensors.size();
  const TensorIndex t = named(name, std::move(shape), role, dtype);
  if (gathers && t >= before) {
    block_.operators[static_cast<std::size_t>(gather_)].outputs.push_back(t);
    writer_[t] = gather_;
  }
  return t;
}

void BlockBuilder::gather_weights(Scope scope, Bytes least) {
  gather_ = static_cast<int>(block_.operators.size());
  communicate("weights.gather",
              {.collective = clusters::Collective::all_gather,
               .scope = scope,
               .bytes = least,
               .prefetch = true,
               .action = Action::gather_weights},
              {}, {});
}

std::int64_t BlockBuilder::scattered_elements() const {
  std::int64_t sum = 0;
  for (const Tensor& t : block_.tensors) {
    if (t.role != Role::scattered) continue;
    sum += size_of(t).v / kernels::size_of(t.dtype).v;
  }
  return sum;
}

void BlockBuilder::reduce_gradients(Scope scope, std::int64_t elements,
                                    kernels::DType dtype) {
  std::vector<TensorIndex> gradients;
  for (std::size_t t = 0; t < block_.tensors.size(); ++t) {
    if (block_.tensors[t].role == Role::scattered) {
      gradients.push_back(static_cast<TensorIndex>(t));
    }
  }
  communicate("gradient.scatter",
              {.collective = clusters::Collective::reduce_scatter,
               .scope = scope,
               .bytes = kernels::size_of(dtype) * elements,
               .action = Action::reduce_gradients},
              std::move(gradients), {});
  Operator& op = block_.operators.back();
  op.after.clear();
  for (std::size_t o = block_.operators.size() - 1; o-- > 0;) {
    if (block_.operators[o].stream != Stream::compute) continue;
    op.after = {static_cast<std::uint16_t>(o)};
    break;
  }
}

void BlockBuilder::compute(std::string name, Action action,
                           const kernels::OpShape& shape,
                           std::vector<TensorIndex> inputs,
                           std::vector<TensorIndex> outputs, int round) {
  Operator op;
  op.name = std::move(name);
  op.action = action;
  op.round = static_cast<std::uint16_t>(round);
  op.shape = shape;
  op.inputs = std::move(inputs);
  op.inputs.insert(op.inputs.end(), required_.begin(), required_.end());
  required_.clear();
  op.outputs = std::move(outputs);
  if (requires_weights_) op.after = {static_cast<std::uint16_t>(gather_)};
  requires_weights_ = false;
  add(std::move(op));
}

void BlockBuilder::communicate(std::string name, const Exchange& exchange,
                               std::vector<TensorIndex> inputs,
                               std::vector<TensorIndex> outputs) {
  Operator op;
  op.name = std::move(name);
  op.communicates = true;
  op.stream = stream_of(exchange.scope);
  op.collective = exchange.collective;
  op.scope = exchange.scope;
  op.bytes = exchange.bytes;
  op.prefetch = exchange.prefetch;
  op.action = exchange.action;
  op.round = static_cast<std::uint16_t>(exchange.round);
  op.inputs = std::move(inputs);
  op.outputs = std::move(outputs);
  add(std::move(op));
}

void BlockBuilder::add(Operator op) {
  const int self = static_cast<int>(block_.operators.size());
  for (const std::uint16_t input : op.inputs) {
    const int writer = writer_[input];
    if (writer < 0) continue;
    const auto from = static_cast<std::size_t>(writer);
    if (block_.operators[from].stream == op.stream) continue;
    const auto wait = static_cast<std::uint16_t>(writer);
    if (std::find(op.after.begin(), op.after.end(), wait) == op.after.end()) {
      op.after.push_back(wait);
    }
  }
  for (const std::uint16_t output : op.outputs) writer_[output] = self;
  block_.operators.push_back(std::move(op));
}

namespace {

bool is_temporary(Role role) {
  return role == Role::temporary || role == Role::gathered ||
         role == Role::scattered;
}

}  // namespace

Bytes peak_temporaries(const Block& block) {
  const std::size_t count = block.operators.size();
  std::vector<std::int64_t> change(count + 1, 0);
  for (std::size_t t = 0; t < block.tensors.size(); ++t) {
    if (!is_temporary(block.tensors[t].role)) continue;
    std::size_t first = count;
    std::size_t last = 0;
    for (std::size_t o = 0; o < count; ++o) {
      const auto uses = [&](const std::vector<std::uint16_t>& list) {
        return std::find(list.begin(), list.end(), t) != list.end();
      };
      if (uses(block.operators[o].inputs) || uses(block.operators[o].outputs)) {
        first = std::min(first, o);
        last = std::max(last, o);
      }
    }
    if (first == count) continue;
    change[first] += size_of(block.tensors[t]).v;
    change[last + 1] -= size_of(block.tensors[t]).v;
  }
  std::int64_t alive = 0;
  std::int64_t peak = 0;
  for (const std::int64_t c : change) peak = std::max(peak, alive += c);
  return {peak};
}

Block BlockBuilder::finish(std::string name) {
  block_.name = std::move(name);
  for (const Tensor& t : block_.tensors) {
    if (t.role == Role::saved) block_.saved += size_of(t);
  }
  if (gather_ >= 0) release_weights();
  block_.workspace = peak_temporaries(block_);
  for (const Operator& op : block_.operators) {
    if (!op.communicates) block_.flops += kernels::flops(op.shape);
  }
  Block out = std::move(block_);
  block_ = {};
  writer_.clear();
  gather_ = -1;
  scatters_ = false;
  return out;
}

/// Every gathered tensor goes back after the last operator that reads it.
void BlockBuilder::release_weights() {
  Operator& gather = block_.operators[static_cast<std::size_t>(gather_)];
  Bytes size;
  for (const TensorIndex t : gather.outputs) {
    size += size_of(block_.tensors[t]);
    for (std::size_t o = block_.operators.size(); o-- > 0;) {
      Operator& op = block_.operators[o];
      if (std::ranges::find(op.inputs, t) == op.inputs.end()) continue;
      op.releases.push_back(t);
      break;
    }
  }
  gather.bytes = std::max(gather.bytes, size);
}

}  // namespace troupe::schedule
