// Prices for the virtual clock: those that the simulator uses.
#pragma once

#include "exec/step_clock.h"
#include "runs/step_timeline.h"
#include "sim/engine.h"
#include "sim/price.h"

namespace troupe::emu {

/// Tables of everything that `schedule` prices; the schedule must outlive
/// them. Hand-overs and syncs take what they take alone on the network.
/// `activities` are disturbed already.
exec::Prices virtual_prices(const schedule::Schedule& schedule,
                            sim::PriceList& prices,
                            const sim::Activities& activities,
                            sim::Disturbed disturbed = {});

/// The graph of a step, its switches taking what they take alone.
exec::StepPrices virtual_step(const runs::StepTimeline& timeline);

/// What is different between the schedule that is priced and the one that is
/// performed (a shrunk model, another precision), or empty: tasks, blocks and
/// operators must be the same ones.
std::string structure_difference(const schedule::Schedule& priced,
                                 const schedule::Schedule& performed);

}  // namespace troupe::emu
