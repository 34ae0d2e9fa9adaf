// HotSPa's training step: several phases, each with its own strategy and its
// part of the step's sequences, one update at the end, and the switches
// between them, performed on one clock.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "profiles/cost.h"
#include "reshard/phases.h"
#include "runs/step_timeline.h"

namespace troupe::runs {

struct StepOptions {
  /// How switches are planned; `options.bucket` is the limit of memory that
  /// packing and receiving may take of a device.
  reshard::SwitchSettings switching;
  /// Launching an operator takes the host this long.
  Time host_per_operator;
  /// fp32 masters are whole on every device and only moments are shared out,
  /// as HotSPa keeps them; else ZeRO shares out both. Counts for memory only.
  bool whole_masters = false;
  bool slices = false;  ///< whether StepTimes::slices is wanted
  /// Noise and slow devices, or null.
  const schedule::Disturbance* disturbance = nullptr;
};

/// A step put together, not yet performed.
struct StepGraph {
  std::vector<StepPart> parts;
  std::vector<reshard::PhaseSwitch> switches;  ///< each before its part
};

/// From the first start to the last end.
struct Window {
  Time start, end;
  Time length() const { return end - start; }
  bool operator==(const Window&) const = default;
};

/// Something that a device does for a while, for pictures.
struct StepSlice {
  clusters::DeviceId device;
  bool switches = false;  ///< packs, sends and receives; else computes
  std::size_t place = 0;  ///< of the phase or switch in the step
  schedule::TaskKind kind = schedule::TaskKind::layout_switch;
  int micro_batch = -1;
  Window window;
};

struct PhaseTime {
  std::size_t phase = 0;  ///< of the strategy
  std::string name;
  Doing doing = Doing::gradients;
  std::int64_t tokens = 0;
  Window window;   ///< in the step
  Time by_itself;  ///< with nothing else on the cluster
  /// Of the fullest device: what the phase needs, with the optimizer states
  /// that the device keeps for the step's last phase.
  Bytes memory;
};

struct SwitchTime {
  reshard::PhaseSwitch plans;
  Window window;   ///< in the step, overlapping what it may
  Time by_itself;  ///< bucket after bucket with nothing else on the cluster
};

struct StepTimes {
  /// The step. Switches overlap computation, unless (which sharing of links
  /// can bring about) the step is shorter when they stand apart.
  Time step;
  bool overlapped = true;
  /// With switches apart: the sum of all `by_itself`, to the last tick.
  Time apart;
  Time without;      ///< were switches instantaneous
  Time uncontended;  ///< overlapped, every communication alone on its links
  /// Of the step; negative only where instantaneous switches would make
  /// computation meet more traffic.
  Time in_switches() const { return step - without; }
  std::vector<PhaseTime> phases;     ///< in the order they run
  std::vector<SwitchTime> switches;  ///< each before the phase of its place
  Bytes buffers;  ///< most packed and received at once on one device
  /// Most over the limit of a device, of `memory` against the device's; less
  /// than 0 while all fits.
  Bytes over_memory;
  std::int64_t tokens = 0;
  Flops model_flops;
  double mfu = 0;  ///< of the devices that any phase uses
  /// By device; those of one kind on one device do not overlap.
  std::vector<StepSlice> slices;
};

/// The step of `perform_step`, and of `perform_bridged_step`.
[[nodiscard]] Result<StepGraph> step_graph(
    const strategy::Plan& plan, std::span<const std::size_t> order,
    std::span<const schedule::Schedule> schedules, const sim::Network& network,
    const profiles::CostModel& costs, const StepOptions& options = {});
[[nodiscard]] Result<StepGraph> bridged_graph(
    const strategy::Plan& plan, std::size_t states, std::size_t phase,
    const schedule::Schedule& states_schedule,
    const schedule::Schedule& schedule, const sim::Network& network,
    const profiles::CostModel& costs, const StepOptions& options = {});

/// Performs one step that runs `order` (phases of the plan's strategy, the
/// one with the optimizer states last).
///
/// `schedules` are those phases lowered, in that order, and outlive the call.
///
/// Errors: as `plan_switch`, so infeasible for a limit of memory that cannot
///         be kept, naming the smallest possible; as `perform`.
[[nodiscard]] Result<StepTimes> perform_step(
    const strategy::Plan& plan, std::span<const std::size_t> order,
    std::span<const schedule::Schedule> schedules,
    const profiles::CostModel& costs, const StepOptions& options = {});

/// One step of Hydraulis: forward and backward under `phase`, optimizer states
/// in the layout of phase `states`. Before it parameters go from where their
/// masters are to where the phase computes with them, afterwards the
/// synchronised gradients to where they are applied: two bridges.
///
/// Model:  the masters' owners send copies in the working type; there is no
///         gathering of parameters after the update, the next step's bridge
///         is that.
/// Errors: as `perform_step`.
[[nodiscard]] Result<StepTimes> perform_bridged_step(
    const strategy::Plan& plan, std::size_t states, std::size_t phase,
    const schedule::Schedule& states_schedule,
    const schedule::Schedule& schedule, const profiles::CostModel& costs,
    const StepOptions& options = {});

}  // namespace troupe::runs
