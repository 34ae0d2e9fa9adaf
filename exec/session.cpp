#include "exec/session.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "reshard/phases.h"

namespace troupe::exec {

using reshard::DeviceId;

namespace {

using Choose = const strategy::Annotation& (*)(const Weight&);

/// Where parameters are between steps.
const strategy::Annotation& resident_of(const Weight& w) {
  return w.gathered ? w.placement.optimizer : w.placement.compute;
}
const strategy::Annotation& optimizer_of(const Weight& w) {
  return w.placement.optimizer;
}

/// From one layout of one program to one of another.
struct Passage {
  const Program& from;
  Choose leaves;
  const Program& to;
  Choose arrives;
};

/// One tensor of every parameter, from one program's layout to another's.
Result<std::vector<reshard::TensorChange>> changes_between(
    const Passage& p, kernels::DType dtype) {
  const Program& from = p.from;
  const Program& to = p.to;
  if (from.weights.size() != to.weights.size()) {
    return fail(Fault::input, "states cannot move between different models");
  }
  std::vector<reshard::TensorChange> changes;
  for (std::size_t i = 0; i < from.weights.size(); ++i) {
    const schedule::Placement& a = from.weights[i].placement;
    const schedule::Placement& b = to.weights[i].placement;
    if (b.parameter != a.parameter) {
      return fail(Fault::input, "states cannot move between different models");
    }
    changes.push_back({.name = a.parameter.name,
                       .source = p.leaves(from.weights[i]),
                       .destination = p.arrives(to.weights[i]),
                       .shape = a.parameter.shape,
                       .dtype = dtype});
  }
  return changes;
}

/// Plans for all changes together, senders sharing the load.
Result<Move> planned(const std::vector<reshard::TensorChange>& changes,
                     const clusters::Cluster& cluster) {
  const reshard::Rates rates = reshard::rates_of(cluster);
  const reshard::Routes routes(cluster, rates);
  TRY(const reshard::SwitchPlan plan, reshard::plan_switch(changes, routes));
  Move move;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    TRY(reshard::Plan one,
        reshard::plan_of(plan, changes, static_cast<std::int32_t>(i)));
    move.plans.push_back(std::move(one));
  }
  return move;
}

Result<Move> move_along(const Passage& p, kernels::DType dtype,
                        const clusters::Cluster& cluster) {
  TRY(const std::vector<reshard::TensorChange> changes,
      changes_between(p, dtype));
  return planned(changes, cluster);
}

/// Its ranks are some of another communicator's, under other numbers.
class Inside final : public Communicator {
 public:
  Inside(Communicator& world, std::vector<RankId> world_of, RankId self)
      : world_(world), world_of_(std::move(world_of)), self_(self) {}

  RankId rank() const override { return self_; }
  Result<void> all_gather(std::span<const RankId> group,
                          std::span<const std::byte> mine,
                          std::span<const Bytes> sizes,
                          std::span<std::byte> all, Time& time) override {
    return world_.all_gather(outside(group), mine, sizes, all, time);
  }
  Result<void> all_reduce(std::span<const RankId> group, kernels::DType dtype,
                          std::span<std::byte> numbers, Time& time) override {
    return world_.all_reduce(outside(group), dtype, numbers, time);
  }
  Result<void> send(RankId to, Tag tag, std::span<const std::byte> bytes,
                    Time time) override {
    return world_.send(world_of_[to.at()], tag, bytes, time);
  }
  Result<void> receive(RankId from, Tag tag, std::span<std::byte> bytes,
                       Time& time) override {
    return world_.receive(world_of_[from.at()], tag, bytes, time);
  }
  Result<bool> try_receive(RankId from, Tag tag, std::span<std::byte> bytes,
                           Time& time) override {
    return world_.try_receive(world_of_[from.at()], tag, bytes, time);
  }
  void expose(Tag name, std::span<const std::byte> memory) override {
    world_.expose(name, memory);
  }
  void withdraw(Tag name) override { world_.withdraw(name); }
  Result<void> fetch(RankId from, Tag name, std::span<const Strip> strips,
                     std::span<std::byte> to) override {
    return world_.fetch(world_of_[from.at()], name, strips, to);
  }
  Result<void> meet(std::span<const RankId> group, Time& time) override {
    return world_.meet(outside(group), time);
  }
  Result<void> sleep_until(std::chrono::steady_clock::time_point at) override {
    return world_.sleep_until(at);
  }

