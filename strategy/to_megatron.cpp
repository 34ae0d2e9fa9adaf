// Native to Megatron-LM: which of its arguments say the same.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/text.h"
#include "strategy/convert.h"
#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

/// The arguments so far, and the reasons why they are not enough.
struct Writer {
  std::vector<std::string> lines;
  std::vector<std::string> reasons;

  void add(std::string line) { lines.push_back(std::move(line)); }
  template <typename Value>
  void add(std::string_view name, const Value& value) {
    lines.push_back(fmt::format("--{} {}", name, value));
  }
  void cannot(std::string reason) {
    if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end()) {
      reasons.push_back(std::move(reason));
    }
  }
};

bool same_shape(const Pipeline& a, const Pipeline& b, Writer& w) {
  const std::size_t before = w.reasons.size();
  if (a.micro_batches != b.micro_batches ||
      a.micro_batch_size != b.micro_batch_size) {
    w.cannot("pipelines differ in micro-batches");
  }
  if (a.seq_len != b.seq_len) w.cannot("pipelines differ in sequence length");
  if (a.stages.size() != b.stages.size()) {
    w.cannot("pipelines differ in their number of stages");
    return false;
  }
  for (std::size_t s = 0; s < a.stages.size(); ++s) {
    if (a.stages[s].chunks != b.stages[s].chunks) {
      w.cannot("pipelines cut the layers differently");
    }
    if (a.stages[s].recompute != b.stages[s].recompute) {
      w.cannot("pipelines recompute differently");
    }
  }
  return w.reasons.size() == before;
}

/// The grid when all stages have the same tp and cp; else reasons.
ShortForm grid_of(const Phase& phase, Writer& w) {
  const Pipeline& first = phase.pipelines.front();
  ShortForm form;
  form.dp = static_cast<int>(phase.pipelines.size());
  form.pp = static_cast<int>(first.stages.size());
  form.cp = static_cast<int>(first.stages.front().members.size());
  form.tp = first.stages.front().members.front().tp();
  form.interleave = static_cast<int>(first.stages.front().chunks.size());
  form.micro_batches = first.micro_batches;
  form.micro_batch_size = first.micro_batch_size;
  for (const Pipeline& pipeline : phase.pipelines) {
    same_shape(first, pipeline, w);
    if (!pipeline.micro_batch_seq_lens.empty()) {
      w.cannot("micro-batches differ in sequence length");
    }
    for (const Stage& stage : pipeline.stages) {
      if (static_cast<int>(stage.members.size()) != form.cp) {
        w.cannot("stages differ in context-parallel degree");
      }
      for (const Member& member : stage.members) {
        if (member.tp() != form.tp) {
          w.cannot("stages differ in tensor-parallel degree");
        }
        if (member.share != stage.members.front().share) {
          w.cannot("context-parallel members have unequal shares");
        }
      }
    }
  }
  return form;
}

/// The ranks must be the devices in one of the two orders it knows.
void write_order(const Phase& phase, ShortForm form, int layers, Writer& w) {
  const int world = static_cast<int>(rank_count(form));
  for (const RankOrder& order :
       {kMegatronOrder, RankOrder{Axis::tp, Axis::cp, Axis::pp, Axis::dp}}) {
    form.order = order;
    const auto expected = pipelines_of(form, layers);
    bool same = true;
    for (std::size_t p = 0; same && p < expected.size(); ++p) {
      for (std::size_t s = 0; same && s < expected[p].stages.size(); ++s) {
        for (std::size_t m = 0;
             same && m < expected[p].stages[s].members.size(); ++m) {
          same = expected[p].stages[s].members[m].devices ==
                 phase.pipelines[p].stages[s].members[m].devices;
        }
      }
    }
    if (!same) continue;
    w.add("world-size", world);
    if (order != kMegatronOrder) w.add("--use-tp-pp-dp-mapping");
    return;
  }
  w.cannot(
      "devices are not assigned to ranks in the order tp-cp-dp-pp or "
      "tp-cp-pp-dp from device 0");
}

std::vector<int> counts_of(const Pipeline& pipeline) {
  std::vector<int> out;
  for (std::size_t c = 0; c < pipeline.stages.front().chunks.size(); ++c) {
    for (const Stage& stage : pipeline.stages) {
      if (c < stage.chunks.size()) out.push_back(stage.chunks[c].count());
    }
  }
  return out;
}

