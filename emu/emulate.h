// A training run on emulated ranks.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "data/corpus.h"
#include "emu/checkpoint.h"
#include "emu/fault.h"
#include "emu/hub.h"
#include "emu/mpi.h"
#include "emu/reference.h"
#include "exec/session.h"

namespace troupe::emu {

/// A rank's device that is not host memory.
using MakeDevice =
    std::function<Result<std::unique_ptr<exec::Device>>(exec::RankId)>;

struct EmulationOptions {
  exec::Values start;           ///< empty: initial values of `seed`
  std::uint64_t seed = 1;       ///< of initial values
  std::int64_t first_step = 0;  ///< steps done before
  Checkpoint* saved = nullptr;  ///< gets the state after the last step
  exec::Training training;
  HubOptions hub;
  MakeDevice device;  ///< empty: host memory
  /// By part of the last step: the devices whose operators are kept.
  std::vector<std::vector<reshard::DeviceId>> recorded;
  std::optional<InjectedFault> fault;
  /// With MPI this process is one of the ranks; else it is all of them.
  MpiSession* mpi = nullptr;
};

/// Operators of one device in the last step, by virtual time.
struct DeviceTimes {
  reshard::DeviceId device;
  std::vector<exec::Performed> operators;  ///< of all parts
};

struct Emulation {
  int ranks = 0;
  std::vector<double> loss, gradient_norm;  ///< by step
  std::optional<Deviation> deviation;       ///< with a truth
  /// By step, and by segment what changing to it takes; empty without prices.
  std::vector<Time> virtual_steps, virtual_transitions;
  double slept_s = 0;  ///< real time of the last step, where ranks sleep
  /// By step: real time until the last rank (of this process) had ended it,
  /// without comparisons.
  std::vector<double> wall_steps_s;
  /// Of the last step, by the step's tasks.
  std::map<schedule::TaskId, exec::Span> tasks;
  /// Tasks of which ranks of the last step have different times; none.
  std::set<schedule::TaskId> disputed;
  std::vector<DeviceTimes> recorded;  ///< ascending
  Bytes most_memory;                  ///< of the rank that held most
  Bytes between_steps;                ///< that, when no step runs
};

/// Batches of every phase of a job, for one step; phases that the step does
/// not run have empty ones.
using StepBatches = std::vector<data::Batch>;

/// Steps under one strategy.
struct Segment {
  const exec::Job* job = nullptr;
  int steps = 1;
  /// From the segment before; empty for the first one.
  exec::StateMove move = {};
  /// Devices whose memory is gone when it begins.
  std::vector<reshard::DeviceId> lost = {};
  /// The job of the segment before goes on as it is; nothing moves.
  bool stays = false;
  /// Steps done before it (without EmulationOptions::first_step); absent:
  /// those of the segment before. Fewer: what devices have is dropped.
  std::optional<std::int64_t> begins = {};
  /// What its devices read from the checkpoint of step `begins`.
  exec::SpareLayouts read = {};
  /// Kept on peers from here on, renewed after every step; null: nothing.
  const exec::PeerCopies* copies = nullptr;
  const exec::JobPrices* prices = nullptr;  ///< of the job, or none
  /// What the move takes, its batches before a part that has no tasks.
  const exec::StepPrices* transition = nullptr;
};

/// Steps done before each step of the segments.
std::vector<std::int64_t> steps_before(std::span<const Segment> segments);

/// Ranks of all segments together, a device each.
exec::RankOf ranks_of(std::span<const Segment> segments);

/// The batches of every step of the segments, a function of corpus and seed.
std::vector<StepBatches> batches_of(std::span<const Segment> segments,
                                    const data::Corpus& corpus,
                                    std::uint64_t seed,
                                    std::int64_t first_step = 0);

/// Trains on all devices of the segments' jobs, segment after segment;
/// parameters and optimizer states move to each next strategy. With a `truth`
/// (of as many steps) every device's numbers are compared after every step.
/// Where segments have prices virtual time passes.
///
/// Under MPI every process gets the answer.
///
/// Errors: the first rank's that fails; under MPI that ends the process.
Result<Emulation> emulate(std::span<const Segment> segments,
                          const std::vector<StepBatches>& batches,
                          const EmulationOptions& options,
                          const std::vector<Snapshot>* truth = nullptr);

}  // namespace troupe::emu
