#include "emu/emulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "emu/cpu_device.h"
#include "emu/gathered.h"
#include "emu/share.h"
#include "exec/staged_communicator.h"

namespace troupe::emu {
namespace {

/// What ranks put together; shared between the hub's threads.
struct Shared {
  std::mutex mutex;
  Emulation out;
  /// By steps done; those that a later segment reads.
  std::map<std::int64_t, Checkpoint> checkpoints;
  std::set<std::int64_t> whole;  ///< under MPI: with all processes' parts
};

/// Number of the run's last step, from 0.
std::int64_t last_step(std::span<const Segment> segments,
                       const EmulationOptions& options) {
  const std::vector<std::int64_t> before = steps_before(segments);
  return options.first_step + (before.empty() ? -1 : before.back());
}

/// Whatever is not replaced before it is used shows.
double not_there(const models::Parameter&, exec::State, std::int64_t) {
  return std::numeric_limits<double>::quiet_NaN();
}

/// One device through all segments.
class OneDevice {
 public:
  OneDevice(std::span<const Segment> segments, exec::Communicator& world,
            const exec::RankOf& rank_of, const EmulationOptions& options,
            std::unique_ptr<exec::Device> own)
      : segments_(segments),
        world_(world),
        rank_of_(rank_of),
        options_(options),
        last_step_(last_step(segments, options)),
        own_(std::move(own)),
        device_(own_ ? *own_ : host_) {
    if (own_) staged_.emplace(world_, device_);
    for (const auto& [device, rank] : rank_of) {
      if (rank == world.rank()) self_ = device;
    }
  }

  Result<void> run(const std::vector<StepBatches>& batches,
                   const std::vector<Snapshot>* truth, Shared& shared) {
    TRY_DO(compare_schedules());
    const std::vector<std::int64_t> before = steps_before(segments_);
    std::size_t step = 0;
    for (std::size_t s = 0; s < segments_.size(); ++s) {
      TRY_DO(enter(s, shared));
      for (int i = 0; i < segments_[s].steps; ++i, ++step) {
        TRY_DO(break_down(static_cast<int>(step) + 1));
        TRY_DO(keep_pace(s));
        if (!session_) continue;
        const std::int64_t done = before[step] + 1;
        const auto from = std::chrono::steady_clock::now();
        TRY(const exec::StepResult result,
            session_->step(batches[step], options_.training,
                           options_.first_step + done));
        TRY_DO(device_.finish());
        keep_wall_time(step, from, shared);
        if (session_->clock() != nullptr) wall_s_ = session_->clock()->wall_s();
        TRY_DO(account(step, result, truth, shared));
        TRY_DO(keep(s, done, shared));
      }
    }
    const std::scoped_lock lock(shared.mutex);
    shared.out.most_memory =
        std::max(shared.out.most_memory, device_.most_held());
    shared.out.between_steps =
        std::max(shared.out.between_steps, device_.held());
    exec::Interpreter* const updater = session_ ? session_->updater() : nullptr;
    if (updater != nullptr && options_.saved != nullptr) {
      TRY_DO(collect(updater->weights(), device_, *options_.saved));
    }
    if (session_ && session_->clock() != nullptr) keep_times(shared.out);
    return {};
  }

 private:
  /// Keeps the operators of the last step's parts in which this device is
  /// one of those that are recorded.
  void keep_operators(exec::Session& session, const exec::Job& job) const {
    const auto order = job.order(last_step_);
    for (std::size_t k = 0; k < options_.recorded.size(); ++k) {
      exec::Interpreter* const rank = session.interpreter(order[k]);
      if (rank == nullptr) continue;
      if (std::ranges::find(options_.recorded[k], self_) !=
          options_.recorded[k].end()) {
        rank->keep_operators(true);
      }
    }
  }

  static void keep_wall_time(std::size_t step,
                             std::chrono::steady_clock::time_point from,
                             Shared& shared) {
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - from;
    const std::scoped_lock lock(shared.mutex);
    auto& times = shared.out.wall_steps_s;
    if (times.size() <= step) times.resize(step + 1);
    times[step] = std::max(times[step], took.count());
  }

  /// How tensors travel.
  exec::Communicator& tensors() {
    return staged_ ? static_cast<exec::Communicator&>(*staged_) : world_;
  }

