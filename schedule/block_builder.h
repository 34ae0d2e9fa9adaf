// Writes a block operator by operator and works out what follows from the
// operands: waits between streams, saved bytes, workspace, FLOPs.
#pragma once

#include <string>
#include <vector>

#include "schedule/schedule.h"

namespace troupe::schedule {

/// A tensor's index in the block under construction.
using TensorIndex = std::uint16_t;

class BlockBuilder {
 public:
  TensorIndex tensor(std::string name, std::vector<std::int64_t> shape,
                     Role role, kernels::DType dtype);

  /// The tensor of that name, or one that is made as told: what a forward
  /// saved, or what its recomputation in this block has just made.
  TensorIndex kept(const std::string& name, std::vector<std::int64_t> shape,
                   kernels::DType dtype);
  /// A parameter or its gradient, the same for each use.
  TensorIndex weight(const std::string& name, std::vector<std::int64_t> shape,
                     Role role, kernels::DType dtype);

  /// Adds a compute operator that has no arithmetic of its own.
  void compute(std::string name, const kernels::OpShape& shape,
               std::vector<TensorIndex> inputs,
               std::vector<TensorIndex> outputs) {
    compute(std::move(name), Action::none, shape, std::move(inputs),
            std::move(outputs));
  }
  void compute(std::string name, Action action, const kernels::OpShape& shape,
               std::vector<TensorIndex> inputs,
               std::vector<TensorIndex> outputs, int round = 0);

  struct Exchange {
    clusters::Collective collective = clusters::Collective::all_reduce;
    Scope scope = Scope::tensor;
    Bytes bytes;
    bool prefetch = false;
    Action action = Action::none;
    int round = 0;
  };
  /// Adds a communication on the stream of its scope.
  void communicate(std::string name, const Exchange& exchange,
                   std::vector<TensorIndex> inputs,
                   std::vector<TensorIndex> outputs);

  /// The next compute operator also takes `tensor` as an operand.
  void require_next(TensorIndex tensor) { required_.push_back(tensor); }

  /// What comes from the block before and goes to the one after.
  void set_input(TensorIndex tensor) {
    block_.input = static_cast<std::int16_t>(tensor);
  }
  void set_output(TensorIndex tensor) {
    block_.output = static_cast<std::int16_t>(tensor);
  }

  /// The finished block; the builder is empty afterwards.
  Block finish(std::string name);

 private:
  void add(Operator op);

  Block block_;
  TensorIndex named(const std::string& name, std::vector<std::int64_t> shape,
                    Role role, kernels::DType dtype);

  std::vector<int> writer_;  ///< last operator that wrote a tensor, or -1
  std::vector<TensorIndex> required_;
};

/// Most bytes of temporaries alive at once, in list order.
Bytes peak_temporaries(const Block& block);

}  // namespace troupe::schedule