 private:
  std::vector<RankId> outside(std::span<const RankId> group) const {
    std::vector<RankId> out;
    for (const RankId r : group) out.push_back(world_of_[r.at()]);
    return out;
  }
  Communicator& world_;
  std::vector<RankId> world_of_;
  RankId self_;
};

/// The world's numbers of a program's ranks.
std::vector<RankId> world_ranks(const Program& program, const RankOf& world) {
  std::vector<RankId> out;
  for (const schedule::Rank& r : program.schedule.ranks) {
    out.push_back(world.at(r.device));
  }
  return out;
}

}  // namespace

std::vector<std::size_t> Job::order(std::int64_t number) const {
  if (bridged) {
    return {static_cast<std::size_t>(number % std::ssize(phases)), 0};
  }
  std::vector<std::size_t> listed(phases.size());
  std::iota(listed.begin(), listed.end(), 0);
  return reshard::execution_order(listed);
}

namespace {

/// Where parameters and gradients go within a step.
Result<void> plan_moves(Job& job, const clusters::Cluster& cluster) {
  const kernels::DType dtype = job.phases[0].dtype;
  const kernels::DType wide = kernels::statistics_type(dtype);
  const auto between = [&](const Passage& passage, kernels::DType type) {
    return move_along(passage, type, cluster);
  };
  std::size_t before = 0;
  for (std::size_t k = 0; k < job.phases.size() && job.bridged; ++k) {
    const Program& home = job.phases[0];
    const Program& used = job.phases[k];
    TRY(job.parameters[k],
        between({home, optimizer_of, used, resident_of}, dtype));
    TRY(job.gradients[k],
        between({used, optimizer_of, home, optimizer_of}, wide));
  }
  if (job.bridged) return {};
  for (const std::size_t k : job.order()) {
    const Program& from = job.phases[before];
    const Program& to = job.phases[k];
    TRY(job.parameters[k],
        between({from, resident_of, to, resident_of}, dtype));
    TRY(job.gradients[k],
        between({from, optimizer_of, to, optimizer_of}, wide));
    before = k;
  }
  return {};
}

}  // namespace

Result<Job> make_job(std::vector<Program> phases,
                     const clusters::Cluster& cluster, bool bridged) {
  Job job;
  job.phases = std::move(phases);
  job.bridged = bridged;
  std::set<DeviceId> devices;
  for (const Program& p : job.phases) {
    for (const schedule::Rank& r : p.schedule.ranks) devices.insert(r.device);
  }
  for (const DeviceId d : devices) {
    job.rank_of[d] = make_id<RankId>(job.rank_of.size());
  }
  job.parameters.resize(job.phases.size());
  job.gradients.resize(job.phases.size());
  if (job.phases.size() > 1 || bridged) TRY_DO(plan_moves(job, cluster));
  return job;
}

Result<StateMove> state_move(const Job& from, const Job& to,
                             const clusters::Cluster& cluster) {
  const kernels::DType wide = kernels::statistics_type(from.phases[0].dtype);
  TRY(Move move,
      move_along({from.phases[0], optimizer_of, to.phases[0], optimizer_of},
                 wide, cluster));
  StateMove out;
  out.by_state.push_back(std::move(move));
  return out;
}

Session::Session(const Job& job, DeviceId self, Device& device,
                 Communicator& world, const RankOf& rank_of,
                 const JobPrices* prices)
    : job_(job),
      self_(self),
      device_(device),
      world_(world),
      rank_of_(rank_of),
      prices_(prices) {
  for (std::size_t k = 0; k < job.phases.size(); ++k) {
    const Program& p = job.phases[k];
    Phase& phase = phases_.emplace_back();
    const auto it = p.rank_of.find(self);
    if (it == p.rank_of.end()) continue;
    phase.communicator =
        std::make_unique<Inside>(world, world_ranks(p, rank_of), it->second);
    phase.interpreter = std::make_unique<Interpreter>(
        p, it->second, device, *phase.communicator,
        prices != nullptr ? &prices->phases[k] : nullptr);
  }
}

Session::~Session() = default;

Result<void> Session::initialise(const Values& values) {
  for (Phase& phase : phases_) {
    if (phase.interpreter) TRY_DO(phase.interpreter->initialise(values));
  }
  return {};
}

