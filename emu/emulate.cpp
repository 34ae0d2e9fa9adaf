#include "emu/emulate.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "emu/cpu_device.h"

namespace troupe::emu {
namespace {

/// What ranks put together; shared between the hub's threads.
struct Shared {
  std::mutex mutex;
  Emulation out;
};

class OneRank {
 public:
  OneRank(const exec::Program& program, exec::Communicator& communicator,
          const EmulationOptions& options, const exec::Prices* prices)
      : options_(options),
        rank_(communicator.rank()),
        interpreter_(program, rank_, device_, communicator, prices) {
    interpreter_.keep_operators(std::ranges::find(options.recorded, rank_) !=
                                options.recorded.end());
  }

  Result<void> run(const std::vector<data::Batch>& batches,
                   const std::vector<Snapshot>* truth, Shared& shared) {
    TRY_DO(interpreter_.initialise(options_.seed));
    for (std::size_t i = 0; i < batches.size(); ++i) {
      TRY(const exec::StepResult result,
          interpreter_.step(batches[i], options_.training,
                            static_cast<std::int64_t>(i) + 1));
      TRY_DO(account(i, result, truth, shared));
    }
    const std::scoped_lock lock(shared.mutex);
    shared.out.most_memory =
        std::max(shared.out.most_memory, device_.most_held());
    if (std::ranges::find(options_.recorded, rank_) !=
        options_.recorded.end()) {
      shared.out.recorded.push_back(
          {rank_, interpreter_.operators(), interpreter_.tasks()});
    }
    return {};
  }

 private:
  Result<void> account(std::size_t i, const exec::StepResult& result,
                       const std::vector<Snapshot>* truth, Shared& shared) {
    Deviation deviation;
    if (truth != nullptr) {
      const Snapshot& s = (*truth)[i];
      TRY(deviation, compare(interpreter_.weights(), device_, s));
      deviation.loss =
          std::abs(result.loss - s.loss) / std::max(std::abs(s.loss), 1e-300);
    }
    const std::scoped_lock lock(shared.mutex);
    Emulation& out = shared.out;
    if (out.loss.size() == i) {
      out.loss.push_back(result.loss);
      out.gradient_norm.push_back(result.gradient_norm);
      out.virtual_step = {};
    }
    out.virtual_step = std::max(out.virtual_step, result.virtual_end);
    if (truth != nullptr) {
      if (!out.deviation) out.deviation.emplace();
      out.deviation->merge(deviation);
    }
    return {};
  }

  const EmulationOptions& options_;
  exec::RankId rank_;
  CpuDevice device_;
  exec::Interpreter interpreter_;
};

}  // namespace

std::vector<data::Batch> batches_of(const schedule::Schedule& schedule,
                                    const data::Corpus& corpus,
                                    const EmulationOptions& options) {
  std::vector<data::Batch> out;
  for (int step = 0; step < options.steps; ++step) {
    out.push_back(data::make_batch(corpus, schedule.micro_batches,
                                   schedule.numerics.vocab, options.seed, step,
                                   schedule.numerics.max_positions));
  }
  return out;
}

Result<Emulation> emulate(const exec::Program& program,
                          const std::vector<data::Batch>& batches,
                          const EmulationOptions& options,
                          const std::vector<Snapshot>* truth,
                          const exec::Prices* prices) {
  Shared shared;
  const int ranks = static_cast<int>(program.schedule.ranks.size());
  Hub hub(ranks, options.hub);
  TRY_DO(hub.run([&](exec::Communicator& communicator) {
    // Large objects of a rank live on the heap, not on the fibre's stack.
    const auto one =
        std::make_unique<OneRank>(program, communicator, options, prices);
    return one->run(batches, truth, shared);
  }));
  shared.out.ranks = ranks;
  std::ranges::sort(shared.out.recorded, {},
                    [](const RankTimes& t) { return t.rank; });
  return std::move(shared.out);
}

}  // namespace troupe::emu
