#include "runs/elastic_candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>

#include "strategy/annotation.h"
#include "strategy/short_form.h"
#include "strategy/validate.h"

namespace troupe::runs {
namespace {

using strategy::Pipeline;

bool uses_only(const Pipeline& pipeline, const std::vector<DeviceId>& usable) {
  for (const auto& stage : pipeline.stages) {
    for (const auto& member : stage.members) {
      for (const DeviceId d : member.devices) {
        if (!std::ranges::binary_search(usable, d)) return false;
      }
    }
  }
  return true;
}

/// Whether all micro-batches of all pipelines are alike.
bool uniform(const strategy::Phase& phase) {
  return std::ranges::all_of(phase.pipelines, [&](const Pipeline& p) {
    const Pipeline& first = phase.pipelines.front();
    return p.micro_batch_seq_lens.empty() && p.seq_len == first.seq_len &&
           p.micro_batch_size == first.micro_batch_size;
  });
}

int micro_batches_of(const strategy::Phase& phase) {
  int sum = 0;
  for (const Pipeline& p : phase.pipelines) sum += p.micro_batches;
  return sum;
}

/// Shares `total` micro-batches in proportion to what pipelines have; each
/// gets at least one.
void share_out(std::vector<Pipeline>& pipelines, int total) {
  std::vector<std::int64_t> weights;
  for (const Pipeline& p : pipelines) {
    weights.push_back(std::max(p.micro_batches, 1));
  }
  for (std::size_t i = 0; i < pipelines.size(); ++i) {
    pipelines[i].micro_batches = static_cast<int>(
        std::max<std::int64_t>(strategy::part_of(total, i, weights).size(), 1));
  }
}

/// tp devices of one node each, in order of nodes.
std::vector<std::vector<DeviceId>> blocks_of(
    const clusters::Cluster& cluster, const std::vector<DeviceId>& usable,
    std::size_t tp) {
  std::map<clusters::NodeId, std::vector<DeviceId>> by_node;
  for (const DeviceId d : usable) {
    by_node[cluster.devices[d.at()].node].push_back(d);
  }
  std::vector<std::vector<DeviceId>> out;
  for (const auto& [node, list] : by_node) {
    for (std::size_t i = 0; i + tp <= list.size(); i += tp) {
      out.emplace_back(list.begin() + static_cast<std::ptrdiff_t>(i),
                       list.begin() + static_cast<std::ptrdiff_t>(i + tp));
    }
  }
  return out;
}

/// A grid on the first blocks, or nothing when it is not valid.
std::optional<Candidate> grid(const Candidate& like, const models::Model& model,
                              const clusters::Cluster& cluster,
                              std::span<const std::vector<DeviceId>> blocks,
                              int dp, int tp, int pp, int sequences) {
  const Pipeline& first = like.phase().pipelines.front();
  strategy::ShortForm form;
  form.dp = dp;
  form.tp = tp;
  form.pp = pp;
  form.micro_batch_size = first.micro_batch_size;
  form.micro_batches = sequences / dp;
  for (int b = 0; b < dp * pp; ++b) {
    const auto& block = blocks[static_cast<std::size_t>(b)];
    form.devices.insert(form.devices.end(), block.begin(), block.end());
  }
  Candidate out;
  out.strategy = like.strategy;
  out.name = fmt::format("dp {} x tp {} x pp {}", dp, tp, pp);
  out.strategy.name = out.name;
  out.strategy.schedule = strategy::ScheduleKind::one_f_one_b;
  out.strategy.order_file.clear();
  out.strategy.recompute.layers.clear();
  auto& phase = out.strategy.phases.front();
  phase.pipelines = strategy::pipelines_of(form, model.layers);
  for (Pipeline& p : phase.pipelines) p.seq_len = first.seq_len;
  if (!strategy::validate(out.strategy, model, cluster).ok()) return {};
  out.devices = strategy::used_devices(out.phase());
  return out;
}

}  // namespace

std::optional<Candidate> without_broken(const Candidate& whole,
                                        const std::vector<DeviceId>& usable) {
  Candidate out = whole;
  auto& pipelines = out.strategy.phases.front().pipelines;
  const std::size_t before = pipelines.size();
  std::erase_if(pipelines,
                [&](const Pipeline& p) { return !uses_only(p, usable); });
  if (pipelines.empty()) return {};
  if (pipelines.size() == before) return out;
  if (uniform(whole.phase())) {
    share_out(pipelines, micro_batches_of(whole.phase()));
  }
  out.name = fmt::format("{}, {} of {} pipelines", whole.name, pipelines.size(),
                         before);
  out.strategy.name = out.name;
  out.devices = strategy::used_devices(out.phase());
  return out;
}

std::vector<Candidate> equal_pipelines(const Candidate& like,
                                       const models::Model& model,
                                       const clusters::Cluster& cluster,
                                       const std::vector<DeviceId>& usable) {
  std::vector<Candidate> out;
  if (!uniform(like.phase())) return out;
  const int batches = micro_batches_of(like.phase());
  std::size_t most = 0;
  for (const int tp : {1, 2, 4, 8}) {
    const auto blocks =
        blocks_of(cluster, usable, static_cast<std::size_t>(tp));
    const int count = static_cast<int>(blocks.size());
    for (int pp = 1; pp <= std::min(count, model.layers); ++pp) {
      int dp = std::min(count / pp, batches);
      while (dp > 1 && batches % dp != 0) --dp;
      auto one = grid(like, model, cluster, blocks, dp, tp, pp, batches);
      if (!one) continue;
      most = std::max(most, one->devices.size());
      out.push_back(*std::move(one));
    }
  }
  std::erase_if(
      out, [&](const Candidate& c) { return c.devices.size() * 4 < most * 3; });
  return out;
}

}  // namespace troupe::runs