/// Even, or uneven on the first and last stage only.
void write_layers(const Phase& phase, const ShortForm& form, int layers,
                  Writer& w) {
  const std::vector<int> counts = counts_of(phase.pipelines.front());
  const auto virtual_stages = counts.size();
  const bool even = std::all_of(counts.begin(), counts.end(),
                                [&](int n) { return n == counts.front(); });
  if (form.interleave > 1) {
    if (!even || layers % static_cast<int>(virtual_stages) != 0) {
      w.cannot("interleaved stages hold unequal numbers of layers");
    }
    w.add("num-layers-per-virtual-pipeline-stage", counts.front());
    return;
  }
  if (even) return;
  const bool middle_even =
      virtual_stages <= 3 || std::all_of(counts.begin() + 1, counts.end() - 1,
                                         [&](int n) { return n == counts[1]; });
  if (!middle_even) {
    w.cannot(
        "stages other than the first and last hold unequal numbers of "
        "layers");
    return;
  }
  w.add("decoder-first-pipeline-num-layers", counts.front());
  w.add("decoder-last-pipeline-num-layers", counts.back());
}

/// Full recomputation of the first n layers of each run is "block".
void write_block(const RecomputeRule& rule, const Pipeline& pipeline,
                 Writer& w) {
  std::set<int> wanted(rule.layers.begin(), rule.layers.end());
  std::set<int> counts;
  std::size_t covered = 0;
  for (const Stage& stage : pipeline.stages) {
    for (const LayerRange& chunk : stage.chunks) {
      int n = 0;
      while (chunk.first + n < chunk.last && wanted.contains(chunk.first + n)) {
        ++n;
      }
      covered += static_cast<std::size_t>(n);
      counts.insert(n);
    }
  }
  if (counts.size() != 1 || covered != wanted.size()) {
    w.cannot("recomputed layers are not the first n of every stage");
    return;
  }
  w.add("--recompute-granularity full");
  w.add("--recompute-method block");
  w.add("recompute-num-layers", *counts.begin());
}

void write_recompute(const Strategy& s, const Pipeline& pipeline, Writer& w) {
  RecomputeRule rule = s.recompute;
  const auto& first = pipeline.stages.front().recompute;
  for (const Stage& stage : pipeline.stages) {
    if (stage.recompute != first) {
      w.cannot("stages recompute differently");
      return;
    }
  }
  if (first) rule = *first;
  switch (rule.mode) {
    case Recompute::none:
      return;
    case Recompute::selective:
      if (!rule.layers.empty()) {
        w.cannot("selective recomputation of some layers only");
      }
      w.add("--recompute-granularity selective");
      return;
    case Recompute::full:
      if (!rule.layers.empty()) return write_block(rule, pipeline, w);
      w.add("--recompute-granularity full");
      w.add("--recompute-method uniform");
      w.add("--recompute-num-layers 1");
      return;
  }
}

void write_options(const Strategy& s, const ShortForm& form, Writer& w) {
  using kernels::DType;
  if (s.dtype == DType::bf16) w.add("--bf16");
  if (s.dtype == DType::fp16) w.add("--fp16");
  if (s.dtype == DType::fp8 || s.dtype == DType::tf32) {
    w.cannot(fmt::format("dtype {}", kernels::name_of(s.dtype)));
  }
  if (s.gradient_dtype == DType::fp32 && s.dtype != DType::fp32) {
    w.add("--accumulate-allreduce-grads-in-fp32");
  }
  if (s.zero >= Zero::two) {
    w.cannot(fmt::format("ZeRO {}", static_cast<int>(s.zero)));
  }
  if (s.zero == Zero::one) w.add("--use-distributed-optimizer");
  if (s.sequence_parallel && form.tp > 1) w.add("--sequence-parallel");
  if (s.overlap_gradient_sync) w.add("--overlap-grad-reduce");
  if (form.interleave > 1 && !s.overlap_hand_over) {
    w.add("--no-overlap-p2p-communication");
    if (form.pp == 2) {
      // Its arguments demand more than two stages here.
      w.cannot("two interleaved stages that wait for their hand-overs");
    }
  }
  // It scatters and gathers wherever ranks need the same rows.
  if (s.hand_over == HandOver::batched || s.hand_over == HandOver::leader) {
    w.cannot(fmt::format("the hand-over '{}'", name_of(s.hand_over)));
  }
  if (s.schedule == ScheduleKind::gpipe) w.cannot("the GPipe schedule");
  if (s.schedule == ScheduleKind::custom) w.cannot("a custom schedule");
}

