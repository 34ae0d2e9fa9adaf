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

  /// ZeRO 3: parameters named from here on are gathered by an operator that
  /// stands here, and released by the last operator that reads them. It moves
  /// their bytes, and no less than `least`.
  void gather_weights(Scope scope, Bytes least);
  /// The next compute operator needs the gathered weights in some way.
  void require_weights() { requires_weights_ = gather_ >= 0; }
  /// ZeRO 2 and 3: gradients named from here on are this block's alone, until
  /// `reduce_gradients` sends them to their owners.
  void scatter_gradients() { scatters_ = true; }
  std::int64_t scattered_elements() const;
  /// Of so many elements, in `dtype` on the wire. Waits for all computation
  /// of the block so far.
  void reduce_gradients(Scope scope, std::int64_t elements,
                        kernels::DType dtype);

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
  void release_weights();

  Block block_;
  TensorIndex named(const std::string& name, std::vector<std::int64_t> shape,
                    Role role, kernels::DType dtype);

  std::vector<int> writer_;  ///< last operator that wrote a tensor, or -1
  std::vector<TensorIndex> required_;
  int gather_ = -1;  ///< the operator that gathers weights
  bool requires_weights_ = false;
  bool scatters_ = false;
};

/// Most bytes of temporaries (and what is gathered or scattered) alive at
/// once, in list order.
Bytes peak_temporaries(const Block& block);

}  // namespace troupe::schedule
