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

/// One tensor of every parameter, from one program's layout to another's.
Result<std::vector<reshard::TensorChange>> changes_between(
    const Program& from, const Program& to, Choose layout,
    kernels::DType dtype) {
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
                       .source = layout(from.weights[i]),
                       .destination = layout(to.weights[i]),
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

Result<Move> move_between(const Program& from, const Program& to, Choose layout,
                          kernels::DType dtype,
                          const clusters::Cluster& cluster) {
  TRY(const std::vector<reshard::TensorChange> changes,
      changes_between(from, to, layout, dtype));
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

std::vector<std::size_t> Job::order() const {
  std::vector<std::size_t> listed(phases.size());
  std::iota(listed.begin(), listed.end(), 0);
  return reshard::execution_order(listed);
}

Result<Job> make_job(std::vector<Program> phases,
                     const clusters::Cluster& cluster) {
  Job job;
  job.phases = std::move(phases);
  std::set<DeviceId> devices;
  for (const Program& p : job.phases) {
    for (const schedule::Rank& r : p.schedule.ranks) devices.insert(r.device);
  }
  for (const DeviceId d : devices) {
    job.rank_of[d] = make_id<RankId>(job.rank_of.size());
  }
  const std::size_t n = job.phases.size();
  job.parameters.resize(n);
  job.gradients.resize(n);
  if (n < 2) return job;
  const kernels::DType dtype = job.phases[0].dtype;
  const kernels::DType wide = kernels::statistics_type(dtype);
  std::size_t before = 0;
  for (const std::size_t k : job.order()) {
    const Program& from = job.phases[before];
    TRY(job.parameters[k],
        move_between(from, job.phases[k], resident_of, dtype, cluster));
    TRY(job.gradients[k],
        move_between(from, job.phases[k], optimizer_of, wide, cluster));
    before = k;
  }
  return job;
}

Result<StateMove> state_move(const Job& from, const Job& to,
                             const clusters::Cluster& cluster) {
  const kernels::DType wide = kernels::statistics_type(from.phases[0].dtype);
  TRY(Move move,
      move_between(from.phases[0], to.phases[0], optimizer_of, wide, cluster));
  StateMove out;
  out.by_state.push_back(std::move(move));
  return out;
}

Session::Session(const Job& job, DeviceId self, Device& device,
                 Communicator& world, const RankOf& rank_of,
                 std::span<const Prices* const> prices)
    : job_(job),
      self_(self),
      device_(device),
      world_(world),
      rank_of_(rank_of) {
  for (std::size_t k = 0; k < job.phases.size(); ++k) {
    const Program& p = job.phases[k];
    Phase& phase = phases_.emplace_back();
    const auto it = p.rank_of.find(self);
    if (it == p.rank_of.end()) continue;
    phase.communicator =
        std::make_unique<Inside>(world, world_ranks(p, rank_of), it->second);
    phase.interpreter = std::make_unique<Interpreter>(
        p, it->second, device, *phase.communicator,
        k < prices.size() ? prices[k] : nullptr);
  }
}

Session::~Session() = default;

Interpreter* Session::updater() { return phases_[0].interpreter.get(); }

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

}  // namespace

Result<void> Session::switch_to(std::size_t phase, std::size_t before,
                                bool carries) {
  const auto between = [&](auto pick, int kind) {
    return Ends{each_of(phases_[before].interpreter.get(), pick),
                each_of(phases_[phase].interpreter.get(), pick), kind, carries};
  };
  if (carries) {
    return perform(
        job_.gradients[phase],
        between([](HeldWeight& w) -> Storage& { return w.sum.storage; }, 2),
        self_, rank_of_, device_, world_);
  }
  return perform(
      job_.parameters[phase],
      between([](HeldWeight& w) -> Storage& { return w.resident(); }, 1), self_,
      rank_of_, device_, world_);
}

Result<StepResult> Session::step(std::span<const data::Batch> batches,
                                 const Training& training, std::int64_t step) {
  std::int64_t labels = 0;
  for (const data::Batch& b : batches) labels += b.labels;
  double loss = 0;
  std::size_t before = 0;
  bool first = true;
  for (const std::size_t k : job_.order()) {
    if (k != before) TRY_DO(switch_to(k, before, false));
    if (phases_[k].interpreter) {
      TRY(const double sum,
          phases_[k].interpreter->accumulate(batches[k], labels));
      loss += sum;
    }
    if (!first) TRY_DO(switch_to(k, before, true));
    before = k;
    first = false;
  }
  // A device that is not in the updating phase gives its losses to all.
  TRY(Buffer shared, Buffer::of(device_, Bytes{8}));
  const auto bytes = std::as_writable_bytes(std::span(&loss, 1));
  TRY_DO(device_.copy_in(shared.data(), bytes));
  std::vector<RankId> all;
  for (const auto& [device, rank] : job_.rank_of) {
    all.push_back(rank_of_.at(device));
  }
  Time unused;
  TRY_DO(
      world_.all_reduce(all, kernels::DType::fp64, {shared.at({}), 8}, unused));
  TRY_DO(device_.copy_out(bytes, shared.data()));
  StepResult result;
  if (Interpreter* const last = updater()) {
    TRY(result, last->update(training, step, 0));
  }
  result.loss = labels > 0 ? loss / static_cast<double>(labels) : 0;
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