  /// What this device knows of the last step's times.
  void keep_times(Emulation& out) {
    if (segments_.back().prices->sleep > 0) {
      out.slept_s = std::max(out.slept_s, wall_s_);
    }
    for (const auto& [task, span] : session_->clock()->spans()) {
      const auto [it, fresh] = out.tasks.try_emplace(task, span);
      if (!fresh && it->second != span) out.disputed.insert(task);
    }
    DeviceTimes times{self_, {}};
    std::set<std::size_t> seen;
    for (const std::size_t k : segments_.back().job->order(last_step_)) {
      exec::Interpreter* const rank = session_->interpreter(k);
      if (rank == nullptr || !seen.insert(k).second) continue;
      times.operators.insert(times.operators.end(), rank->operators().begin(),
                             rank->operators().end());
    }
    if (!times.operators.empty()) out.recorded.push_back(std::move(times));
  }

  Result<void> pass_transition(std::size_t s, Shared& shared) {
    if (segments_[s].transition == nullptr) return {};
    exec::StepClock clock(*segments_[s].transition, self_, rank_of_, world_);
    TRY_DO(clock.pass_switch(0));
    const std::scoped_lock lock(shared.mutex);
    auto& times = shared.out.virtual_transitions;
    if (times.size() <= s) times.resize(s + 1);
    times[s] = std::max(times[s], clock.end());
    return {};
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
      if (segment.begins) what += fmt::format(" step {} on,", *segment.begins);
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

  /// Under MPI a device without a part in a segment waits for each of its
  /// steps, not for all of them: waits have a limit.
  Result<void> keep_pace(std::size_t s) {
    if (options_.mpi == nullptr ||
        segments_[s].job->rank_of.size() == rank_of_.size()) {
      return {};
    }
    Time unused;
    return world_.meet(exec::everyone(rank_of_.size()), unused);
  }

  /// Makes the segment's session and takes over from the one before.
  Result<void> enter(std::size_t s, Shared& shared) {
    const Segment& segment = segments_[s];
    if (std::ranges::find(segment.lost, self_) != segment.lost.end()) {
      session_.reset();
      copies_.reset();
    }
    if (segment.stays) return {};
    TRY(std::unique_ptr<exec::Session> next, session_of(s));
    if (s > 0) TRY_DO(take_over(s, next.get(), shared));
    session_ = std::move(next);
    copies_.reset();
    if (session_ == nullptr || segment.copies == nullptr) return {};
    TRY(exec::Spares made,
        exec::Spares::of(segment.job->phases[0], segment.copies->held, self_,
                         device_));
    copies_ = std::make_unique<exec::Spares>(std::move(made));
    return session_->update_copies(*segment.copies, copies_.get());
  }

  /// Null for a device that has no part in the segment.
  Result<std::unique_ptr<exec::Session>> session_of(std::size_t s) {
    const exec::Job& job = *segments_[s].job;
    std::unique_ptr<exec::Session> out;
    if (!job.rank_of.contains(self_)) return out;
    out = std::make_unique<exec::Session>(job, self_, device_, tensors(),
                                          rank_of_, segments_[s].prices);
    if (s + 1 == segments_.size()) keep_operators(*out, job);
    TRY_DO(out->initialise(s == 0 ? start() : not_there));
    return out;
  }

  exec::Values start() const {
    return options_.start ? options_.start
                          : exec::initial_values(options_.seed);
  }

  Result<void> take_over(std::size_t s, exec::Session* next, Shared& shared) {
    const Segment& segment = segments_[s];
    const exec::Program& program = segment.job->phases[0];
    exec::Session::Givers from;
    const bool undone = segment.begins && *segment.begins < done_;
    if (!undone) from = {session_.get(), {copies_.get()}};
    exec::Spares read;
    if (!segment.read.empty()) {
      TRY(const exec::Values values, saved_at(*segment.begins, s, shared));
      TRY(read, exec::Spares::of(program, segment.read, self_, device_));
      TRY_DO(read.fill(program, device_, values));
      from.spares.push_back(&read);
    }
    if (segment.begins) done_ = *segment.begins;
    TRY_DO(exec::Session::take_over(segment.move, from, next, self_, device_,
                                    tensors(), rank_of_));
    return pass_transition(s, shared);
  }

  /// The checkpoint of so many steps, when all ranks have given their part.
  Result<exec::Values> saved_at(std::int64_t steps, std::size_t s,
                                Shared& shared) {
    if (steps == 0) return start();
    Time unused;
    TRY_DO(world_.meet(exec::everyone(rank_of_.size()), unused));
    Checkpoint& saved = shared.checkpoints.at(steps);
    if (options_.mpi != nullptr && shared.whole.insert(steps).second) {
      TRY_DO(gather(world_, rank_of_.size(),
                    segments_[s].job->phases[0].weights, saved));
    }
    return values_of(saved);
  }

  /// Copies for peers and checkpoints, after a step.
  Result<void> keep(std::size_t s, std::int64_t done, Shared& shared) {
    done_ = done;
    if (segments_[s].copies != nullptr) {
      TRY_DO(session_->update_copies(*segments_[s].copies, copies_.get()));
    }
    const auto wanted = shared.checkpoints.find(done);
    exec::Interpreter* const updater = session_->updater();
    if (wanted == shared.checkpoints.end() || updater == nullptr) return {};
    const std::scoped_lock lock(shared.mutex);
    if (shared.whole.erase(done) > 0) wanted->second = {};
    return collect(updater->weights(), device_, wanted->second);
  }

  Result<void> account(std::size_t i, const exec::StepResult& result,
                       const std::vector<Snapshot>* truth, Shared& shared) {
    exec::Interpreter* const updater = session_->updater();
    Deviation deviation;
    if (truth != nullptr) {
      const Snapshot& s = (*truth)[i];
      if (updater != nullptr) {
        // Bridges bring parameters to where they are used when they are.
        const bool copies = !session_->job().bridged;
        TRY(deviation, compare(updater->weights(), device_, s, copies));
      }
      deviation.loss =
          std::abs(result.loss - s.loss) / std::max(std::abs(s.loss), 1e-300);
    }
    const std::scoped_lock lock(shared.mutex);
    Emulation& out = shared.out;
    if (out.loss.size() <= i) {
      out.loss.resize(i + 1);
      out.gradient_norm.resize(i + 1);
      out.virtual_steps.resize(i + 1);
    }
    out.loss[i] = result.loss;
    if (updater != nullptr) out.gradient_norm[i] = result.gradient_norm;
    out.virtual_steps[i] = std::max(out.virtual_steps[i], result.virtual_end);
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
  std::int64_t last_step_;
  reshard::DeviceId self_;
  std::unique_ptr<exec::Device> own_;
  CpuDevice host_;
  exec::Device& device_;
  std::optional<exec::StagedCommunicator> staged_;
  std::unique_ptr<exec::Session> session_;
  std::unique_ptr<exec::Spares> copies_;  ///< for peers
  std::int64_t done_ = 0;                 ///< steps
  double wall_s_ = 0;                     ///< of the last step
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

std::vector<std::int64_t> steps_before(std::span<const Segment> segments) {
  std::vector<std::int64_t> out;
  std::int64_t done = 0;
  for (const Segment& segment : segments) {
    if (segment.begins) done = *segment.begins;
    for (int i = 0; i < segment.steps; ++i) out.push_back(done++);
  }
  return out;
}

std::vector<StepBatches> batches_of(std::span<const Segment> segments,
                                    const data::Corpus& corpus,
                                    std::uint64_t seed,
                                    std::int64_t first_step) {
  std::vector<StepBatches> out;
  const std::vector<std::int64_t> before = steps_before(segments);
  for (const Segment& segment : segments) {
    for (int i = 0; i < segment.steps; ++i) {
      const std::int64_t step = first_step + before[out.size()];
      StepBatches batches;
      const auto order = segment.job->order(step);
      for (std::size_t k = 0; k < segment.job->phases.size(); ++k) {
        if (segment.job->bridged && k != order[0]) {
          batches.emplace_back();
          continue;
        }
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
                          const std::vector<Snapshot>* truth) {
  const exec::RankOf rank_of = ranks_of(segments);
  Shared shared;
  for (const Segment& segment : segments) {
    if (!segment.read.empty()) shared.checkpoints.try_emplace(*segment.begins);
  }
  const auto work = [&](exec::Communicator& world) -> Result<void> {
    // Large objects of a rank live on the heap, not on the fibre's stack.
    std::unique_ptr<exec::Device> own;
    if (options.device) {
      TRY(own, options.device(world.rank()));
    }
    const auto one = std::make_unique<OneDevice>(segments, world, rank_of,
                                                 options, std::move(own));
    return one->run(batches, truth, shared);
  };
  if (options.mpi != nullptr) {
    exec::Communicator& world = options.mpi->communicator();
    Result<void> done = work(world);
    if (done) {
      done = gather(world, segments, last_step(segments, options), shared.out,
                    options.saved);
    }
    if (!done) options.mpi->give_up(done.error());
  } else {
    Hub hub(static_cast<int>(rank_of.size()), options.hub);
    TRY_DO(hub.run(work));
  }
  shared.out.ranks = static_cast<int>(rank_of.size());
  std::ranges::sort(shared.out.recorded, {},
                    [](const DeviceTimes& t) { return t.device; });
  return std::move(shared.out);
}

}  // namespace troupe::emu
