// Prices for the virtual clock: those that the simulator uses.
#pragma once

#include "exec/clock.h"
#include "sim/engine.h"
#include "sim/price.h"

namespace troupe::emu {

/// Tables of everything that `schedule` prices; the schedule must outlive
/// them. Hand-overs and syncs take what they take alone on the network.
exec::Prices virtual_prices(const schedule::Schedule& schedule,
                            sim::PriceList& prices,
                            const sim::Activities& activities);

/// What is different between the schedule that is priced and the one that is
/// performed (a shrunk model, another precision), or empty: tasks, blocks and
/// operators must be the same ones.
std::string structure_difference(const schedule::Schedule& priced,
                                 const schedule::Schedule& performed);

}  // namespace troupe::emu
