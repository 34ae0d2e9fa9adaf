#include "sim/attribution.h"

#include <algorithm>

namespace troupe::sim {

using schedule::Schedule;
using schedule::Task;
using schedule::TaskId;
using schedule::TaskKind;

namespace {

/// Part of [from, to) in which some of the intervals were open.
Time covered(std::vector<std::pair<Time, Time>>& open, Time from, Time to) {
  std::sort(open.begin(), open.end());
  Time sum;
  Time at = from;
  for (const auto& [start, end] : open) {
    const Time first = std::max(at, start);
    const Time last = std::min(to, end);
    if (last <= first) continue;
    sum += last - first;
    at = last;
  }
  return sum;
}

bool syncs(TaskKind kind) {
  return kind == TaskKind::gradient_sync ||
         kind == TaskKind::parameter_gather || kind == TaskKind::layout_switch;
}

/// Syncs each stage takes part in.
std::vector<std::vector<TaskId>> syncs_of_stages(const Schedule& schedule) {
  std::vector<std::vector<TaskId>> out(schedule.stages.size());
  for (std::size_t t = 0; t < schedule.tasks.size(); ++t) {
    const Task& task = schedule.tasks[t];
    if (!syncs(task.kind)) continue;
    const auto& sync = schedule.syncs[static_cast<std::size_t>(task.what)];
    for (const auto stage : sync.stages) {
      out[stage.at()].push_back(make_id<TaskId>(t));
    }
  }
  return out;
}

class StageClock {
 public:
  StageClock(const Schedule& schedule, const PriceList& prices, const Run& run,
             const std::vector<TaskId>& syncs)
      : schedule_(schedule), prices_(prices), run_(run) {
    for (const TaskId t : syncs) {
      syncing_.emplace_back(run.start[t.at()], run.end[t.at()]);
    }
  }

  StageTimes read(const schedule::Stage& stage) {
    for (const TaskId t : stage.order) {
      gap_before(t);
      const BodyPrice& price = prices_.of(t);
      const Time took = run_.end[t.at()] - run_.start[t.at()];
      if (schedule_.tasks[t.at()].kind == TaskKind::optimizer) {
        times_.optimizer += took;
      } else {
        add(parts_of(price, took));
      }
      now_ = run_.end[t.at()];
    }
    const Time syncing = covered(syncing_, now_, run_.step);
    times_.sync += syncing;
    times_.bubble += run_.step - now_ - syncing;
    return times_;
  }

 private:
  void add(const Parts& parts) {
    times_.compute += parts.compute;
    times_.tensor += parts.tensor;
    times_.context += parts.context;
    times_.data += parts.data;
  }

  void gap_before(TaskId id) {
    const Time start = run_.start[id.at()];
    if (start <= now_) return;
    const Task& task = schedule_.tasks[id.at()];
    std::vector<std::pair<Time, Time>> arriving;
    for (const TaskId before : schedule_.dependencies_of(task)) {
      if (schedule_.tasks[before.at()].kind == TaskKind::transfer) {
        arriving.emplace_back(run_.start[before.at()], run_.end[before.at()]);
      }
    }
    const Time hand_over = covered(arriving, now_, start);
    const Time syncing = task.kind == TaskKind::optimizer
                             ? covered(syncing_, now_, start)
                             : Time{};
    times_.hand_over += hand_over;
    times_.sync += syncing;
    times_.bubble += start - now_ - hand_over - syncing;
  }

  const Schedule& schedule_;
  const PriceList& prices_;
  const Run& run_;
  std::vector<std::pair<Time, Time>> syncing_;
  StageTimes times_;
  Time now_;
};

}  // namespace

Parts parts_of(const BodyPrice& price, Time took) {
  Parts parts = price.parts;
  if (took == price.time || price.time.v == 0) return parts;
  const double factor = took / price.time;
  for (Time* const part : {&parts.tensor, &parts.context, &parts.data}) {
    *part = schedule::scaled(*part, factor);
  }
  parts.compute = took - parts.tensor - parts.context - parts.data;
  return parts;
}

std::vector<StageTimes> stage_times(const Schedule& schedule,
                                    const PriceList& prices, const Run& run) {
  const auto syncs = syncs_of_stages(schedule);
  std::vector<StageTimes> out;
  out.reserve(schedule.stages.size());
  for (std::size_t s = 0; s < schedule.stages.size(); ++s) {
    out.push_back(
        StageClock(schedule, prices, run, syncs[s]).read(schedule.stages[s]));
  }
  return out;
}

schedule::StageId critical_stage(const std::vector<StageTimes>& times) {
  std::size_t best = 0;
  const auto waits = [&](std::size_t s) {
    return times[s].bubble + times[s].hand_over;
  };
  for (std::size_t s = 1; s < times.size(); ++s) {
    if (waits(s) < waits(best)) best = s;
  }
  return make_id<schedule::StageId>(best);
}

ByProvenance critical_path_provenance(const Schedule& schedule,
                                      const PriceList& prices,
                                      const Activities& activities,
                                      const Run& run) {
  std::vector<TaskId> before(schedule.tasks.size());
  for (const auto& stage : schedule.stages) {
    for (std::size_t i = 1; i < stage.order.size(); ++i) {
      before[stage.order[i].at()] = stage.order[i - 1];
    }
  }
  ByProvenance out{};
  TaskId at;
  for (std::size_t t = 0; t < run.end.size(); ++t) {
    if (run.end[t] == run.step) {
      at = make_id<TaskId>(t);
      break;
    }
  }
  while (at) {
    const Task& task = schedule.tasks[at.at()];
    if (schedule::computes(task.kind)) {
      const BodyPrice& price = prices.of(at);
      const Time took = run.end[at.at()] - run.start[at.at()];
      const double factor = price.time.v == 0 ? 1 : took / price.time;
      for (std::size_t p = 0; p < out.size(); ++p) {
        out[p] += factor == 1 ? price.provenance[p]
                              : schedule::scaled(price.provenance[p], factor);
      }
    } else {
      const auto& list = task.kind == TaskKind::transfer ? activities.transfers
                                                         : activities.syncs;
      const auto p = static_cast<std::size_t>(
          list[static_cast<std::size_t>(task.what)].provenance);
      out[p] += run.end[at.at()] - run.start[at.at()];
    }
    const Time start = run.start[at.at()];
    TaskId next;
    const auto consider = [&](TaskId t) {
      if (t && run.end[t.at()] == start && (!next || t < next)) next = t;
    };
    consider(before[at.at()]);
    for (const TaskId t : schedule.dependencies_of(task)) consider(t);
    if (start.v == 0) break;
    at = next;
  }
  return out;
}

}  // namespace troupe::sim
