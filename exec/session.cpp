#include "exec/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace troupe::exec {

using reshard::DeviceId;

namespace {

using Choose = const strategy::Annotation& (*)(const schedule::Placement&);

const strategy::Annotation& compute_of(const schedule::Placement& p) {
  return p.compute;
}
const strategy::Annotation& optimizer_of(const schedule::Placement& p) {
  return p.optimizer;
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
                       .source = layout(a),
                       .destination = layout(b),
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

}  // namespace

std::unique_ptr<Communicator> inside(Communicator& communicator,
                                     const RankOf& whole, const RankOf& part,
                                     DeviceId self) {
  std::vector<RankId> world_of(part.size());
  for (const auto& [device, rank] : part) {
    world_of[rank.at()] = whole.at(device);
  }
  return std::make_unique<Inside>(communicator, std::move(world_of),
                                  part.at(self));
}

std::vector<std::size_t> Job::order() const {
  std::vector<std::size_t> out;
  for (std::size_t k = 1; k < phases.size(); ++k) out.push_back(k);
  out.push_back(0);
  return out;
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
        move_between(from, job.phases[k], compute_of, dtype, cluster));
    TRY(job.gradients[k],
        move_between(from, job.phases[k], optimizer_of, wide, cluster));
    before = k;
  }
  return job;
}

namespace {

/// What is left of `box` without `other`.
std::vector<Box> without(const Box& box, const Box& other) {
  if (strategy::elements(strategy::overlap(box, other)) == 0) return {box};
  std::vector<Box> out;
  Box rest = box;
  for (std::size_t d = 0; d < box.size(); ++d) {
    const auto cut = [&](std::int64_t first, std::int64_t last) {
      if (first >= last) return;
      Box part = rest;
      part[d] = {first, last};
      out.push_back(std::move(part));
    };
    cut(rest[d].first, std::min(rest[d].last, other[d].first));
    cut(std::max(rest[d].first, other[d].last), rest[d].last);
    rest[d] = {std::max(rest[d].first, other[d].first),
               std::min(rest[d].last, other[d].last)};
  }
  return out;
}

/// Elements of a tensor that nobody holds, as boxes.
std::vector<Box> missing_of(const reshard::Layout& held,
                            const std::vector<std::int64_t>& shape) {
  Box whole;
  for (const std::int64_t n : shape) whole.push_back({0, n});
  std::vector<Box> left{std::move(whole)};
  for (const reshard::Held& h : held) {
    for (const Box& box : h.boxes) {
      std::vector<Box> next;
      for (const Box& l : left) {
        for (Box& part : without(l, box)) next.push_back(std::move(part));
      }
      left = std::move(next);
    }
  }
  return left;
}

/// What the optimizer layout's devices hold without those that are lost.
Result<reshard::Layout> survivors(const schedule::Placement& place,
                                  std::span<const DeviceId> lost) {
  const models::Parameter& p = place.parameter;
  reshard::Layout held =
      reshard::layout_of(place.optimizer, p.shape, reshard::kSource);
  std::vector<DeviceId> owners;
  std::erase_if(held, [&](const reshard::Held& h) {
    const bool gone = std::ranges::find(lost, h.device) != lost.end();
    if (gone) owners.push_back(h.device);
    return gone;
  });
  const std::vector<Box> missing = missing_of(held, p.shape);
  if (missing.empty()) return held;
  std::string spans;
  for (const strategy::Span& s : missing[0]) {
    spans += fmt::format("[{}, {})", s.first, s.last);
  }
  return fail(Fault::infeasible,
              fmt::format("optimizer state of {} {}: only lost device {} held "
                          "it, and no other does; go on from a checkpoint "
                          "(--load)",
                          p.name, spans, owners.empty() ? -1 : owners[0].v));
}

}  // namespace

Result<Move> state_move(const Job& from, const Job& to,
                        const clusters::Cluster& cluster,
                        std::span<const DeviceId> lost) {
  const kernels::DType wide = kernels::statistics_type(from.phases[0].dtype);
  TRY(std::vector<reshard::TensorChange> changes,
      changes_between(from.phases[0], to.phases[0], optimizer_of, wide));
  for (std::size_t i = 0; i < changes.size() && !lost.empty(); ++i) {
    TRY(reshard::Layout held,
        survivors(from.phases[0].weights[i].placement, lost));
    changes[i].held = std::make_shared<const reshard::Layout>(std::move(held));
  }
  return planned(changes, cluster);
}

