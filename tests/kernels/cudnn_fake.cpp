// A stand-in for libcudnn that holds descriptors to their rules: attributes
// are set before an object is finished and by what is finished, an operation
// has what it needs, a plan is bound to every operand in memory and to nothing
// else. The first plan is refused, and the second has the workspace that
// cudnnFakeWorkspace says. A broken rule is status 2000 with its name.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernels/cuda/cudnn_abi.h"

namespace {

using namespace troupe::kernels::cuda::cudnn;

constexpr Status kBad = 2000;
std::string last;
std::size_t fake_version = 91900;
std::int64_t fake_workspace = 1 << 20, fake_plans = 2;
bool fake_chance = false, fake_handles = true;
int alive = 0, runs = 0;
std::map<int, int> made;  // finished objects by kind

struct Value {
  Type type{};
  std::int64_t count = 0;
  std::vector<char> bytes;
};
struct Thing {
  Object kind{};
  bool finished = false;
  int rank = 0;  // of a plan's configuration
  std::map<Attribute, Value> values;

  template <typename T>
  std::vector<T> get(Attribute what) const {
    const auto at = values.find(what);
    if (at == values.end()) return {};
    std::vector<T> all(static_cast<std::size_t>(at->second.count));
    std::memcpy(all.data(), at->second.bytes.data(), at->second.bytes.size());
    return all;
  }
  bool flag(Attribute what) const { return get<char>(what).at(0) != 0; }
};

Status bad(const char* why) {
  last = why;
  return kBad;
}

std::size_t size_of(Type type) {
  switch (type) {
    case Type::boolean:
    case Type::text:
      return 1;
    case Type::handle:
    case Type::int64:
    case Type::float64:
    case Type::pointer:
    case Type::descriptor:
      return 8;
    default:
      return 4;
  }
}

// What a kind cannot do without.
std::vector<Attribute> needs(Object kind) {
  using A = Attribute;
  switch (kind) {
    case Object::tensor:
      return {A::tensor_type, A::tensor_sizes, A::tensor_strides, A::tensor_id,
              A::tensor_alignment};
    case Object::pointwise:
      return {A::pointwise_mode, A::pointwise_precision};
    case Object::pointwise_operation:
      return {A::pointwise_operation_pointwise, A::pointwise_operation_x,
              A::pointwise_operation_y};
    case Object::matmul:
      return {A::matmul_precision};
    case Object::matmul_operation:
      return {A::matmul_operation_a, A::matmul_operation_b,
              A::matmul_operation_c, A::matmul_operation_matmul};
    case Object::reduction:
      return {A::reduction_operator, A::reduction_precision};
    case Object::reduction_operation:
      return {A::reduction_operation_x, A::reduction_operation_y,
              A::reduction_operation_reduction};
    case Object::reshape_operation:
      return {A::reshape_operation_x, A::reshape_operation_y};
    case Object::graph:
      return {A::graph_operations};
    case Object::heuristics:
      return {A::heuristics_graph, A::heuristics_mode};
    case Object::plan:
      return {A::plan_config};
    case Object::variant_pack:
      return {A::pack_ids, A::pack_pointers, A::pack_workspace};
    default:
      return {};
  }
}

// The tensors of an operation by whether it makes them.
void collect(const Thing& operation, std::vector<Thing*>& in,
             std::vector<Thing*>& out) {
  using A = Attribute;
  const std::set<A> outputs{A::pointwise_operation_y, A::matmul_operation_c,
                            A::reduction_operation_y, A::reshape_operation_y};
  for (const auto& [what, value] : operation.values) {
    if (value.type != Type::descriptor) continue;
    auto* thing = operation.get<Thing*>(what).at(0);
    if (thing->kind != Object::tensor) continue;
    (outputs.contains(what) ? out : in).push_back(thing);
  }
}

// Every inner tensor is made before it is read, and made once.
const char* fault_of_graph(const Thing& graph, std::set<std::int64_t>& bound) {
  std::set<std::int64_t> ids;
  for (Thing* operation : graph.get<Thing*>(Attribute::graph_operations)) {
    if (!operation->finished) return "an operation is not finished";
    std::vector<Thing*> in, out;
    collect(*operation, in, out);
    const auto note = [&](Thing* t) {
      const auto id = t->get<std::int64_t>(Attribute::tensor_id).at(0);
      if (!t->flag(Attribute::tensor_virtual)) bound.insert(id);
      for (Thing* o : t->get<Thing*>(Attribute::tensor_offsets)) {
        bound.insert(o->get<std::int64_t>(Attribute::tensor_id).at(0));
      }
      return id;
    };
    for (Thing* t : in) {
      const auto id = note(t);
      if (t->flag(Attribute::tensor_virtual) && !ids.contains(id)) {
        return "a tensor is read before it is made";
      }
    }
    for (Thing* t : out) {
      if (t->flag(Attribute::tensor_by_value)) return "a number is written";
      if (!ids.insert(note(t)).second) return "a tensor is made twice";
    }
  }
  return nullptr;
}

const char* fault_of_shape(const Thing& t) {
  using A = Attribute;
  if (t.get<std::int64_t>(A::tensor_sizes).size() != 4 ||
      t.get<std::int64_t>(A::tensor_strides).size() != 4) {
    return "a tensor has not four dimensions";
  }
  for (const auto n : t.get<std::int64_t>(A::tensor_sizes)) {
    if (n < 1) return "a dimension is empty";
  }
  return nullptr;
}

}  // namespace

