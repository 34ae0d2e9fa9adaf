// Who tells the runs of a trace what steps take: the simulator.
#pragma once

#include "cli/simulation.h"
#include "runs/elastic_run.h"

namespace troupe::cli {

/// Both must outlive it.
runs::Machinery simulator(const runs::Trace& trace,
                          const profiles::CostModel& costs);

}  // namespace troupe::cli
