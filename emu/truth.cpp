#include "emu/truth.h"

#include <utility>

namespace troupe::emu {
namespace {

/// Steps by number of execution, one after the other on a device alone.
using Chain = std::vector<std::size_t>;

}  // namespace

Result<std::vector<Snapshot>> truth_of(std::span<const Segment> segments,
                                       const std::vector<StepBatches>& batches,
                                       const EmulationOptions& options,
                                       const ProgramFor& program_for) {
  std::vector<Snapshot> out(batches.size());
  const auto run = [&](const Chain& chain, std::size_t wanted) -> Result<void> {
    std::vector<StepBatches> list;
    for (const std::size_t i : chain) list.push_back(batches[i]);
    TRY(std::vector<Snapshot> snapshots,
        run_alone(
            program_for, list, options.training,
            options.start ? options.start : exec::initial_values(options.seed),
            options.first_step));
    for (std::size_t k = wanted; k < chain.size(); ++k) {
      out[chain[k]] = std::move(snapshots[k]);
    }
    return {};
  };
  Chain live;
  const std::vector<std::int64_t> before = steps_before(segments);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto kept = static_cast<std::size_t>(before[i]);
    if (kept < live.size()) {
      TRY_DO(run(live, kept));
      live.resize(kept);
    }
    live.push_back(i);
  }
  TRY_DO(run(live, 0));
  return out;
}

}  // namespace troupe::emu
