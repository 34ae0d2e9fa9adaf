#include "schedule/lower.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

/// Turns the list of waits into slices of one array, each task's in the
/// order they were added.
void slice_waits(Lowering& l) {
  std::vector<Task>& tasks = l.out.tasks;
  for (const auto& [task, before] : l.waits) ++tasks[task.at()].dependencies;
  std::uint32_t next = 0;
  for (Task& t : tasks) {
    t.first_dependency = next;
    next += t.dependencies;
    t.dependencies = 0;
  }
  l.out.dependencies.resize(next);
  for (const auto& [task, before] : l.waits) {
    Task& t = tasks[task.at()];
    l.out.dependencies[t.first_dependency + t.dependencies++] = before;
  }
}

kernels::Pointwise function_of(models::Activation activation) {
  switch (activation) {
    case models::Activation::swiglu:
      return kernels::Pointwise::silu;
    case models::Activation::geglu:
      return kernels::Pointwise::gelu;
    case models::Activation::gelu:
      return kernels::Pointwise::gelu;
    case models::Activation::gelu_tanh:
      return kernels::Pointwise::gelu_tanh;
    case models::Activation::relu:
      return kernels::Pointwise::relu;
  }
  return kernels::Pointwise::silu;
}

/// What of the model has no arithmetic yet.
std::string unsupported_in(const models::Model& m) {
  if (m.encoder_layers > 0) return "encoder layers";
  if (m.positions == models::Positions::alibi) return "ALiBi positions";
  if (m.positions == models::Positions::relative) return "relative positions";
  if (m.token_types > 0) return "token types";
  if (m.embedding_norm) return "a norm after the embedding";
  if (m.head_transform) return "a transform before the head";
  if (m.pooler || m.pair_head) return "a pooler";
  return {};
}

Numerics numerics_of(const models::Model& m) {
  Numerics n;
  n.layers = m.layers;
  n.hidden = m.hidden;
  n.heads = m.heads;
  n.kv_heads = m.kv_heads;
  n.head_dim = m.head_dim;
  n.vocab = m.vocab;
  n.max_positions = m.max_positions;
  n.causal = m.encoder_layers == 0;
  n.rms = m.norm == models::Norm::rms;
  n.gated = models::gated(m.activation);
  n.activation = function_of(m.activation);
  n.rotary_base = m.rotary_base;
  n.rotary_scaling = m.rotary_scaling;
  n.epsilon = m.norm_epsilon;
  n.unsupported = unsupported_in(m);
  return n;
}

void count_flops(Lowering& l) {
  for (const strategy::Pipeline& p : l.phase.pipelines) {
    std::map<int, std::int64_t> sequences;
    for (int m = 0; m < p.micro_batches; ++m) {
      sequences[strategy::sequence_length(l.strategy, p, m)] +=
          p.micro_batch_size;
    }
    for (const auto& [length, count] : sequences) {
      const std::int64_t tokens = count * length;
      l.out.tokens += tokens;
      l.out.model_flops += models::model_flops(l.model, tokens, length);
      l.out.model_flops_full +=
          models::model_flops_full_attention(l.model, tokens, length);
    }
  }
}

/// A task costs about 100 bytes; this bounds a schedule to a few GiB.
constexpr double kMostTasks = 4e7;

Result<void> check_size(const strategy::Phase& phase) {
  double tasks = 0;
  for (const strategy::Pipeline& p : phase.pipelines) {
    double chunks = 0;
    for (const auto& s : p.stages)
      chunks += static_cast<double>(s.chunks.size());
    tasks += 4.0 * chunks * p.micro_batches;
  }
  if (tasks <= kMostTasks) return {};
  return fail(
      Fault::input,
      fmt::format("phase '{}' has about {:.0f} tasks, more than {:.0f}; "
                  "use fewer micro-batches or pipelines",
                  phase.name, tasks, kMostTasks));
}

}  // namespace

int backward_parts(const Lowering& l, const ChunkRange& chunk) {
  constexpr int kParts = 4;
  const bool overlaps = l.strategy.overlap_gradient_sync &&
                        l.strategy.zero < strategy::Zero::two &&
                        l.out.pipelines > 1;
  return overlaps ? std::clamp(chunk.last - chunk.first, 1, kParts) : 1;
}

ChunkRange part_layers(const ChunkRange& chunk, Part part) {
  const int count = chunk.last - chunk.first;
  const auto cut = [&](int i) { return chunk.last - count * i / part.count; };
  return {cut(part.index + 1), cut(part.index)};
}

void describe_micro_batches(Lowering& l) {
  for (const strategy::Pipeline& p : l.phase.pipelines) {
    MicroBatches& all = l.out.micro_batches.emplace_back();
    all.sequences = p.micro_batch_size;
    for (int m = 0; m < p.micro_batches; ++m) {
      all.seq_len.push_back(strategy::sequence_length(l.strategy, p, m));
    }
  }
}

