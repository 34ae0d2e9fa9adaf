#include "emu/emulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "emu/cpu_device.h"
#include "emu/gathered.h"
#include "emu/share.h"

namespace troupe::emu {
namespace {

/// What ranks put together; shared between the hub's threads.
struct Shared {
  std::mutex mutex;
  Emulation out;
};

/// One device through all segments.
class OneDevice {
 public:
  OneDevice(std::span<const Segment> segments, exec::Communicator& world,
            const exec::RankOf& rank_of, const EmulationOptions& options,
            const exec::Prices* prices)
      : segments_(segments),
        world_(world),
        rank_of_(rank_of),
        options_(options),
        prices_(prices) {
    for (const auto& [device, rank] : rank_of) {
      if (rank == world.rank()) self_ = device;
    }
  }

  Result<void> run(const std::vector<StepBatches>& batches,
                   const std::vector<Snapshot>* truth, Shared& shared) {
    TRY_DO(compare_schedules());
    std::size_t step = 0;
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      TRY_DO(enter(s));
      for (int i = 0; i < segments_[s].steps; ++i, ++step) {
        TRY_DO(break_down(static_cast<int>(step) + 1));
        if (!session_) continue;
        TRY(const exec::StepResult result,
            session_->step(
                batches[step], options_.training,
                options_.first_step + static_cast<std::int64_t>(step) + 1));
        TRY_DO(account(step, result, truth, shared));
      }
    }
    const std::scoped_lock lock(shared.mutex);
    shared.out.most_memory =
        std::max(shared.out.most_memory, device_.most_held());
    exec::Interpreter* const updater = session_ ? session_->updater() : nullptr;
    if (updater != nullptr && options_.saved != nullptr) {
      TRY_DO(collect(updater->weights(), device_, *options_.saved));
    }
    const auto rank = recorded_rank(segments_.size() - 1);
    if (rank && updater != nullptr) {
      shared.out.recorded.push_back(
          {*rank, updater->operators(), updater->tasks()});
    }
    return {};
  }

 private:
  /// This device's rank in the first phase of a segment, if it is one whose
  /// times are kept.
  std::optional<exec::RankId> recorded_rank(std::size_t segment) const {
    const exec::RankOf& ranks = segments_[segment].job->phases[0].rank_of;
    const auto it = ranks.find(self_);
    if (it == ranks.end()) return {};
    const auto wanted = std::ranges::find(options_.recorded, it->second);
    if (wanted == options_.recorded.end()) return {};
    return it->second;
  }

  /// Ranks of one process share schedules; others might have read another.
  Result<void> compare_schedules() {
    const auto& fault = options_.fault;
    const bool differs = fault && fault->kind == FaultKind::hash;
    if (options_.mpi == nullptr && !differs) return {};
    std::string what =
        fmt::format("seed {}, {} steps done, rate {}", options_.seed,
                    options_.first_step, options_.training.rate);
    for (const Segment& segment : segments_) {
      what += fmt::format(", {} steps of", segment.steps);
      for (const exec::Program& phase : segment.job->phases) {
        what += fmt::format(" schedule {}", phase.hash);
      }
    }
    if (differs && fault->rank == world_.rank()) what = "a fault, " + what;
    return agree(world_, static_cast<int>(rank_of_.size()), what);
  }

  /// Does what the options ask of this rank at the start of a step.
  Result<void> break_down(int step) {
    const auto& fault = options_.fault;
    if (!fault || fault->rank != world_.rank() || fault->step != step) {
      return {};
    }
    switch (fault->kind) {
      case FaultKind::die: {
        const std::string text =
            fmt::format("dies at the start of step {}, as asked for", step);
        if (options_.mpi != nullptr) options_.mpi->die(text);
        return fail(Fault::unavailable, text);
      }
      case FaultKind::hang: {
        if (options_.mpi != nullptr) options_.mpi->hang();
        Time never;
        return world_.receive(world_.rank(), ~exec::Tag{}, {}, never);
      }
      case FaultKind::size:
        world_.shorten_next();
        return {};
      case FaultKind::hash:
        return {};
    }
    return {};
  }