namespace {

HeldWeight* held_by(Interpreter* rank, std::size_t index) {
  return rank == nullptr ? nullptr : rank->weights().find(index);
}

/// What a device has, or gets, of parameter number so-and-so.
using Find = std::function<Storage*(std::size_t)>;

/// A storage of every weight that a rank holds.
template <typename Pick>
Find each_of(Interpreter* rank, Pick pick) {
  return [rank, pick](std::size_t i) -> Storage* {
    HeldWeight* const held = held_by(rank, i);
    return held == nullptr ? nullptr : &pick(*held);
  };
}

/// Ends of a move on one device.
struct Ends {
  Find from, to;
  int kind = 0;      ///< tells moves of the same parameter apart
  bool add = false;  ///< to what is there
};

Result<void> perform(const Move& move, const Ends& ends, DeviceId self,
                     const RankOf& ranks, Device& device, Communicator& world) {
  Time unused;
  for (std::size_t i = 0; i < move.plans.size(); ++i) {
    Storage* const from = ends.from(i);
    Storage* const to = ends.to(i);
    if (from == nullptr && to == nullptr) continue;
    const Tag tag =
        ((static_cast<Tag>(i) + 1) << 40) | (static_cast<Tag>(ends.kind) << 36);
    Change change{&move.plans[i], tag, from, nullptr};
    if (to == nullptr) {
      TRY_DO(transform(change, self, ranks, device, world, unused));
      continue;
    }
    // What arrives is put together apart, for the target may be in use.
    std::vector<Box> boxes;
    for (const Piece& p : to->pieces) boxes.push_back(p.box);
    TRY(const OwnedStorage arrived, OwnedStorage::of(device, boxes, to->dtype));
    change.destination = &arrived.storage;
    TRY_DO(transform(change, self, ranks, device, world, unused));
    for (const Piece& p : arrived.storage.pieces) {
      TRY_DO(write(device, *to, p.box, p.data, ends.add));
    }
  }
  return {};
}

/// Of moves that carry a state; 8 is the bit of `Weights::gather`.
int kind_of(State state, bool to_peers) {
  return (to_peers ? 9 : 3) + static_cast<int>(state);
}

Storage& resident_in(HeldWeight& w) { return w.resident(); }
Storage& sum_in(HeldWeight& w) { return w.sum.storage; }
Storage& copy_in(HeldWeight& w) { return w.copy.storage; }

}  // namespace

Result<void> Session::switch_to(std::size_t phase, std::size_t before,
                                bool carries) {
  Interpreter* const from = interpreter(before);
  Interpreter* const to = interpreter(phase);
  if (!carries) {
    return perform(
        job_.parameters[phase],
        {each_of(from, resident_in), each_of(to, resident_in), 1, false}, self_,
        rank_of_, device_, world_);
  }
  return perform(job_.gradients[phase],
                 {each_of(from, sum_in), each_of(to, sum_in), 2, true}, self_,
                 rank_of_, device_, world_);
}

/// Rounded masters to where they are used, or gradients to the masters.
Result<void> Session::bridge(std::size_t phase, bool back) {
  Interpreter* const home = updater();
  Interpreter* const used = interpreter(phase);
  if (back) {
    if (phase == 0) return {};
    // What the first phase summed in another step.
    if (home != nullptr) TRY_DO(home->weights().clear_sums());
    return perform(job_.gradients[phase],
                   {each_of(used, sum_in), each_of(home, sum_in), 2, true},
                   self_, rank_of_, device_, world_);
  }
  if (home != nullptr) TRY_DO(home->weights().round_masters());
  return perform(job_.parameters[phase],
                 {each_of(home, copy_in), each_of(used, resident_in), 1, false},
                 self_, rank_of_, device_, world_);
}

std::vector<RankId> Session::everyone_of_job() const {
  std::vector<RankId> all;
  for (const auto& [device, rank] : job_.rank_of) {
    all.push_back(rank_of_.at(device));
  }
  return all;
}

Result<void> Session::begin_part(std::size_t part, std::size_t phase) {
  if (!clock_) return {};
  TRY_DO(clock_->pass_switch(part));
  if (Interpreter* const rank = interpreter(phase)) {
    rank->take_part(*clock_, part);
  }
  return {};
}

Result<double> Session::run_all(std::span<const data::Batch> batches,
                                std::int64_t labels) {
  double loss = 0;
  std::size_t before = 0;
  std::size_t part = 0;
  for (const std::size_t k : job_.order()) {
    if (k != before) TRY_DO(switch_to(k, before, false));
    TRY_DO(begin_part(part, k));
    if (phases_[k].interpreter) {
      TRY(const double sum,
          phases_[k].interpreter->accumulate(batches[k], labels));
      loss += sum;
    }
    if (part > 0) TRY_DO(switch_to(k, before, true));
    before = k;
    ++part;
  }
  return loss;
}

