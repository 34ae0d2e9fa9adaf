#include "strategy/strategy.h"

#include <algorithm>
#include <limits>

namespace troupe::strategy {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

/// Products and sums that stay at the largest value instead of wrapping.
std::int64_t times(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  return __builtin_mul_overflow(a, b, &out) ? kMost : out;
}
std::int64_t plus(std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  return __builtin_add_overflow(a, b, &out) ? kMost : out;
}

std::int64_t tokens_of(const Strategy& strategy, const Pipeline& pipeline) {
  std::int64_t positions = 0;
  if (pipeline.micro_batch_seq_lens.empty()) {
    positions =
        times(pipeline.micro_batches, sequence_length(strategy, pipeline, 0));
  } else {
    for (const int length : pipeline.micro_batch_seq_lens) {
      positions = plus(positions, length);
    }
  }
  return times(positions, pipeline.micro_batch_size);
}

}  // namespace

std::string_view name_of(HandOver way) {
  switch (way) {
    case HandOver::cheapest:
      return "cheapest";
    case HandOver::batched:
      return "batched";
    case HandOver::leader:
      return "leader";
    case HandOver::scatter:
      return "scatter";
  }
  return "";
}

int Stage::layers() const {
  int out = 0;
  for (const LayerRange& chunk : chunks) out += chunk.count();
  return out;
}

int Stage::device_count() const {
  int out = 0;
  for (const Member& member : members) out += member.tp();
  return out;
}

std::vector<DeviceId> used_devices(const Phase& phase) {
  std::vector<DeviceId> out;
  for (const Pipeline& pipeline : phase.pipelines) {
    for (const Stage& stage : pipeline.stages) {
      for (const Member& member : stage.members) {
        out.insert(out.end(), member.devices.begin(), member.devices.end());
      }
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::int64_t tokens_per_step(const Strategy& strategy, const Phase& phase) {
  std::int64_t out = 0;
  for (const Pipeline& pipeline : phase.pipelines) {
    out = plus(out, tokens_of(strategy, pipeline));
  }
  return out;
}

int sequence_length(const Strategy& strategy, const Pipeline& pipeline,
                    int index) {
  const auto& lengths = pipeline.micro_batch_seq_lens;
  if (index >= 0 && static_cast<std::size_t>(index) < lengths.size()) {
    return lengths[static_cast<std::size_t>(index)];
  }
  return pipeline.seq_len > 0 ? pipeline.seq_len : strategy.seq_len;
}

}  // namespace troupe::strategy