  /// Makes the segment's session and takes over from the one before.
  Result<void> enter(std::size_t s) {
    const exec::Job& job = *segments_[s].job;
    std::unique_ptr<exec::Session> next;
    if (job.rank_of.contains(self_)) {
      const exec::Prices* const first[] = {prices_};
      next = std::make_unique<exec::Session>(job, self_, device_, world_,
                                             rank_of_, first);
      if (next->updater() != nullptr) {
        next->updater()->keep_operators(options_.records_operators &&
                                        recorded_rank(s).has_value());
      }
      TRY_DO(next->initialise(options_.start
                                  ? options_.start
                                  : exec::initial_values(options_.seed)));
    }
    if (s > 0) {
      TRY_DO(exec::Session::take_over(segments_[s].move, session_.get(),
                                      next.get(), self_, device_, world_,
                                      rank_of_));
    }
    session_ = std::move(next);
    return {};
  }

  Result<void> account(std::size_t i, const exec::StepResult& result,
                       const std::vector<Snapshot>* truth, Shared& shared) {
    exec::Interpreter* const updater = session_->updater();
    Deviation deviation;
    if (truth != nullptr) {
      const Snapshot& s = (*truth)[i];
      if (updater != nullptr) {
        TRY(deviation, compare(updater->weights(), device_, s));
      }
      deviation.loss =
          std::abs(result.loss - s.loss) / std::max(std::abs(s.loss), 1e-300);
    }
    const std::scoped_lock lock(shared.mutex);
    Emulation& out = shared.out;
    if (out.loss.size() <= i) {
      out.loss.resize(i + 1);
      out.gradient_norm.resize(i + 1);
      out.virtual_step = {};
    }
    out.loss[i] = result.loss;
    if (updater != nullptr) out.gradient_norm[i] = result.gradient_norm;
    out.virtual_step = std::max(out.virtual_step, result.virtual_end);
    if (truth != nullptr) {
      if (!out.deviation) out.deviation.emplace();
      out.deviation->merge(deviation);
    }
    return {};
  }

  std::span<const Segment> segments_;
  FaultyCommunicator world_;
  const exec::RankOf& rank_of_;
  const EmulationOptions& options_;
  const exec::Prices* prices_;
  reshard::DeviceId self_;
  CpuDevice device_;
  std::unique_ptr<exec::Session> session_;
};

}  // namespace

exec::RankOf ranks_of(std::span<const Segment> segments) {
  exec::RankOf out;
  for (const Segment& segment : segments) {
    for (const auto& [device, rank] : segment.job->rank_of) {
      out.try_emplace(device);
    }
  }
  std::size_t count = 0;
  for (auto& [device, rank] : out) rank = make_id<exec::RankId>(count++);
  return out;
}

std::vector<StepBatches> batches_of(std::span<const Segment> segments,
                                    const data::Corpus& corpus,
                                    std::uint64_t seed,
                                    std::int64_t first_step) {
  std::vector<StepBatches> out;
  for (const Segment& segment : segments) {
    for (int i = 0; i < segment.steps; ++i) {
      const std::int64_t step = first_step + std::ssize(out);
      StepBatches batches;
      for (std::size_t k = 0; k < segment.job->phases.size(); ++k) {
        const schedule::Schedule& s = segment.job->phases[k].schedule;
        batches.push_back(data::make_batch(corpus, s.micro_batches,
                                           s.numerics.vocab, seed + 1000003 * k,
                                           step, s.numerics.max_positions));
      }
      out.push_back(std::move(batches));
    }
  }
  return out;
}

Result<Emulation> emulate(std::span<const Segment> segments,
                          const std::vector<StepBatches>& batches,
                          const EmulationOptions& options,
                          const std::vector<Snapshot>* truth,
                          const exec::Prices* prices) {
  const exec::RankOf rank_of = ranks_of(segments);
  Shared shared;
  const auto work = [&](exec::Communicator& world) {
    // Large objects of a rank live on the heap, not on the fibre's stack.
    const auto one =
        std::make_unique<OneDevice>(segments, world, rank_of, options, prices);
    return one->run(batches, truth, shared);
  };
  if (options.mpi != nullptr) {
    exec::Communicator& world = options.mpi->communicator();
    Result<void> done = work(world);
    if (done) {
      done = gather(world, segments, prices, shared.out, options.saved);
    }
    if (!done) options.mpi->give_up(done.error());
  } else {
    Hub hub(static_cast<int>(rank_of.size()), options.hub);
    TRY_DO(hub.run(work));
  }
  shared.out.ranks = static_cast<int>(rank_of.size());
  std::ranges::sort(shared.out.recorded, {},
                    [](const RankTimes& t) { return t.rank; });
  return std::move(shared.out);
}

}  // namespace troupe::emu
