#include "kernels/cuda/cudnn_graph.h"

#include <algorithm>
#include <iterator>

namespace troupe::kernels::cuda::cudnn {
namespace {

// Plans that are tried of those which the heuristics name.
constexpr std::int64_t kMostPlans = 16;

// What rounds to bf16 is computed in fp32.
Data precision_of(Data type) {
  return type == Data::bfloat16 ? Data::float32 : type;
}

}  // namespace

Four packed(const Four& sizes) {
  return {sizes[1] * sizes[2] * sizes[3], sizes[2] * sizes[3], sizes[3], 1};
}

struct Graph::Spec {
  Data type = Data::float32;
  Four sizes{}, strides{};
  bool is_virtual = false, by_value = false;
  MaybeTensor offsets{};
};

Graph::Graph(std::shared_ptr<const Library> library)
    : library_(std::move(library)) {}

Result<Descriptor> Graph::make(Object kind) {
  TRY_DO(status_);
  return Descriptor::of(library_, kind);
}

Result<Descriptor> Graph::describe(const Spec& spec) {
  TRY(Descriptor tensor, make(Object::tensor));
  TRY_DO(tensor.set(Attribute::tensor_type, Type::data, spec.type));
  TRY_DO(tensor.set(Attribute::tensor_sizes, Type::int64,
                    std::span<const std::int64_t>(spec.sizes)));
  TRY_DO(tensor.set(Attribute::tensor_strides, Type::int64,
                    std::span<const std::int64_t>(spec.strides)));
  TRY_DO(tensor.set(Attribute::tensor_id, Type::int64,
                    static_cast<std::int64_t>(nodes_.size()) + 1));
  TRY_DO(
      tensor.set(Attribute::tensor_alignment, Type::int64, std::int64_t{16}));
  TRY_DO(tensor.set(Attribute::tensor_virtual, Type::boolean, spec.is_virtual));
  TRY_DO(tensor.set(Attribute::tensor_by_value, Type::boolean, spec.by_value));
  if (spec.offsets) {
    TRY_DO(tensor.set(Attribute::tensor_offsets, at(*spec.offsets).descriptor));
  }
  TRY_DO(tensor.finish());
  return tensor;
}

Tensor Graph::add(const Spec& spec) {
  auto made = describe(spec);
  if (!made && status_) status_ = fail(std::move(made).error());
  nodes_.push_back(
      {spec.sizes, spec.strides, made ? std::move(*made) : Descriptor()});
  return static_cast<Tensor>(nodes_.size());
}

Tensor Graph::operand(Data type, const Four& sizes, const Four& strides,
                      MaybeTensor offsets) {
  return add(
      {.type = type, .sizes = sizes, .strides = strides, .offsets = offsets});
}

Tensor Graph::scalar(Data type) {
  return add({.type = type,
              .sizes = {1, 1, 1, 1},
              .strides = {1, 1, 1, 1},
              .by_value = true});
}

Tensor Graph::inner(Data type, const Four& sizes, const Four& strides,
                    MaybeTensor offsets) {
  return add({.type = type,
              .sizes = sizes,
              .strides = strides,
              .is_virtual = true,
              .offsets = offsets});
}

void Graph::keep(Result<Descriptor> operation) {
  if (operation) {
    operations_.push_back(std::move(*operation));
  } else if (status_) {
    status_ = fail(std::move(operation).error());
  }
}

Result<Descriptor> Graph::pointwise(Pointwise how, Data precision,
                                    std::optional<std::int64_t> axis) {
  TRY(Descriptor made, make(Object::pointwise));
  TRY_DO(made.set(Attribute::pointwise_mode, Type::pointwise_mode, how));
  TRY_DO(made.set(Attribute::pointwise_precision, Type::data, precision));
  if (axis) {
    TRY_DO(made.set(Attribute::pointwise_axis, Type::int64, *axis));
  }
  TRY_DO(made.finish());
  return made;
}

Result<Descriptor> Graph::map_operation(Pointwise how, const Inputs& inputs,
                                        Tensor y) {
  TRY(Descriptor body, pointwise(how, inputs.precision, inputs.axis));
  TRY(Descriptor made, make(Object::pointwise_operation));
  TRY_DO(made.set(Attribute::pointwise_operation_pointwise, body));
  TRY_DO(made.set(Attribute::pointwise_operation_x, at(inputs.x).descriptor));
  if (inputs.b) {
    TRY_DO(
        made.set(Attribute::pointwise_operation_b, at(*inputs.b).descriptor));
  }
  if (inputs.t) {
    TRY_DO(
        made.set(Attribute::pointwise_operation_t, at(*inputs.t).descriptor));
  }
  TRY_DO(made.set(Attribute::pointwise_operation_y, at(y).descriptor));
  TRY_DO(made.finish());
  parts_.push_back(std::move(body));
  return made;
}

void Graph::add_map(Pointwise how, const Inputs& inputs, Tensor y) {
  keep(map_operation(how, inputs, y));
}

Tensor Graph::map(Pointwise how, Tensor x, Data type) {
  const Tensor y = inner(type, sizes(x), strides(x));
  add_map(how, {.x = x, .precision = precision_of(type)}, y);
  return y;
}

Tensor Graph::map(Pointwise how, Tensor x, Tensor b, Data type) {
  const Tensor y = inner(type, sizes(x), strides(x));
  add_map(how, {.x = x, .b = b, .precision = precision_of(type)}, y);
  return y;
}

void Graph::map_into(Pointwise how, Tensor x, MaybeTensor b, Tensor y) {
  add_map(how, {.x = x, .b = b}, y);
}

Tensor Graph::index(Tensor x, std::int64_t axis) {
  const Tensor y = inner(Data::int32, sizes(x), strides(x));
  add_map(Pointwise::index, {.x = x, .axis = axis, .precision = Data::int32},
          y);
  return y;
}

Tensor Graph::select(Tensor x, Tensor b, Tensor t) {
  const Tensor y = inner(Data::float32, sizes(x), strides(x));
  add_map(Pointwise::select, {.x = x, .b = b, .t = t}, y);
  return y;
}

Result<Descriptor> Graph::reduction(Reduction how, Tensor x, Tensor y) {
  TRY(Descriptor body, make(Object::reduction));
  TRY_DO(
      body.set(Attribute::reduction_operator, Type::reduction_operator, how));
  TRY_DO(body.set(Attribute::reduction_precision, Type::data, Data::float32));
  TRY_DO(body.finish());
  TRY(Descriptor made, make(Object::reduction_operation));
  TRY_DO(made.set(Attribute::reduction_operation_reduction, body));
  TRY_DO(made.set(Attribute::reduction_operation_x, at(x).descriptor));
  TRY_DO(made.set(Attribute::reduction_operation_y, at(y).descriptor));
  TRY_DO(made.finish());
  parts_.push_back(std::move(body));
  return made;
}

void Graph::reduce_into(Reduction how, Tensor x, Tensor y) {
  keep(reduction(how, x, y));
}

Tensor Graph::reduce(Reduction how, Tensor x, const Four& sizes) {
  const Tensor y = inner(Data::float32, sizes, packed(sizes));
  reduce_into(how, x, y);
  return y;
}

Tensor Graph::transpose(Tensor x, Data type, MaybeTensor offsets) {
  Four turned = sizes(x), steps = strides(x);
  std::swap(turned[2], turned[3]);
  std::swap(steps[2], steps[3]);
  const Tensor y = inner(type, turned, steps, offsets);
  const auto operation = [&]() -> Result<Descriptor> {
    TRY(Descriptor made, make(Object::reshape_operation));
    TRY_DO(made.set(Attribute::reshape_operation_x, at(x).descriptor));
    TRY_DO(made.set(Attribute::reshape_operation_y, at(y).descriptor));
    TRY_DO(made.finish());
    return made;
  };
  keep(operation());
  return y;
}

Result<Descriptor> Graph::product(Tensor a, Tensor b, const Lengths& lengths,
                                  Tensor c) {
  TRY(Descriptor body, make(Object::matmul));
  TRY_DO(body.set(Attribute::matmul_precision, Type::data, Data::float32));
  if (lengths.zero_padding) {
    TRY_DO(body.set(Attribute::matmul_padding, Type::float64, 0.0));
  }
  TRY_DO(body.finish());
  TRY(Descriptor made, make(Object::matmul_operation));
  TRY_DO(made.set(Attribute::matmul_operation_matmul, body));
  TRY_DO(made.set(Attribute::matmul_operation_a, at(a).descriptor));
  TRY_DO(made.set(Attribute::matmul_operation_b, at(b).descriptor));
  TRY_DO(made.set(Attribute::matmul_operation_c, at(c).descriptor));
  const std::array<std::pair<Attribute, MaybeTensor>, 3> overrides{
      {{Attribute::matmul_operation_m, lengths.m},
       {Attribute::matmul_operation_n, lengths.n},
       {Attribute::matmul_operation_k, lengths.k}}};
  for (const auto& [what, length] : overrides) {
    if (!length) continue;
    TRY_DO(made.set(what, at(*length).descriptor));
  }
  TRY_DO(made.finish());
  parts_.push_back(std::move(body));
  return made;
}

void Graph::multiply_into(Tensor a, Tensor b, const Lengths& lengths,
                          Tensor c) {
  keep(product(a, b, lengths, c));
}

Tensor Graph::multiply(Tensor a, Tensor b, const Lengths& lengths, Data type) {
  Four made = sizes(a);
  made[3] = sizes(b)[3];
  const Tensor c = inner(type, made, packed(made));
  multiply_into(a, b, lengths, c);
  return c;
}

Result<std::vector<Descriptor>> Graph::configurations(const Target& target,
                                                      const Descriptor& graph) {
  TRY(Descriptor heuristics, make(Object::heuristics));
  TRY_DO(heuristics.set(Attribute::heuristics_graph, graph));
  TRY_DO(heuristics.set(Attribute::heuristics_mode, Type::heuristic_mode,
                        kHeuristicA));
  if (target.device != nullptr) {
    TRY_DO(heuristics.set(Attribute::heuristics_device, *target.device));
  }
  TRY_DO(heuristics.finish());
  TRY(const std::int64_t count, heuristics.read(Attribute::heuristics_results,
                                                Type::descriptor, 0, nullptr));
  std::vector<Descriptor> all;
  std::vector<void*> slots;
  for (std::int64_t i = 0; i < std::min(count, kMostPlans); ++i) {
    TRY(Descriptor one, make(Object::engine_config));
    slots.push_back(one.get());
    all.push_back(std::move(one));
  }
  if (all.empty()) return all;
  TRY(const std::int64_t filled,
      heuristics.read(Attribute::heuristics_results, Type::descriptor,
                      std::ssize(slots), slots.data()));
  all.resize(static_cast<std::size_t>(
      std::clamp<std::int64_t>(filled, 0, std::ssize(all))));
  return all;
}

namespace {

Result<bool> is_deterministic(std::shared_ptr<const Library> library,
                              const Descriptor& configuration) {
  TRY(const Descriptor engine,
      Descriptor::of(std::move(library), Object::engine));
  void* slot = engine.get();
  TRY_DO(
      configuration.read(Attribute::config_engine, Type::descriptor, 1, &slot));
  std::array<int, kNotes> notes{};
  TRY(const std::int64_t count,
      engine.read(Attribute::engine_notes, Type::numerical_note, kNotes,
                  notes.data()));
  const auto end = notes.begin() + std::clamp<std::int64_t>(count, 0, kNotes);
  return std::find(notes.begin(), end, kNondeterministic) == end;
}

}  // namespace

Result<Plan> Graph::plan_of(const Target& target,
                            const Descriptor& configuration) {
  Plan made;
  made.library_ = library_;
  TRY(made.deterministic_, is_deterministic(library_, configuration));
  TRY(made.plan_, make(Object::plan));
  if (target.device != nullptr) {
    TRY_DO(made.plan_.set(Attribute::plan_device, *target.device));
  } else {
    TRY_DO(made.plan_.set(Attribute::plan_handle, Type::handle, target.handle));
  }
  TRY_DO(made.plan_.set(Attribute::plan_config, configuration));
  TRY_DO(made.plan_.finish());
  TRY_DO(made.plan_.read(Attribute::plan_workspace, Type::int64, 1,
                         &made.workspace_));
  return made;
}

void Graph::give_parts(Plan& plan, Descriptor graph,
                       std::vector<Descriptor> all) {
  plan.parts_ = std::move(parts_);
  for (Node& node : nodes_) plan.parts_.push_back(std::move(node.descriptor));
  for (auto* some : {&operations_, &all}) {
    std::move(some->begin(), some->end(), std::back_inserter(plan.parts_));
  }
  plan.parts_.push_back(std::move(graph));
}

Result<Plan> Graph::plan(const Target& target, bool deterministic,
                         std::int64_t workspace) {
  TRY(Descriptor graph, make(Object::graph));
  if (target.device == nullptr) {
    TRY_DO(graph.set(Attribute::graph_handle, Type::handle, target.handle));
  }
  std::vector<void*> operations;
  for (const Descriptor& one : operations_) operations.push_back(one.get());
  TRY_DO(graph.set(Attribute::graph_operations, Type::descriptor,
                   std::span<void* const>(operations)));
  TRY_DO(graph.finish());
  TRY(std::vector<Descriptor> all, configurations(target, graph));
  Error reason{Fault::unavailable, "cuDNN knows no plan for the graph"};
  for (const Descriptor& one : all) {
    auto made = plan_of(target, one);
    if (!made) {
      reason = std::move(made).error();
    } else if (deterministic && !made->deterministic()) {
      reason.message = "cuDNN has only plans whose sums depend on chance";
    } else if (made->workspace() > workspace) {
      reason.message = "cuDNN's plan needs " +
                       std::to_string(made->workspace() >> 20) +
                       " MiB of workspace, more than the " +
                       std::to_string(workspace >> 20) + " MiB that it may";
    } else {
      give_parts(*made, std::move(graph), std::move(all));
      return std::move(*made);
    }
  }
  reason.fault = Fault::unavailable;
  return fail(std::move(reason));
}

Result<void> Plan::run(void* handle, std::span<const Binding> bindings,
                       void* workspace) const {
  std::vector<std::int64_t> ids;
  std::vector<void*> pointers;
  for (const Binding& one : bindings) {
    ids.push_back(static_cast<std::int64_t>(one.tensor));
    pointers.push_back(one.at);
  }
  TRY(Descriptor pack, Descriptor::of(library_, Object::variant_pack));
  TRY_DO(pack.set(Attribute::pack_ids, Type::int64,
                  std::span<const std::int64_t>(ids)));
  TRY_DO(pack.set(Attribute::pack_pointers, Type::pointer,
                  std::span<void* const>(pointers)));
  TRY_DO(pack.set(Attribute::pack_workspace, Type::pointer, workspace));
  TRY_DO(pack.finish());
  return library_->checked(
      library_->call.execute(handle, plan_.get(), pack.get()), "running");
}

}  // namespace troupe::kernels::cuda::cudnn
