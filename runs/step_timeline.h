// Several phases of one step and the switches between them as one graph of
// tasks, that the engine performs like any other.
#pragma once

#include <span>
#include <vector>

#include "reshard/phases.h"
#include "schedule/schedule.h"
#include "sim/engine.h"

namespace troupe::runs {

/// What of a phase's schedule a step performs.
enum class Doing : std::uint8_t {
  gradients,  ///< all but the update: gradients end synchronised
  all,        ///< as it is
  update,     ///< the update alone: gradients come from elsewhere
};

/// One phase as it is performed within a step.
struct StepPart {
  const schedule::Schedule* schedule = nullptr;
  std::size_t phase = 0;        ///< of the strategy
  std::vector<Time> durations;  ///< of compute tasks, by task
  sim::Activities activities;
  Doing doing = Doing::gradients;
};

/// What a switch waits for and who waits for it.
enum class Waiting : std::uint8_t {
  /// A message waits for what its two devices computed before; a stage waits
  /// for what it receives.
  overlapped,
  /// A switch begins when everything before it has ended, bucket after
  /// bucket, and everything after it waits.
  apart,
  /// As overlapped, with switches that take no time.
  without,
};

/// The tasks of a step, with which are whose.
struct StepTimeline {
  schedule::Schedule schedule;  ///< tasks, orders and dependencies only
  std::vector<Time> durations;
  sim::Activities activities;
  std::vector<std::vector<schedule::TaskId>> parts;  ///< by part
  /// By part and task of its schedule; no task where it is left out.
  std::vector<std::vector<schedule::TaskId>> tasks_of;
  std::vector<std::vector<schedule::TaskId>> switches;  ///< by switch
  std::size_t buckets = 0;                              ///< of all switches
  std::vector<std::vector<clusters::DeviceId>> stages;  ///< devices, by StageId
  /// Devices and bucket of a task of `switches`.
  struct Batch {
    std::vector<clusters::DeviceId> devices;
    std::size_t bucket = 0;
  };
  std::vector<std::vector<Batch>> batches;  ///< in the order of `switches`
};

/// How a step's parts and switches are put together.
struct TimelineOptions {
  Waiting waiting = Waiting::overlapped;
  const schedule::Disturbance* disturbance = nullptr;  ///< of switches
};

/// Puts parts and switches together: switch k comes before part k.
///
/// Model:  A stage of a part begins when the stages that had
///         its devices before have computed all, and all parameters it
///         receives are there. Parameters leave a stage when it and the
///         receiver have computed all of the part before. Gradients leave
///         when both have synchronised theirs and, at the sender, those of
///         earlier parts have arrived and been added; an update waits for
///         all gradients. Buckets follow each other on every device, so that
///         no device has two in memory. Messages between the same stages
///         travel together; each such batch starts with kStart, and its
///         packing and unpacking pass through memory.
/// Requires: as many switches as parts, made for them in this order (none
///           for a single part).
StepTimeline step_timeline(std::span<const StepPart> parts,
                           std::span<const reshard::PhaseSwitch> switches,
                           const clusters::Cluster& cluster,
                           const sim::Network& network,
                           const TimelineOptions& options);

/// A switch by itself, between steps, before `next` runs: its states.
StepTimeline switch_timeline(const reshard::PhaseSwitch& change,
                             const schedule::Schedule& next,
                             const clusters::Cluster& cluster,
                             const sim::Network& network,
                             const TimelineOptions& options);

}  // namespace troupe::runs
