// Performs a schedule on one rank: the one interpreter, whatever the device
// and the communicator.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "exec/clock.h"
#include "exec/communicator.h"
#include "exec/device.h"
#include "exec/program.h"
#include "exec/step_clock.h"
#include "exec/weights.h"

namespace troupe::exec {

/// What a step came to, the same on every rank.
struct StepResult {
  double loss = 0;           ///< mean over all labels
  double gradient_norm = 0;  ///< of all gradients, before clipping
  Time virtual_end;          ///< when this rank had ended, by the price list
};

/// One rank of a running job.
class Interpreter {
 public:
  /// `prices` may be null: then no virtual time passes.
  Interpreter(const Program& program, RankId rank, Device& device,
              Communicator& communicator, const Prices* prices = nullptr);
  ~Interpreter();

  Result<void> initialise(const Values& values);
  /// Forward and backward of all micro-batches, gradient sync, AdamW number
  /// `step` (from 1), parameters to where they are used.
  ///
  /// Model:  gradients of the sum of all losses divided by the number of
  ///         labels of the whole batch.
  /// Errors: of the device and the communicator.
  Result<StepResult> step(const data::Batch& batch, const Training& training,
                          std::int64_t step);

  /// The first half of a step: forward and backward of all micro-batches and
  /// the sum of gradients over all ranks. `labels`: of the whole step, which
  /// may have other phases. Returns the sum of this rank's losses.
  Result<double> accumulate(const data::Batch& batch, std::int64_t labels);
  /// The second half: norm, AdamW number `step`, and with `gathers` parameters
  /// to where they are used. `loss_sum`: of this rank.
  Result<StepResult> update(const Training& training, std::int64_t step,
                            double loss_sum, bool gathers = true);

  /// Before a step: forgets the times of the last one.
  void begin_step();
  /// What follows is a part of the clock's step. The clock outlives it.
  void take_part(StepClock& clock, std::size_t part);

  Weights& weights();
  /// Operators of the last step in virtual time; kept when asked for.
  void keep_operators(bool keep);
  const std::vector<Performed>& operators() const;
  /// Start and end of the stage's tasks and hand-overs in the last step.
  const std::map<schedule::TaskId, std::pair<Time, Time>>& tasks() const;

 private:
  class Runner;
  std::unique_ptr<Runner> runner_;
};

}  // namespace troupe::exec