Session::Session(const Job& job, DeviceId self, Device& device,
                 Communicator& world, std::span<const Prices* const> prices)
    : job_(job), self_(self), device_(device), world_(world) {
  for (std::size_t k = 0; k < job.phases.size(); ++k) {
    const Program& p = job.phases[k];
    Phase& phase = phases_.emplace_back();
    const auto it = p.rank_of.find(self);
    if (it == p.rank_of.end()) continue;
    phase.communicator = inside(world, job.rank_of, p.rank_of, self);
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

/// Which of a weight's storages a move reads or writes.
using Pick = Storage* (*)(HeldWeight&);

Storage* pick_compute(HeldWeight& w) { return &w.compute; }
Storage* pick_sum(HeldWeight& w) { return &w.sum.storage; }
Storage* pick_master(HeldWeight& w) { return &w.master.storage; }
Storage* pick_m(HeldWeight& w) { return &w.m.storage; }
Storage* pick_v(HeldWeight& w) { return &w.v.storage; }

/// Ends of a move on one device.
struct Ends {
  Interpreter* from = nullptr;
  Interpreter* to = nullptr;
  Pick pick = nullptr;
  int kind = 0;      ///< tells moves of the same parameter apart
  bool add = false;  ///< to what is there
};

Result<void> perform(const Move& move, const Ends& ends, DeviceId self,
                     const RankOf& ranks, Device& device, Communicator& world) {
  Time unused;
  for (std::size_t i = 0; i < move.plans.size(); ++i) {
    HeldWeight* const from = held_by(ends.from, i);
    HeldWeight* const to = held_by(ends.to, i);
    if (from == nullptr && to == nullptr) continue;
    const Tag tag =
        ((static_cast<Tag>(i) + 1) << 40) | (static_cast<Tag>(ends.kind) << 36);
    Change change{&move.plans[i], tag,
                  from == nullptr ? nullptr : ends.pick(*from), nullptr};
    if (to == nullptr) {
      TRY_DO(transform(change, self, ranks, device, world, unused));
      continue;
    }
    // What arrives is put together apart, for the target may be in use.
    Storage& target = *ends.pick(*to);
    std::vector<Box> boxes;
    for (const Piece& p : target.pieces) boxes.push_back(p.box);
    TRY(const OwnedStorage arrived,
        OwnedStorage::of(device, boxes, target.dtype));
    change.destination = &arrived.storage;
    TRY_DO(transform(change, self, ranks, device, world, unused));
    for (const Piece& p : arrived.storage.pieces) {
      TRY_DO(write(device, target, p.box, p.data, ends.add));
    }
  }
  return {};
}

}  // namespace

Result<void> Session::switch_to(std::size_t phase, std::size_t before,
                                bool carries) {
  const Ends ends{phases_[before].interpreter.get(),
                  phases_[phase].interpreter.get(), pick_compute, 1, false};
  if (!carries) {
    return perform(job_.parameters[phase], ends, self_, job_.rank_of, device_,
                   world_);
  }
  const Ends sums{ends.from, ends.to, pick_sum, 2, true};
  return perform(job_.gradients[phase], sums, self_, job_.rank_of, device_,
                 world_);
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
  for (std::size_t r = 0; r < job_.rank_of.size(); ++r) {
    all.push_back(make_id<RankId>(r));
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

Result<void> Session::take_over(const Move& move, Session* from, Session* to,
                                DeviceId self, Device& device,
                                Communicator& world, const RankOf& rank_of) {
  Ends ends{from == nullptr ? nullptr : from->updater(),
            to == nullptr ? nullptr : to->updater(), pick_master, 3, false};
  TRY_DO(perform(move, ends, self, rank_of, device, world));
  ends.pick = pick_m;
  ends.kind = 4;
  TRY_DO(perform(move, ends, self, rank_of, device, world));
  ends.pick = pick_v;
  ends.kind = 5;
  TRY_DO(perform(move, ends, self, rank_of, device, world));
  if (to == nullptr || to->updater() == nullptr) return {};
  return to->updater()->weights().publish(*to->phases_[0].communicator);
}

}  // namespace troupe::exec
