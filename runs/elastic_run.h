// A run over a trace: steps, losses, recoveries and changes of strategy in
// wall time, and what of it was useful.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "reshard/senders.h"
#include "runs/elastic_account.h"
#include "runs/elastic_condition.h"
#include "runs/elastic_trace.h"
#include "runs/recovery.h"

namespace troupe::runs {

/// Peak of a device during a step.
struct DeviceMemory {
  DeviceId device;
  Bytes peak, limit;
};

/// What one step of a strategy takes.
struct StepPerformance {
  Time step;
  std::int64_t tokens = 0;
  double model_flops = 0;
  double mfu = 0;  ///< against the devices that the strategy uses
  bool out_of_memory = false;
  std::vector<DeviceMemory> memory;
};

/// Who knows step times and link rates; the simulator, or a test.
struct Machinery {
  std::function<Result<StepPerformance>(const Candidate&,
                                        const clusters::Cluster& in_condition,
                                        const Condition&)>
      step;
  /// Rates of the links of a cluster in its condition.
  std::function<Result<reshard::Rates>(const clusters::Cluster&)> rates;
};

/// What a system does about a loss.
enum class Policy : std::uint8_t {
  elastic,  ///< survivors' state moves to the next strategy of the trace
  restart,  ///< everything starts again from the checkpoint, with the fastest
            ///< equal-pipeline strategy that fits
  stop,     ///< the run ends at the first loss
  drop,     ///< pipelines with a lost device are left out
};
std::string_view name_of(Policy policy);

/// Consecutive steps with one strategy in one condition.
struct Segment {
  std::string strategy;
  int gpus = 0;
  Time from, to;
  std::int64_t steps = 0;   ///< finished
  std::int64_t voided = 0;  ///< of them, undone later
  Time step;                ///< without copies for peers
  Time copying;             ///< of them, after each step
  double mfu = 0;
  std::int64_t tokens = 0;  ///< a step's
  double flops = 0;         ///< model FLOPs of a step
  bool out_of_memory = false;
};

/// One change of strategy, or one recovery.
struct Change {
  Time at;  ///< of the event
  std::string event, from, to;
  std::int64_t voided = 0;  ///< steps undone
  bool from_checkpoint = false;
  bool finished = false;  ///< false: another event broke it off
  Survival survival;      ///< of the state before; empty lists of holders
  WallTime wall;          ///< detecting to moving
  /// The exchange between devices.
  Bytes moved, read, copied;
  Bytes packed;  ///< most packed and received on one device at a time
  Bytes peak;    ///< with old and new state
  DeviceId fullest;
  bool out_of_memory = false;
  std::int64_t messages = 0;
  std::int64_t verified = 0;  ///< tensors whose plan the checker passed
  reshard::Makespan makespan;
  Time predicted;
  reshard::SenderRule senders = reshard::SenderRule::balanced;
  std::vector<reshard::Makespan> by_rule;  ///< by SenderRule
};

struct Outcome {
  Policy policy = Policy::elastic;
  std::vector<Segment> segments;
  std::vector<Change> changes;
  WallTime wall;            ///< adds up to the run
  std::int64_t steps = 0;   ///< that lived to the end
  std::int64_t voided = 0;  ///< that did not
  std::int64_t saves = 0;
  Time save;                ///< of one checkpoint
  std::int64_t tokens = 0;  ///< of the steps that lived
  double model_flops = 0;
  double tokens_per_s = 0;  ///< of the run's wall time: goodput
  double mfu = 0;           ///< against the devices that were there
  double mfu_whole = 0;     ///< against the whole cluster all the time
  Bytes copies;             ///< for peers, most on one device
  std::string stopped;      ///< why it did not go on, or empty
  std::vector<std::string> warnings;
};

/// Runs the trace under a policy. Under `restart` and `stop` nobody keeps
/// copies for peers.
///
/// Model:  A loss of a device in use breaks the step off (its gradients are
///         gone with it); after the detection time the run recovers: state of
///         the last finished step comes from survivors, or everything from
///         the last finished checkpoint when something is lost. A slow
///         device or link, or one that is back, is answered at the end of a
///         step. A step lives when its result is on devices or in a checkpoint
///         at the end of the run. Time is in whole picoseconds and every one is
///         accounted for.
/// Errors: of the machinery, and of planning. State that is lost without a
///         checkpoint is not an error: the run stops and says so.
[[nodiscard]] Result<Outcome> run_trace(const Trace& trace, Policy policy,
                                        const Machinery& machinery);

}  // namespace troupe::runs
