#include "sim/detail.h"

#include <algorithm>
#include <map>

namespace troupe::sim {

using schedule::Operator;
using schedule::Stream;
using schedule::TaskId;

namespace {
constexpr auto kCompute = static_cast<std::size_t>(Stream::compute);
}

/// The ranks of a stage side by side, member after member. Times are
/// relative to the task's start.
struct OperatorDetail::Lanes {
  TaskId task;
  Time start;
  const schedule::Stage* stage = nullptr;
  std::size_t width = 0;  ///< tensor-parallel degree
  std::size_t count = 0;  ///< ranks
  /// Blocks by member, flattened; all members have the same number.
  std::vector<std::vector<const BlockPrice*>> blocks;
  std::vector<std::int32_t> layers;
  std::array<std::vector<Time>, schedule::kStreams> free;
  std::vector<Time> ends, early;  ///< by operator and rank
  std::vector<Time> block_end;    ///< of the block before
};

OperatorDetail::OperatorDetail(const schedule::Schedule& schedule,
                               PriceList& prices,
                               std::vector<schedule::RankId> recorded,
                               std::size_t most_records, Disturbed disturbed)
    : schedule_(schedule),
      prices_(prices),
      recorded_(std::move(recorded)),
      most_records_(most_records),
      disturbed_(disturbed) {
  if (disturbed_.by != nullptr && disturbed_.by->none()) disturbed_ = {};
  std::map<std::vector<GroupKind>, std::size_t> kinds;
  for (std::size_t s = 0; s < schedule.stages.size(); ++s) {
    std::vector<GroupKind> key;
    for (std::size_t m = 0; m < schedule.stages[s].members.size(); ++m) {
      key.push_back(prices.group(make_id<schedule::StageId>(s), m));
    }
    kind_of_stage_.push_back(
        kinds.try_emplace(key, kinds.size()).first->second);
  }
  known_of_.assign(kinds.size(),
                   std::vector<std::int32_t>(schedule.bodies.size(), -1));
}

const std::vector<OperatorDetail::Runs>& OperatorDetail::runs_of(TaskId id) {
  const auto& task = schedule_.tasks[id.at()];
  std::int32_t& at = known_of_[kind_of_stage_[task.stage.at()]]
                              [static_cast<std::size_t>(task.what)];
  if (at < 0) {
    at = static_cast<std::int32_t>(known_.size());
    auto& members = known_.emplace_back();
    const auto& stage = schedule_.stage(task.stage);
    for (std::size_t m = 0; m < stage.members.size(); ++m) {
      members.push_back(prices_.runs(id, m));
    }
  }
  return known_[static_cast<std::size_t>(at)];
}

bool OperatorDetail::same_structure(const std::vector<Runs>& members) const {
  for (const Runs& runs : members) {
    if (runs.size() != members[0].size()) return false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (runs[i].second != members[0][i].second ||
          runs[i].first->operators.size() !=
              members[0][i].first->operators.size()) {
        return false;
      }
    }
  }
  return true;
}

/// What an operator takes on a rank (a number within the stage).
Time OperatorDetail::time_of(const Lanes& lanes, std::size_t i, std::size_t o,
                             std::size_t rank) const {
  const std::size_t member = rank / lanes.width;
  const BlockPrice& block = *lanes.blocks[member][i];
  const Time price = block.operators[o].time;
  if (disturbed_.by == nullptr) return price;
  const auto& ranks = lanes.stage->members[member];
  const auto device = [&](std::size_t at) {
    return schedule_.rank(ranks[at]).device;
  };
  return schedule::disturbed(*disturbed_.by,
                             {disturbed_.phase, lanes.task, lanes.layers[i], o,
                              device(rank % lanes.width), device(0)},
                             block.block->operators[o], price);
}

/// Of a stage whose members have unequal blocks: all at once.
Time OperatorDetail::disturbed_whole(TaskId id) const {
  const Time price = prices_.of(id).time;
  if (disturbed_.by == nullptr) return price;
  const auto& task = schedule_.tasks[id.at()];
  Time longest;
  for (const auto& member : schedule_.stage(task.stage).members) {
    for (const auto rank : member) {
      const auto device = schedule_.rank(rank).device;
      longest = std::max(longest, schedule::disturbed(*disturbed_.by,
                                                      {disturbed_.phase, id, 0,
                                                       0, device, device},
                                                      Operator{}, price));
    }
  }
  return longest;
}

