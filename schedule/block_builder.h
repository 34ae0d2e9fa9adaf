// Writes a block operator by operator and works out what follows from the
// operands: waits between streams, saved bytes, workspace, FLOPs.
#pragma once

#include <initializer_list>
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

  /// Adds a compute operator.
  void compute(std::string name, const kernels::OpShape& shape,
               std::initializer_list<TensorIndex> inputs,
               std::initializer_list<TensorIndex> outputs);

  struct Exchange {
    clusters::Collective collective = clusters::Collective::all_reduce;
    Scope scope = Scope::tensor;
    Bytes bytes;
    bool prefetch = false;
  };
  /// Adds a communication on the stream of its scope.
  void communicate(std::string name, const Exchange& exchange,
                   std::initializer_list<TensorIndex> inputs,
                   std::initializer_list<TensorIndex> outputs);

  /// The next compute operator also takes `tensor` as an operand.
  void require_next(TensorIndex tensor) { required_.push_back(tensor); }

  /// The finished block; the builder is empty afterwards.
  Block finish(std::string name);

 private:
  void add(Operator op);

  Block block_;
  std::vector<int> writer_;  ///< last operator that wrote a tensor, or -1
  std::vector<TensorIndex> required_;
};

/// Most bytes of temporaries alive at once, in list order.
Bytes peak_temporaries(const Block& block);

}  // namespace troupe::schedule