extern "C" {

void cudnnFakeSet(std::size_t version, std::int64_t plans,
                  std::int64_t workspace, bool chance, bool handles) {
  fake_version = version;
  fake_plans = plans;
  fake_workspace = workspace;
  fake_chance = chance;
  fake_handles = handles;
  made.clear();
  runs = 0;
}
int cudnnFakeAlive() { return alive; }
int cudnnFakeRuns() { return runs; }
int cudnnFakeMade(int kind) { return made[kind]; }

std::size_t cudnnGetVersion() { return fake_version; }
void cudnnGetLastErrorString(char* to, std::size_t size) {
  std::snprintf(to, size, "%s", last.c_str());
}
int cudnnCreate(void** handle) {
  if (!fake_handles) return 1001;
  *handle = &runs;
  return 0;
}
int cudnnDestroy(void*) { return 0; }
int cudnnSetStream(void*, void*) { return 0; }

int cudnnBackendCreateDescriptor(Object kind, void** out) {
  ++alive;
  *out = new Thing{.kind = kind, .values = {}};
  if (kind == Object::tensor) {
    auto& values = static_cast<Thing*>(*out)->values;
    values[Attribute::tensor_virtual] = {Type::boolean, 1, {0}};
    values[Attribute::tensor_by_value] = {Type::boolean, 1, {0}};
  }
  return 0;
}
int cudnnBackendDestroyDescriptor(void* at) {
  --alive;
  delete static_cast<Thing*>(at);
  return 0;
}
int cudnnBackendSetAttribute(void* at, Attribute what, Type type,
                             std::int64_t count, const void* from) {
  auto* thing = static_cast<Thing*>(at);
  if (thing->finished) return bad("an attribute is set too late");
  if (count < 1) return bad("no elements");
  if (type == Type::descriptor) {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto* part = static_cast<Thing* const*>(from)[i];
      if (part == nullptr || !part->finished)
        return bad("a part is unfinished");
    }
  }
  const auto size = static_cast<std::size_t>(count) * size_of(type);
  const auto* bytes = static_cast<const char*>(from);
  thing->values[what] = {type, count, std::vector<char>(bytes, bytes + size)};
  return 0;
}
int cudnnBackendFinalize(void* at) {
  auto* thing = static_cast<Thing*>(at);
  if (thing->finished) return bad("finished twice");
  for (const Attribute what : needs(thing->kind)) {
    if (!thing->values.contains(what)) return bad("an attribute is missing");
  }
  const char* fault = nullptr;
  std::set<std::int64_t> bound;
  if (thing->kind == Object::tensor) fault = fault_of_shape(*thing);
  if (thing->kind == Object::graph) fault = fault_of_graph(*thing, bound);
  if (fault != nullptr) return bad(fault);
  if (thing->kind == Object::plan &&
      thing->get<Thing*>(Attribute::plan_config).at(0)->rank == 0) {
    last = "the first plan is refused";
    return 3000;
  }
  thing->finished = true;
  ++made[static_cast<int>(thing->kind)];
  return 0;
}
int cudnnBackendGetAttribute(void* at, Attribute what, Type, std::int64_t most,
                             std::int64_t* count, void* to) {
  auto* thing = static_cast<Thing*>(at);
  if (what == Attribute::heuristics_results) {
    *count = fake_plans;
    for (std::int64_t i = 0; i < most && i < fake_plans; ++i) {
      auto* one = static_cast<Thing**>(to)[i];
      one->rank = static_cast<int>(i);
      one->finished = true;
      // The graph, for `execute`.
      one->values[Attribute::heuristics_graph] =
          thing->values[Attribute::heuristics_graph];
    }
  } else if (what == Attribute::plan_workspace) {
    *count = 1;
    std::memcpy(to, &fake_workspace, sizeof fake_workspace);
  } else if (what == Attribute::engine_notes) {
    *count = fake_chance ? 2 : 0;
    const int notes[]{0, kNondeterministic};
    if (fake_chance && most >= 2) std::memcpy(to, notes, sizeof notes);
  } else {
    *count = 1;
  }
  return 0;
}
int cudnnBackendExecute(void*, void* plan_at, void* pack_at) {
  const auto* plan = static_cast<Thing*>(plan_at);
  const auto* pack = static_cast<Thing*>(pack_at);
  if (!plan->finished || !pack->finished) return bad("running unfinished");
  const auto* config = plan->get<Thing*>(Attribute::plan_config).at(0);
  std::set<std::int64_t> bound;
  const auto* graph = config->get<Thing*>(Attribute::heuristics_graph).at(0);
  if (const char* fault = fault_of_graph(*graph, bound)) return bad(fault);
  const auto ids = pack->get<std::int64_t>(Attribute::pack_ids);
  if (std::set(ids.begin(), ids.end()) != bound) {
    return bad("what is bound is not what the graph has in memory");
  }
  for (void* pointer : pack->get<void*>(Attribute::pack_pointers)) {
    if (pointer == nullptr) return bad("an operand is null");
  }
  ++runs;
  return 0;
}

}  // extern "C"