void lower_stages(Lowering& l) {
  for (std::size_t p = 0; p < l.phase.pipelines.size(); ++p) {
    auto& ids = l.pipelines.emplace_back();
    for (const strategy::Stage& source : l.phase.pipelines[p].stages) {
      if (source.layers() == 0) continue;
      const auto id = make_id<StageId>(l.out.stages.size());
      Stage stage;
      stage.pipeline = static_cast<int>(p);
      stage.index = static_cast<int>(ids.size());
      stage.micro_batches = l.phase.pipelines[p].micro_batches;
      for (std::size_t m = 0; m < source.members.size(); ++m) {
        auto& ranks = stage.members.emplace_back();
        for (std::size_t t = 0; t < source.members[m].devices.size(); ++t) {
          ranks.push_back(make_id<RankId>(l.out.ranks.size()));
          l.out.ranks.push_back({source.members[m].devices[t], id,
                                 static_cast<std::int16_t>(m),
                                 static_cast<std::int16_t>(t)});
        }
      }
      for (const strategy::Member& m : source.members) {
        stage.shares.push_back(m.share);
      }
      for (const strategy::LayerRange& c : source.chunks) {
        stage.chunks.push_back({c.first, c.last});
      }
      l.out.stages.push_back(std::move(stage));
      l.sources.push_back(&source);
      ids.push_back(id);
    }
  }
}

std::vector<Segment> segments(const Lowering& l) {
  std::set<int> cuts;
  for (const Stage& s : l.out.stages) {
    for (const ChunkRange& c : s.chunks) {
      const int parts = backward_parts(l, c);
      for (int i = 0; i < parts && c.first < c.last; ++i) {
        const ChunkRange layers = part_layers(c, {i, parts});
        cuts.insert({layers.first, layers.last});
      }
    }
  }
  std::vector<Segment> out;
  std::map<int, std::size_t> starting;
  for (auto it = cuts.begin(); std::next(it) != cuts.end(); ++it) {
    Segment segment;
    segment.first = *it;
    segment.last = *std::next(it);
    for (int layer = segment.first; layer < segment.last; ++layer) {
      segment.parameters =
          segment.parameters +
          models::layer_parameters(l.model, models::layer_kind(l.model, layer));
    }
    if (segment.first == 0) {
      segment.embedding = true;
      segment.parameters =
          segment.parameters + models::embedding_parameters(l.model);
    }
    if (segment.last == l.model.layers) {
      segment.head = true;
      segment.parameters =
          segment.parameters + models::head_parameters(l.model);
    }
    starting[segment.first] = out.size();
    out.push_back(std::move(segment));
  }
  for (std::size_t s = 0; s < l.out.stages.size(); ++s) {
    const Stage& stage = l.out.stages[s];
    for (std::size_t c = 0; c < stage.chunks.size(); ++c) {
      const ChunkRange& range = stage.chunks[c];
      for (auto it = starting.lower_bound(range.first);
           it != starting.end() && it->first < range.last; ++it) {
        Segment& segment = out[it->second];
        const int parts = backward_parts(l, range);
        int part = 0;
        while (part_layers(range, {part, parts}).first > segment.first) ++part;
        segment.holders.push_back(
            {make_id<StageId>(s), static_cast<int>(c), part});
        segment.replicas += static_cast<int>(stage.members.size());
      }
    }
  }
  return out;
}

Result<Schedule> lower(const strategy::Strategy& strategy,
                       const strategy::Phase& phase, const models::Model& model,
                       const clusters::Cluster& cluster, const Orders& orders,
                       const Schedule* like) {
  TRY_DO(check_size(phase));
  Lowering l{strategy, phase, model, cluster, orders, BlockShop(model), {}, {},
             {},       {},    {},    {},      {}};
  if (like != nullptr) l.ways.follow(*like);
  l.out.model = model.name;
  l.out.cluster = cluster.name;
  l.out.phase = phase.name;
  l.out.pipelines = static_cast<int>(phase.pipelines.size());
  l.out.dtype = strategy.dtype;
  l.out.sequence_parallel = strategy.sequence_parallel;
  l.out.numerics = numerics_of(model);
  describe_micro_batches(l);
  lower_stages(l);
  const std::vector<Segment> parts = segments(l);
  l.stage_replicas.assign(l.out.stages.size(), 1);
  for (const Segment& part : parts) {
    for (const Segment::Holder& h : part.holders) {
      l.stage_replicas[h.stage.at()] = part.replicas;
    }
  }
  for (std::size_t p = 0; p < phase.pipelines.size(); ++p) {
    lower_pipeline(l, p);
  }
  lower_static_memory(l, parts);
  lower_step_end(l, parts);
  l.out.blocks = l.shop.take();
  count_flops(l);
  slice_waits(l);
  return std::move(l.out);
}

}  // namespace troupe::schedule
