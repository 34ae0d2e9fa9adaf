// A training run on emulated ranks.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "data/corpus.h"
#include "emu/hub.h"
#include "emu/reference.h"
#include "exec/interpreter.h"

namespace troupe::emu {

struct EmulationOptions {
  int steps = 2;
  std::uint64_t seed = 1;
  exec::Training training;
  HubOptions hub;
  /// The ranks whose operators are kept, in the last step.
  std::vector<exec::RankId> recorded;
};

/// Virtual time of one rank in the last step.
struct RankTimes {
  exec::RankId rank;
  std::vector<exec::Performed> operators;
  std::map<schedule::TaskId, std::pair<Time, Time>> tasks;
};

struct Emulation {
  int ranks = 0;
  std::vector<double> loss, gradient_norm;  ///< by step
  std::optional<Deviation> deviation;       ///< with a truth
  Time virtual_step;  ///< of the last step; 0 without prices
  std::vector<RankTimes> recorded;
  Bytes most_memory;  ///< of the rank that held most
};

/// The batches of the run, a function of corpus and seed.
std::vector<data::Batch> batches_of(const schedule::Schedule& schedule,
                                    const data::Corpus& corpus,
                                    const EmulationOptions& options);

/// Trains on all ranks of the program. With a `truth` (of as many steps)
/// every rank's numbers are compared after every step. With `prices` virtual
/// time passes.
///
/// Errors: the first rank's that fails.
Result<Emulation> emulate(const exec::Program& program,
                          const std::vector<data::Batch>& batches,
                          const EmulationOptions& options,
                          const std::vector<Snapshot>* truth = nullptr,
                          const exec::Prices* prices = nullptr);

}  // namespace troupe::emu