void OperatorDetail::perform_operator(Lanes& lanes, std::size_t i,
                                      std::size_t o, std::vector<Time>& ends) {
  const Operator& op = lanes.blocks[0][i]->block->operators[o];
  Time* const free = lanes.free[static_cast<std::size_t>(op.stream)].data();
  Time* const end = ends.data() + o * lanes.count;
  const std::size_t count = lanes.count;
  for (std::size_t r = 0; r < count; ++r) end[r] = free[r];
  for (const std::uint16_t a : op.after) {
    const Time* const before = ends.data() + a * count;
    for (std::size_t r = 0; r < count; ++r) {
      end[r].v = std::max(end[r].v, before[r].v);
    }
  }
  const std::size_t members = lanes.blocks.size();
  if (op.communicates && op.scope == schedule::Scope::context) {
    for (std::size_t t = 0; t < lanes.width; ++t) {
      Time last;
      for (std::size_t m = 0; m < members; ++m) {
        last = std::max(last, end[m * lanes.width + t]);
      }
      for (std::size_t m = 0; m < members; ++m) end[m * lanes.width + t] = last;
    }
  }
  for (std::size_t m = 0; m < members; ++m) {
    Time* const own = end + m * lanes.width;
    const std::size_t first = m * lanes.width;
    if (op.communicates && op.scope == schedule::Scope::tensor) {
      Time last;
      for (std::size_t t = 0; t < lanes.width; ++t) {
        last.v = std::max(last.v, own[t].v);
      }
      last += time_of(lanes, i, o, first);
      for (std::size_t t = 0; t < lanes.width; ++t) own[t] = last;
    } else {
      for (std::size_t t = 0; t < lanes.width; ++t) {
        own[t] += time_of(lanes, i, o, first + t);
      }
    }
  }
  for (std::size_t r = 0; r < count; ++r) free[r] = end[r];
  operators_ += static_cast<std::int64_t>(count);
  if (most_records_ > 0) record(lanes, i, o, {end, count});
}

void OperatorDetail::prefetch(Lanes& lanes, std::size_t i, bool early) {
  const BlockPrice& first = *lanes.blocks[0][i];
  if (first.prefetches.empty()) return;
  for (const std::uint16_t o : first.prefetches) {
    auto& free =
        lanes.free[static_cast<std::size_t>(first.block->operators[o].stream)];
    for (std::size_t r = 0; r < lanes.count && early; ++r) {
      free[r] = std::max(free[r], lanes.block_end[r]);
    }
    perform_operator(lanes, i, o, lanes.early);
  }
}

void OperatorDetail::perform_block(Lanes& lanes, std::size_t i) {
  const BlockPrice& first = *lanes.blocks[0][i];
  for (std::size_t o = 0; o < first.operators.size(); ++o) {
    if (!first.block->operators[o].prefetch) {
      perform_operator(lanes, i, o, lanes.ends);
    }
  }
  lanes.block_end = lanes.free[kCompute];
}

Time OperatorDetail::perform(TaskId id, Time start) {
  const auto& task = schedule_.tasks[id.at()];
  const auto& members = runs_of(id);
  const auto& stage = schedule_.stage(task.stage);
  if (!same_structure(members)) {
    operators_ += stage.ranks();
    return disturbed_whole(id);
  }
  Lanes lanes;
  lanes.task = id;
  lanes.start = start;
  lanes.stage = &stage;
  lanes.width = stage.members[0].size();
  lanes.count = lanes.width * stage.members.size();
  std::size_t most = 0;
  const auto& body = schedule_.bodies[static_cast<std::size_t>(task.what)];
  for (std::size_t m = 0; m < members.size(); ++m) {
    auto& blocks = lanes.blocks.emplace_back();
    for (std::size_t i = 0; i < members[m].size(); ++i) {
      const auto& [block, count] = members[m][i];
      most = std::max(most, block->operators.size());
      blocks.insert(blocks.end(), static_cast<std::size_t>(count), block);
      for (int c = 0; c < count && m == 0; ++c) {
        const int first = body.of(0)[i].first_layer;
        const bool back = task.kind != schedule::TaskKind::forward;
        lanes.layers.push_back(first < 0 ? first
                               : back    ? first + count - 1 - c
                                         : first + c);
      }
    }
  }
  for (auto& stream : lanes.free) stream.assign(lanes.count, Time{});
  lanes.ends.assign(most * lanes.count, Time{});
  lanes.early.assign(most * lanes.count, Time{});
  lanes.block_end.assign(lanes.count, Time{});
  const std::size_t blocks = lanes.blocks[0].size();
  if (blocks > 0) prefetch(lanes, 0, false);
  for (std::size_t i = 0; i < blocks; ++i) {
    lanes.ends.swap(lanes.early);
    if (i + 1 < blocks) prefetch(lanes, i + 1, true);
    perform_block(lanes, i);
  }
  Time last;
  for (const auto& stream : lanes.free) {
    for (const Time t : stream) last = std::max(last, t);
  }
  for (std::size_t m = 0; m < members.size(); ++m) {
    last = std::max(last, prices_.host_time(id, m));
  }
  return last;
}

void OperatorDetail::record(const Lanes& lanes, std::size_t i, std::size_t o,
                            std::span<const Time> ends) {
  for (std::size_t r = 0; r < lanes.count; ++r) {
    const std::size_t member = r / lanes.width;
    const auto rank = lanes.stage->members[member][r % lanes.width];
    if (!std::binary_search(recorded_.begin(), recorded_.end(), rank)) continue;
    if (records_.size() >= most_records_) {
      cut_ = true;
      return;
    }
    const BlockPrice& block = *lanes.blocks[member][i];
    const Time end = lanes.start + ends[r];
    records_.push_back({rank, lanes.task, lanes.layers[i],
                        static_cast<std::uint16_t>(o), block.block,
                        end - time_of(lanes, i, o, r), end});
  }
}

}  // namespace troupe::sim
