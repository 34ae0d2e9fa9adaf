#include "emu/gathered.h"

#include <algorithm>

#include "base/json.h"
#include "emu/share.h"

namespace troupe::emu {
namespace {

/// Where a priced block is found again in another process: by part and task
/// of the last step, among the runs of one device.
class Blocks {
 public:
  Blocks(const Segment& last, std::int64_t step, reshard::DeviceId device)
      : prices_(last.prices), device_(device), order_(last.job->order(step)) {
    for (const exec::Program& phase : last.job->phases) {
      const auto it = phase.rank_of.find(device);
      member_.push_back(it == phase.rank_of.end()
                            ? 0
                            : phase.schedule.rank(it->second).member);
    }
  }

  reshard::DeviceId device() const { return device_; }
  std::size_t index(const exec::Performed& p) const {
    const auto& runs = runs_of(p.part, p.task);
    const auto it = std::ranges::find(runs, p.block, &exec::BlockTimes::block);
    return static_cast<std::size_t>(it - runs.begin());
  }
  const schedule::Block* at(std::size_t part, schedule::TaskId task,
                            std::size_t index) const {
    return runs_of(part, task)[index].block;
  }

 private:
  const std::vector<exec::BlockTimes>& runs_of(std::size_t part,
                                               schedule::TaskId task) const {
    const std::size_t phase = order_[part];
    return prices_->phases[phase].runs(
        task, static_cast<std::size_t>(member_[phase]));
  }

  const exec::JobPrices* prices_;
  reshard::DeviceId device_;
  std::vector<std::size_t> order_;
  std::vector<int> member_;  ///< by phase
};

Json json_of(const DeviceTimes& times, const Blocks& blocks) {
  Json out = Json::array();
  for (const exec::Performed& p : times.operators) {
    out.push_back({p.part, p.task.v, p.layer, p.index, blocks.index(p),
                   p.start.v, p.end.v});
  }
  return out;
}

DeviceTimes times_of(const Json& json, const Blocks& blocks) {
  DeviceTimes out{blocks.device(), {}};
  for (const Json& o : json) {
    const std::size_t part = o[0];
    const schedule::TaskId task{o[1]};
    out.operators.push_back({task, o[2], o[3], blocks.at(part, task, o[4]),
                             Time{o[5]}, Time{o[6]}, part});
  }
  return out;
}

Json times_json(const std::vector<Time>& times) {
  Json out = Json::array();
  for (const Time t : times) out.push_back(t.v);
  return out;
}

std::string packed(const Emulation& e, const Blocks& blocks) {
  Json out{{"loss", e.loss},
           {"gradient_norm", e.gradient_norm},
           {"memory", e.most_memory.v},
           {"between_steps", e.between_steps.v},
           {"steps", times_json(e.virtual_steps)},
           {"slept", e.slept_s},
           {"transitions", times_json(e.virtual_transitions)},
           {"tasks", Json::array()},
           {"recorded", Json::array()}};
  for (const auto& [task, span] : e.tasks) {
    out["tasks"].push_back({task.v, span.first.v, span.second.v});
  }
  for (const DeviceTimes& t : e.recorded) {
    out["recorded"] = json_of(t, blocks);
  }
  if (e.deviation) {
    const Deviation& d = *e.deviation;
    out["deviation"] = {d.gradients, d.parameters, d.loss};
    out["by_group"] = d.by_group;
    out["undetermined"] = d.undetermined;
  }
  std::string bytes;
  Json::to_msgpack(out, bytes);
  return bytes;
}

/// Numbers of steps, of which a device without a part in one knows 0.
void merge(std::vector<double>& into, const Json& other) {
  into.resize(std::max(into.size(), other.size()));
  for (std::size_t i = 0; i < other.size(); ++i) {
    if (into[i] == 0) into[i] = other[i];
  }
}

/// The latest of all devices.
void merge(std::vector<Time>& into, const Json& other) {
  into.resize(std::max(into.size(), other.size()));
  for (std::size_t i = 0; i < other.size(); ++i) {
    into[i] = std::max(into[i], Time{other[i]});
  }
}

void merge(Emulation& into, const Json& other) {
  merge(into.loss, other["loss"]);
  merge(into.gradient_norm, other["gradient_norm"]);
  into.most_memory = std::max(into.most_memory, Bytes{other["memory"]});
  into.between_steps =
      std::max(into.between_steps, Bytes{other["between_steps"]});
  merge(into.virtual_steps, other["steps"]);
  into.slept_s = std::max(into.slept_s, other["slept"].get<double>());
  merge(into.virtual_transitions, other["transitions"]);
  for (const Json& t : other["tasks"]) {
    const schedule::TaskId task{t[0]};
    const exec::Span span{Time{t[1]}, Time{t[2]}};
    const auto [it, fresh] = into.tasks.try_emplace(task, span);
    if (!fresh && it->second != span) into.disputed.insert(task);
  }
  if (!other.contains("deviation")) return;
  const Json& d = other["deviation"];
  if (!into.deviation) into.deviation.emplace();
  into.deviation->merge(
      {d[0], d[1], d[2], other["by_group"], other["undetermined"]});
}

}  // namespace

// Every number is counted by one rank and is 0 elsewhere: sums are exact.
Result<void> gather(exec::Communicator& communicator, std::size_t ranks,
                    const std::vector<exec::Weight>& weights,
                    Checkpoint& saved) {
  const std::vector<exec::RankId> all = exec::everyone(ranks);
  for (const exec::Weight& w : weights) {
    const models::Parameter& p = w.placement.parameter;
    Checkpoint::Tensor& tensor = saved.tensors[p.name];
    tensor.shape = p.shape;
    for (std::vector<double>& state : tensor.states) {
      state.resize(static_cast<std::size_t>(p.elements()));
      Time time;
      TRY_DO(communicator.all_reduce(all, kernels::DType::fp64,
                                     std::as_writable_bytes(std::span(state)),
                                     time));
    }
  }
  return {};
}

Result<void> gather(exec::Communicator& communicator,
                    std::span<const Segment> segments, std::int64_t last_step,
                    Emulation& mine, Checkpoint* saved) {
  const Segment& last = segments.back();
  std::vector<reshard::DeviceId> devices;
  for (const auto& [device, rank] : ranks_of(segments)) {
    devices.push_back(device);
  }
  const auto blocks = [&](std::size_t rank) {
    return Blocks(last, last_step, devices[rank]);
  };
  TRY(const std::vector<std::string> all,
      share(communicator, static_cast<int>(devices.size()),
            packed(mine, blocks(communicator.rank().at()))));
  if (saved != nullptr) {
    TRY_DO(
        gather(communicator, all.size(), last.job->phases[0].weights, *saved));
  }
  mine.recorded.clear();
  for (std::size_t r = 0; r < all.size(); ++r) {
    const Json other = Json::from_msgpack(all[r]);
    merge(mine, other);
    if (other["recorded"].empty()) continue;
    mine.recorded.push_back(times_of(other["recorded"], blocks(r)));
  }
  return {};
}

}  // namespace troupe::emu
