// Turns what was performed into the answer of a run. Metrics are functions
// of a schedule and its timeline, whoever made it.
#pragma once

#include "clusters/cluster.h"
#include "results/run.h"
#include "schedule/schedule.h"
#include "sim/attribution.h"
#include "sim/engine.h"

namespace troupe::results {

/// A performed step and what it was performed on.
struct Performed {
  const schedule::Schedule& schedule;
  const clusters::Cluster& cluster;
  const sim::PriceList& prices;
  const sim::Activities& activities;
  const sim::Run& run;
  Bytes reserve;  ///< memory no task may use: driver context, NCCL buffers
};

/// The answer of a step: headline numbers, parts, memory, provenance.
///
/// Model: MFU = model FLOPs / (step x dense peak of the devices in use).
///        The breakdown is of the stage that waits least.
RunResult summarise(const Performed& performed);

/// Bars of the first pipelines for the picture, at most `most`.
std::vector<Bar> bars_of(const schedule::Schedule& schedule,
                         const sim::Run& run, int pipelines, std::size_t most);

}  // namespace troupe::results