Result<double> Session::run_bridged(std::span<const data::Batch> batches,
                                    std::int64_t labels, std::size_t phase) {
  double loss = 0;
  TRY_DO(bridge(phase, false));
  TRY_DO(begin_part(0, phase));
  if (phases_[phase].interpreter) {
    TRY(loss, phases_[phase].interpreter->accumulate(batches[phase], labels));
  }
  TRY_DO(bridge(phase, true));
  TRY_DO(begin_part(1, 0));
  return loss;
}

/// A device that is not in the updating phase gives its losses to all.
Result<double> Session::share_loss(double loss) {
  TRY(Buffer shared, Buffer::of(device_, Bytes{8}));
  const auto bytes = std::as_writable_bytes(std::span(&loss, 1));
  TRY_DO(device_.copy_in(shared.data(), bytes));
  Time unused;
  TRY_DO(world_.all_reduce(everyone_of_job(), kernels::DType::fp64,
                           {shared.at({}), 8}, unused));
  TRY_DO(device_.copy_out(bytes, shared.data()));
  return loss;
}

Result<StepResult> Session::step(std::span<const data::Batch> batches,
                                 const Training& training, std::int64_t step) {
  std::int64_t labels = 0;
  for (const data::Batch& b : batches) labels += b.labels;
  const std::vector<std::size_t> order = job_.order(step - 1);
  if (prices_ != nullptr) {
    const std::size_t kind = job_.bridged ? order[0] : 0;
    clock_.emplace(prices_->steps[kind], self_, rank_of_, world_);
    if (prices_->sleep > 0) {
      Time unused;
      TRY_DO(world_.meet(everyone_of_job(), unused));
      clock_->begin_pacing(prices_->sleep);
    }
  }
  for (Phase& phase : phases_) {
    if (phase.interpreter) phase.interpreter->begin_step();
  }
  TRY(double loss, job_.bridged ? run_bridged(batches, labels, order[0])
                                : run_all(batches, labels));
  if (clock_) {
    TRY_DO(clock_->meet_for_update(order.size() - 1, everyone_of_job()));
  }
  TRY(loss, share_loss(loss));
  StepResult result;
  if (Interpreter* const last = updater()) {
    TRY(result, last->update(training, step, 0, !job_.bridged));
  }
  result.loss = labels > 0 ? loss / static_cast<double>(labels) : 0;
  if (clock_) result.virtual_end = clock_->end();
  return result;
}

Result<void> Session::take_over(const StateMove& move, const Givers& from,
                                Session* to, DeviceId self, Device& device,
                                Communicator& world, const RankOf& rank_of) {
  Interpreter* const before =
      from.session == nullptr ? nullptr : from.session->updater();
  Interpreter* const after = to == nullptr ? nullptr : to->updater();
  for (const State state : kStates) {
    const auto pick = [state](HeldWeight& w) -> Storage& {
      return w.state(state);
    };
    Storage together;  // of the session and of spares
    const auto all = [&, own = each_of(before, pick)](std::size_t i) {
      Storage* const mine = own(i);
      together.pieces.clear();
      const auto add = [&](const Storage* part) {
        if (part == nullptr) return;
        together.dtype = part->dtype;
        together.pieces.insert(together.pieces.end(), part->pieces.begin(),
                               part->pieces.end());
      };
      add(mine);
      for (Spares* const s : from.spares) {
        if (s != nullptr) add(s->find(i, state));
      }
      return together.pieces.empty() ? mine : &together;
    };
    const Ends ends{all, each_of(after, pick), kind_of(state, false), false};
    TRY_DO(perform(move.of(state), ends, self, rank_of, device, world));
  }
  if (after == nullptr) return {};
  return after->weights().publish(*to->phases_[0].communicator);
}

Result<void> Session::update_copies(const PeerCopies& copies, Spares* mine) {
  for (const State state : kStates) {
    const Ends ends{
        each_of(updater(),
                [state](HeldWeight& w) -> Storage& { return w.state(state); }),
        [&](std::size_t i) {
          return mine == nullptr ? nullptr : mine->find(i, state);
        },
        kind_of(state, true), false};
    TRY_DO(perform(copies.update, ends, self_, rank_of_, device_, world_));
  }
  return {};
}

}  // namespace troupe::exec
