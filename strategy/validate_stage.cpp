// Checks of one pipeline and one stage.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "strategy/validate_parts.h"

namespace troupe::strategy {
namespace {

/// Shares are typed by people; a sum this close to 1 is meant to be 1.
constexpr double kShareSlack = 1e-6;

/// Layers in the order in which a micro-batch meets them.
std::vector<std::pair<LayerRange, std::size_t>> model_order(
    const Pipeline& pipeline) {
  std::size_t most = 0;
  for (const Stage& stage : pipeline.stages) {
    most = std::max(most, stage.chunks.size());
  }
  std::vector<std::pair<LayerRange, std::size_t>> out;
  for (std::size_t c = 0; c < most; ++c) {
    for (std::size_t s = 0; s < pipeline.stages.size(); ++s) {
      const auto& chunks = pipeline.stages[s].chunks;
      if (c < chunks.size()) out.push_back({chunks[c], s});
    }
  }
  return out;
}

void check_layers(Checker& checker, const Pipeline& pipeline,
                  const std::string& part) {
  int next = 0;
  const int layers = checker.model.layers;
  for (const auto& [range, s] : model_order(pipeline)) {
    const std::string where = fmt::format("{}/stages/{}/layers", part, s);
    if (range.first < 0 || range.last > layers || range.first >= range.last) {
      checker.error_once(
          where, fmt::format("layers [{}, {}) are not a part of the {} layers "
                             "0 to {} of model {}",
                             range.first, range.last, layers, layers - 1,
                             checker.model.name));
      return;
    }
    if (range.first != next) {
      checker.error_once(
          where,
          fmt::format("layers [{}, {}) should begin at {}: every pipeline "
                      "holds each layer once, in order",
                      range.first, range.last, next));
      return;
    }
    next = range.last;
  }
  if (next == layers) return;
  const std::size_t last = pipeline.stages.size() - 1;
  checker.error_once(
      fmt::format("{}/stages/{}/layers", part, last),
      fmt::format("the stages hold {}; model {} has {}", counted(next, "layer"),
                  checker.model.name, layers));
}

void check_chunks(Checker& checker, const Pipeline& pipeline,
                  const std::string& part) {
  const std::size_t first = pipeline.stages.front().chunks.size();
  for (std::size_t s = 0; s < pipeline.stages.size(); ++s) {
    const std::size_t chunks = pipeline.stages[s].chunks.size();
    const std::string where = fmt::format("{}/stages/{}/layers", part, s);
    if (chunks != first) {
      checker.error_once(
          where, fmt::format("{} runs of layers, the first stage has {}; "
                             "interleaving needs the same number on every "
                             "stage",
                             chunks, first));
    } else if (chunks > 1 &&
               (checker.strategy.schedule == ScheduleKind::one_f_one_b ||
                checker.strategy.schedule == ScheduleKind::gpipe)) {
      checker.error_once(
          where, fmt::format("{} runs of layers on a stage need \"schedule\": "
                             "\"interleaved\" (or a custom order)",
                             chunks));
    }
  }
  const auto stages = static_cast<int>(pipeline.stages.size());
  if (first > 1 && pipeline.micro_batches % stages != 0) {
    checker.tally(
        "interleave", part + "/micro_batches",
        fmt::format("{} for {}, not a multiple: the interleaved schedule "
                    "then runs all forwards first, with the memory of GPipe",
                    counted(pipeline.micro_batches, "micro-batch"),
                    counted(stages, "stage")));
  }
}

void check_length(Checker& checker, int length, const std::string& where) {
  const models::Model& m = checker.model;
  if (length < 1) {
    checker.error_once(where,
                       fmt::format("sequence length {}; give seq_len of 1 or "
                                   "more",
                                   length));
  } else if (m.positions == models::Positions::learned &&
             length > m.max_positions) {
    checker.error_once(where,
                       fmt::format("sequence length {} is over the {} learned "
                                   "positions of model {}",
                                   length, m.max_positions, m.name));
  }
}

void check_micro_batches(Checker& checker, const Pipeline& pipeline,
                         const std::string& part) {
  if (pipeline.micro_batches < 1) {
    checker.error_once(
        part + "/micro_batches",
        fmt::format("{} micro-batches; a pipeline without work would only "
                    "wait in gradient sync: give it 1 or more, or remove it",
                    pipeline.micro_batches));
  } else if (pipeline.micro_batches <
             static_cast<int>(pipeline.stages.size())) {
    checker.tally("bubble", part + "/micro_batches",
                  fmt::format("{} for {}: stages are idle most of the step",
                              counted(pipeline.micro_batches, "micro-batch"),
                              counted(std::ssize(pipeline.stages), "stage")));
  }
  if (pipeline.micro_batch_size < 1) {
    checker.error_once(part + "/micro_batch_size",
                       fmt::format("{} sequences; expected 1 or more",
                                   pipeline.micro_batch_size));
  }
  const auto& lengths = pipeline.micro_batch_seq_lens;
  if (!lengths.empty() &&
      lengths.size() != static_cast<std::size_t>(pipeline.micro_batches)) {
    checker.error_once(
        part + "/micro_batch_seq_lens",
        fmt::format("{} for {}; give one for each",
                    counted(std::ssize(lengths), "length"),
                    counted(pipeline.micro_batches, "micro-batch")));
  }
  if (lengths.empty()) {
    check_length(checker, sequence_length(checker.strategy, pipeline, 0),
                 part + "/seq_len");
  }
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    check_length(checker, lengths[i],
                 fmt::format("{}/micro_batch_seq_lens/{}", part, i));
  }
}

/// What one TP degree must divide. `ends`: holds embedding or head.
void check_tp(Checker& checker, int tp, bool ends, const std::string& part) {
  const models::Model& m = checker.model;
  const std::string where = part + "/tp";
  const auto must = [&](const char* what, int size) {
    if (size % tp == 0) return;
    checker.error_once(
        where, fmt::format("tensor-parallel degree {} does not divide the {} "
                           "{} of model {}; use a divisor of {}",
                           tp, size, what, m.name, size));
  };
  must("heads", m.heads);
  must("FFN columns", m.ffn);
  if (m.kv_heads > 0 && m.kv_heads != m.heads && m.kv_heads % tp != 0 &&
      tp % m.kv_heads != 0) {
    checker.error_once(
        where, fmt::format("tensor-parallel degree {} and {} KV heads of "
                           "model {}: one must divide the other",
                           tp, m.kv_heads, m.name));
  }
  if (ends && m.vocab % tp != 0) {
    checker.tally("vocabulary", where,
                  fmt::format("vocabulary {} is padded to a multiple of {}",
                              m.vocab, tp));
  }
}

/// What layers with a sliding window cannot be run with.
void check_window(Checker& checker, const Stage& stage,
                  const std::string& part) {
  const int window = checker.model.attention_window;
  if (window == 0) return;
  if (stage.members.size() > 1) {
    checker.error_once(
        part + "/cp",
        fmt::format("model {} has attention windows of {} tokens, which "
                    "context-parallel members do not support; use one member",
                    checker.model.name, window));
  }
  if (!checker.strategy.flash_attention) {
    checker.error_once(
        "/flash_attention",
        fmt::format("model {} has attention windows of {} tokens, which only "
                    "fused attention supports; use true",
                    checker.model.name, window));
  }
}

void check_devices(Checker& checker, const Stage& stage,
                   const std::string& part) {
  const auto count = static_cast<std::int32_t>(checker.cluster.devices.size());
  int index = 0;
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    const auto& devices = stage.members[m].devices;
    bool known = !devices.empty();
    for (const DeviceId device : devices) {
      const std::string where = fmt::format("{}/devices/{}", part, index++);
      if (device.v >= 0 && device.v < count) continue;
      known = false;
      checker.error_once(where,
                         fmt::format("device {} is beyond cluster {}, which "
                                     "has {} (0 to {})",
                                     device.v, checker.cluster.name,
                                     counted(count, "device"), count - 1));
    }
    if (!known) continue;
    const std::string where = part + "/devices";
    const auto differs = [&](auto&& of) {
      return std::any_of(devices.begin(), devices.end(), [&](DeviceId d) {
        return of(d) != of(devices.front());
      });
    };
    const auto& all = checker.cluster.devices;
    if (differs([&](DeviceId d) { return all[d.at()].node; })) {
      checker.tally("nodes", where,
                    "a tensor-parallel group crosses nodes; its collectives "
                    "run over the network");
    }
    if (differs([&](DeviceId d) { return all[d.at()].kind; })) {
      checker.tally("kinds", where,
                    "a tensor-parallel group mixes device kinds; it runs at "
                    "the pace of the slowest");
    }
    const auto& kind = checker.cluster.kind_of(devices.front());
    if (!kind.peak.contains(checker.strategy.dtype)) {
      checker.error_once(
          "/dtype",
          fmt::format("device kind {} has no {} peak; choose another "
                      "dtype",
                      kind.name, kernels::name_of(checker.strategy.dtype)));
    }
  }
}

