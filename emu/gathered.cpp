#include "emu/gathered.h"

#include <algorithm>

#include "base/json.h"
#include "emu/share.h"

namespace troupe::emu {
namespace {

/// Runs of blocks by task, for one rank; where a priced block is found again
/// in another process.
class Blocks {
 public:
  Blocks(std::span<const Segment> segments, const exec::Prices* prices,
         exec::RankId world_rank)
      : prices_(prices) {
    if (prices == nullptr) return;
    const exec::Program& program = segments[0].job->phases[0];
    for (const auto& [device, rank] : ranks_of(segments)) {
      if (rank != world_rank) continue;
      const exec::RankId own = program.rank_of.at(device);
      member_ = static_cast<std::size_t>(program.schedule.rank(own).member);
    }
  }

  std::size_t index(const exec::Performed& p) const {
    const auto& runs = prices_->runs(p.task, member_);
    const auto it = std::ranges::find(runs, p.block, &exec::BlockTimes::block);
    return static_cast<std::size_t>(it - runs.begin());
  }
  const schedule::Block* at(schedule::TaskId task, std::size_t index) const {
    return prices_->runs(task, member_)[index].block;
  }

 private:
  const exec::Prices* prices_;
  std::size_t member_ = 0;
};

Json json_of(const RankTimes& times, const Blocks& blocks) {
  Json operators = Json::array();
  for (const exec::Performed& p : times.operators) {
    operators.push_back(
        {p.task.v, p.layer, p.index, blocks.index(p), p.start.v, p.end.v});
  }
  Json tasks = Json::array();
  for (const auto& [task, span] : times.tasks) {
    tasks.push_back({task.v, span.first.v, span.second.v});
  }
  return {{"rank", times.rank.v}, {"operators", operators}, {"tasks", tasks}};
}

RankTimes times_of(const Json& json, const Blocks& blocks) {
  RankTimes out{exec::RankId{json["rank"]}, {}, {}};
  for (const Json& o : json["operators"]) {
    const schedule::TaskId task{o[0]};
    out.operators.push_back(
        {task, o[1], o[2], blocks.at(task, o[3]), Time{o[4]}, Time{o[5]}});
  }
  for (const Json& t : json["tasks"]) {
    out.tasks[schedule::TaskId{t[0]}] = {Time{t[1]}, Time{t[2]}};
  }
  return out;
}

std::string packed(const Emulation& e, const Blocks& blocks) {
  Json out{{"loss", e.loss},
           {"gradient_norm", e.gradient_norm},
           {"memory", e.most_memory.v},
           {"between_steps", e.between_steps.v},
           {"virtual_step", e.virtual_step.v},
           {"recorded", Json::array()}};
  for (const RankTimes& t : e.recorded) {
    out["recorded"].push_back(json_of(t, blocks));
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

void merge(Emulation& into, const Json& other) {
  merge(into.loss, other["loss"]);
  merge(into.gradient_norm, other["gradient_norm"]);
  into.most_memory = std::max(into.most_memory, Bytes{other["memory"]});
  into.between_steps =
      std::max(into.between_steps, Bytes{other["between_steps"]});
  into.virtual_step = std::max(into.virtual_step, Time{other["virtual_step"]});
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
                    std::span<const Segment> segments,
                    const exec::Prices* prices, Emulation& mine,
                    Checkpoint* saved) {
  const Blocks own(segments, prices, communicator.rank());
  const auto ranks = static_cast<int>(ranks_of(segments).size());
  TRY(const std::vector<std::string> all,
      share(communicator, ranks, packed(mine, own)));
  if (saved != nullptr) {
    TRY_DO(gather(communicator, all.size(),
                  segments.back().job->phases[0].weights, *saved));
  }
  mine.recorded.clear();
  for (std::size_t r = 0; r < all.size(); ++r) {
    const Json other = Json::from_msgpack(all[r]);
    merge(mine, other);
    const Blocks blocks(segments, prices, make_id<exec::RankId>(r));
    for (const Json& times : other["recorded"]) {
      mine.recorded.push_back(times_of(times, blocks));
    }
  }
  return {};
}

}  // namespace troupe::emu