void write_attention(const models::Model& m, Writer& w) {
  w.add("num-attention-heads", m.heads);
  if (m.kv_heads != m.heads) {
    w.add("--group-query-attention");
    w.add("num-query-groups", m.kv_heads);
  }
  if (m.head_dim * m.heads != m.hidden) w.add("kv-channels", m.head_dim);
  switch (m.positions) {
    case models::Positions::rotary:
      w.add("--position-embedding-type rope");
      break;
    case models::Positions::none:
      w.add("--position-embedding-type none");
      break;
    case models::Positions::learned:
      w.add("--position-embedding-type learned_absolute");
      w.add("max-position-embeddings", m.max_positions);
      break;
    case models::Positions::alibi:
    case models::Positions::relative:
      w.cannot("the positions of the model");
      break;
  }
}

void write_model(const models::Model& m, Writer& w) {
  if (m.encoder_layers > 0) w.cannot("a model with encoder layers");
  w.add("num-layers", m.layers);
  w.add("hidden-size", m.hidden);
  w.add("ffn-hidden-size", m.ffn);
  write_attention(m, w);
  w.add("vocab-size", m.vocab);
  if (m.norm == models::Norm::rms) w.add("--normalization RMSNorm");
  if (m.activation == models::Activation::swiglu) w.add("--swiglu");
  if (m.activation == models::Activation::geglu ||
      m.activation == models::Activation::relu) {
    w.cannot("the activation of the model");
  }
  const bool all = m.qkv_bias && m.attention_out_bias && m.mlp_bias;
  const bool none = !m.attention_out_bias && !m.mlp_bias;
  if (none) w.add("--disable-bias-linear");
  if (none && m.qkv_bias) w.add("--add-qkv-bias");
  if (!all && !none) w.cannot("biases on some matrices only");
  if (!m.tied_embeddings) w.add("--untie-embeddings-and-output-weights");
}

}  // namespace

std::vector<std::string> megatron_notes(const Plan& plan) {
  const Strategy& s = plan.strategy;
  std::vector<std::string> notes;
  const auto& stages = s.phases.front().pipelines.front().stages;
  const bool interleaved = stages.front().chunks.size() > 1;
  if (s.overlap_hand_over && !interleaved && stages.size() > 1) {
    notes.emplace_back(
        "overlap_hand_over: without interleaved stages Megatron-LM has no "
        "argument for it and waits for its hand-overs; its step is that of "
        "--set overlap_hand_over=false");
  }
  if (!s.flash_attention) {
    notes.emplace_back(
        "flash_attention: the arguments do not choose the attention kernel; "
        "add --attention-backend unfused");
  }
  return notes;
}

Result<std::string> to_megatron(const Plan& plan) {
  const Strategy& s = plan.strategy;
  Writer w;
  if (s.phases.size() != 1) {
    w.cannot(counted(std::ssize(s.phases), "phase"));
  }
  const Phase& phase = s.phases.front();
  const Pipeline& first = phase.pipelines.front();
  const ShortForm form = grid_of(phase, w);
  w.add("tensor-model-parallel-size", form.tp);
  w.add("pipeline-model-parallel-size", form.pp);
  w.add("context-parallel-size", form.cp);
  if (w.reasons.empty()) {
    write_order(phase, form, plan.model.layers, w);
    write_layers(phase, form, plan.model.layers, w);
    write_recompute(s, first, w);
  }
  w.add("micro-batch-size", form.micro_batch_size);
  w.add("global-batch-size",
        std::int64_t{form.dp} * form.micro_batches * form.micro_batch_size);
  w.add("seq-length", sequence_length(s, first, 0));
  write_options(s, form, w);
  write_model(plan.model, w);
  if (!w.reasons.empty()) {
    return fail(Fault::input,
                fmt::format("{}: Megatron-LM's arguments cannot say: {}",
                            s.name, join(w.reasons, "; ")));
  }
  return join(w.lines, "\n") + "\n";
}

}  // namespace troupe::strategy