void check_shares(Checker& checker, const Stage& stage,
                  const std::string& part) {
  double sum = 0;
  for (const Member& member : stage.members) {
    if (!(member.share > 0 && member.share <= 1)) {
      checker.error_once(part + "/share",
                         fmt::format("a share of {}; expected above 0 and at "
                                     "most 1",
                                     member.share));
      return;
    }
    sum += member.share;
    const int a = member.tp();
    const int b = stage.members.front().tp();
    if (a > 0 && b > 0 && a % b != 0 && b % a != 0) {
      checker.error_once(part + "/tp",
                         fmt::format("context-parallel members of {} and {} "
                                     "devices: one must divide the other",
                                     b, a));
    }
  }
  if (std::abs(sum - 1) > kShareSlack) {
    checker.error_once(
        part + "/share",
        fmt::format("the shares of the sequence add up to {}, not 1", sum));
  }
}

/// Tokens of each member: whole, and even where ranks split them.
void check_tokens(Checker& checker, const Pipeline& pipeline,
                  const Stage& stage, const std::string& part) {
  const int length = sequence_length(checker.strategy, pipeline, 0);
  const auto cp = static_cast<int>(stage.members.size());
  if (length < 1) return;
  if (cp > 1 && length < 2 * cp) {
    checker.error_once(
        part + "/cp",
        fmt::format("{} context-parallel members share "
                    "sequences of {}; use at most {}",
                    cp, counted(length, "token"), std::max(length / 2, 1)));
  } else if (cp > 1 && length % (2 * cp) != 0) {
    checker.tally("cp", part + "/cp",
                  fmt::format("sequence length {} is not a multiple of {}, "
                              "so context-parallel shares are padded",
                              length, 2 * cp));
  }
  for (const Member& member : stage.members) {
    if (!(member.share > 0 && member.share <= 1)) continue;  // said already
    const auto rows = static_cast<std::int64_t>(
        std::llround(member.share * length) * pipeline.micro_batch_size);
    if (rows < 1) {
      checker.error_once(
          part + "/share",
          fmt::format("a share of {} of {} is less than one token",
                      member.share, counted(length, "token")));
    } else if (checker.strategy.sequence_parallel && member.tp() > 1 &&
               rows % member.tp() != 0) {
      checker.tally("rows", part + "/tp",
                    fmt::format("{} over {} sequence-parallel ranks: padded",
                                counted(rows, "token"), member.tp()));
    }
  }
}

}  // namespace

