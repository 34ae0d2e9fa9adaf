// A graph of cuDNN's operations on tensors of four dimensions, and the plan
// that runs it.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/cudnn.h"

namespace troupe::kernels::cuda::cudnn {

using Four = std::array<std::int64_t, 4>;

/// A tensor of one graph; its value is the id by which a plan's operands are
/// bound.
enum class Tensor : std::int64_t {};
using MaybeTensor = std::optional<Tensor>;

/// Strides of tensors without gaps, the last dimension innermost.
Four packed(const Four& sizes);

/// Where a plan is to run: on a GPU by the library's handle, or, to be made
/// only, on a GPU as described by a finished Object::device.
struct Target {
  void* handle = nullptr;
  const Descriptor* device = nullptr;
};

/// Something to run: an algorithm for a graph.
class Plan {
 public:
  struct Binding {
    Tensor tensor{};
    void* at = nullptr;  ///< on the GPU; of a scalar, on the host
  };
  std::int64_t workspace() const { return workspace_; }  ///< bytes
  bool deterministic() const { return deterministic_; }
  /// Puts the work on the handle's stream.
  Result<void> run(void* handle, std::span<const Binding> bindings,
                   void* workspace) const;

 private:
  friend class Graph;
  std::shared_ptr<const Library> library_;
  std::vector<Descriptor> parts_;  ///< the graph's, which outlive the plan
  Descriptor plan_;
  std::int64_t workspace_ = 0;
  bool deterministic_ = true;
};

/// Operations are added in an order in which each finds its inputs made. The
/// first failure is kept, and answered by `plan`; what follows it does
/// nothing. A graph makes one plan, which takes over what it consists of.
class Graph {
 public:
  explicit Graph(std::shared_ptr<const Library> library);

  /// An operand in memory, aligned to 16 bytes. `offsets` gives where each
  /// sequence (first dimension) begins, in elements.
  Tensor operand(Data type, const Four& sizes, const Four& strides,
                 MaybeTensor offsets = {});
  /// One number on the host.
  Tensor scalar(Data type);

  /// y of x's size, from x, or from x and b.
  Tensor map(Pointwise how, Tensor x, Data type = Data::float32);
  Tensor map(Pointwise how, Tensor x, Tensor b, Data type = Data::float32);
  void map_into(Pointwise how, Tensor x, MaybeTensor b, Tensor y);
  /// The index of each element along dimension `axis`, int32.
  Tensor index(Tensor x, std::int64_t axis);
  /// x where t, else b.
  Tensor select(Tensor x, Tensor b, Tensor t);
  Tensor reduce(Reduction how, Tensor x, const Four& sizes);
  void reduce_into(Reduction how, Tensor x, Tensor y);
  /// The same elements with the last two dimensions exchanged.
  Tensor transpose(Tensor x, Data type, MaybeTensor offsets = {});

  /// Lengths (one for each sequence) that cut rows, columns and inner sums.
  struct Lengths {
    MaybeTensor m{}, n{}, k{};
    bool zero_padding = false;
  };
  /// c = a b for each of the first two dimensions, of which b may have
  /// fewer heads.
  Tensor multiply(Tensor a, Tensor b, const Lengths& lengths,
                  Data type = Data::float32);
  void multiply_into(Tensor a, Tensor b, const Lengths& lengths, Tensor c);

  const Four& sizes(Tensor tensor) const { return at(tensor).sizes; }
  const Four& strides(Tensor tensor) const { return at(tensor).strides; }

  /// The first plan of the library's heuristics that can be made, of those
  /// within `workspace` bytes and, if asked for, deterministic.
  ///
  /// Errors: unavailable with a reason where there is none.
  Result<Plan> plan(const Target& target, bool deterministic,
                    std::int64_t workspace);

 private:
  struct Node {
    Four sizes{}, strides{};
    Descriptor descriptor{};
  };
  struct Spec;
  const Node& at(Tensor tensor) const {
    return nodes_[static_cast<std::size_t>(tensor) - 1];
  }
  Tensor add(const Spec& spec);
  Tensor inner(Data type, const Four& sizes, const Four& strides,
               MaybeTensor offsets = {});
  Result<Descriptor> make(Object kind);
  Result<Descriptor> describe(const Spec& spec);
  Result<Descriptor> pointwise(Pointwise how, Data precision,
                               std::optional<std::int64_t> axis);
  struct Inputs {
    Tensor x{};
    MaybeTensor b{}, t{};
    std::optional<std::int64_t> axis{};
    Data precision = Data::float32;
  };
  void add_map(Pointwise how, const Inputs& inputs, Tensor y);
  Result<Descriptor> map_operation(Pointwise how, const Inputs& inputs,
                                   Tensor y);
  Result<Descriptor> product(Tensor a, Tensor b, const Lengths& lengths,
                             Tensor c);
  Result<Descriptor> reduction(Reduction how, Tensor x, Tensor y);
  void keep(Result<Descriptor> operation);
  Result<std::vector<Descriptor>> configurations(const Target& target,
                                                 const Descriptor& graph);
  Result<Plan> plan_of(const Target& target, const Descriptor& configuration);
  void give_parts(Plan& plan, Descriptor graph, std::vector<Descriptor> all);

  std::shared_ptr<const Library> library_;
  Result<void> status_{};
  std::vector<Node> nodes_;
  std::vector<Descriptor> operations_;
  std::vector<Descriptor> parts_;  ///< that operations refer to
};

}  // namespace troupe::kernels::cuda::cudnn