void check_recompute(Checker& checker, const RecomputeRule& rule,
                     const std::string& part) {
  std::set<int> seen;
  for (const int layer : rule.layers) {
    if (layer < 0 || layer >= checker.model.layers) {
      checker.error_once(
          part, fmt::format("layer {} is beyond the {} layers of "
                            "model {}",
                            layer, checker.model.layers, checker.model.name));
      return;
    }
    if (!seen.insert(layer).second) {
      checker.error_once(part, fmt::format("layer {} is listed twice", layer));
      return;
    }
  }
}

void check_stage(Checker& checker, const Pipeline& pipeline, const Stage& stage,
                 const std::string& part) {
  const bool ends =
      &stage == &pipeline.stages.front() || &stage == &pipeline.stages.back();
  if (stage.members.empty() ||
      std::any_of(stage.members.begin(), stage.members.end(),
                  [](const Member& m) { return m.devices.empty(); })) {
    checker.error_once(part + "/devices",
                       "no devices; give at least one, or remove the stage");
    return;
  }
  if (stage.chunks.empty()) {
    checker.error_once(part + "/layers",
                       "no layers; give at least one, or remove the stage");
  }
  std::set<int> degrees;
  for (const Member& member : stage.members) degrees.insert(member.tp());
  for (const int tp : degrees) check_tp(checker, tp, ends, part);
  check_devices(checker, stage, part);
  check_shares(checker, stage, part);
  check_tokens(checker, pipeline, stage, part);
  if (!checker.strategy.flash_attention && stage.members.size() > 1) {
    checker.tally("flash", part + "/cp",
                  "attention over context-parallel members is always fused; "
                  "\"flash_attention\": false has no effect here");
  }
  check_window(checker, stage, part);
  if (stage.recompute) {
    check_recompute(checker, *stage.recompute, part + "/recompute");
  }
}

void check_pipeline(Checker& checker, const Pipeline& pipeline,
                    const std::string& part) {
  if (checker.places.unread(part)) return;
  check_micro_batches(checker, pipeline, part);
  if (pipeline.stages.empty()) {
    checker.error_once(part + "/stages", "no stages; give at least one");
    return;
  }
  bool whole = true;
  for (std::size_t s = 0; s < pipeline.stages.size(); ++s) {
    const std::string stage = fmt::format("{}/stages/{}", part, s);
    if (checker.places.unread(stage)) {
      whole = false;
    } else {
      check_stage(checker, pipeline, pipeline.stages[s], stage);
      whole = whole && !pipeline.stages[s].chunks.empty();
    }
  }
  if (!whole || checker.places.unread(part + "/layers")) return;
  check_chunks(checker, pipeline, part);
  check_layers(checker, pipeline, part);
}

}  // namespace troupe::strategy
