#include "runs/elastic_report.h"

namespace troupe::runs {
namespace {

using reshard::SenderRule;

Json wall_json(const WallTime& wall) {
  Json out = Json::object();
  for (std::size_t a = 0; a < kAccounts; ++a) {
    const auto account = static_cast<Account>(a);
    out[std::string(name_of(account)) + "_s"] = to_seconds(wall[account]);
  }
  out["total_s"] = to_seconds(wall.total());
  out["total_ps"] = wall.total().v;
  return out;
}

Json segment_json(const Segment& s) {
  return {{"strategy", s.strategy},
          {"gpus", s.gpus},
          {"from_s", to_seconds(s.from)},
          {"to_s", to_seconds(s.to)},
          {"steps", s.steps},
          {"voided_steps", s.voided},
          {"step_time_s", to_seconds(s.step)},
          {"copying_s", to_seconds(s.copying)},
          {"mfu", s.mfu},
          {"tokens_per_step", s.tokens},
          {"out_of_memory", s.out_of_memory}};
}

Json survival_json(const Survival& survival) {
  Json states = Json::array();
  for (std::size_t k = 0; k < kStateKinds; ++k) {
    if (survival.total_bytes[k] == 0) continue;
    const Fate& f = survival.bytes[k];
    states.push_back({{"state", name_of(static_cast<StateKind>(k))},
                      {"bytes", survival.total_bytes[k]},
                      {"held_by_gone_bytes", f.touched()},
                      {"from_replica_bytes", f.replica},
                      {"from_peer_bytes", f.peer},
                      {"from_master_bytes", f.cast},
                      {"lost_bytes", f.lost}});
  }
  return {{"states", std::move(states)},
          {"lost_boxes", survival.lost_boxes},
          {"gradient_bytes_lost", survival.gradient_bytes_lost}};
}

Json lost_json(const Survival& survival,
               const std::vector<models::Parameter>& parameters) {
  constexpr std::size_t kMostWritten = 20;
  Json out = Json::array();
  for (const LostBox& lost : survival.lost) {
    if (out.size() == kMostWritten) break;
    Json box = Json::array();
    for (const auto& span : lost.box) box.push_back({span.first, span.last});
    Json owners = Json::array();
    for (const DeviceId d : lost.owners) owners.push_back(d.v);
    out.push_back({{"parameter", parameters[lost.parameter].name},
                   {"state", name_of(lost.kind)},
                   {"box", std::move(box)},
                   {"owners", std::move(owners)}});
  }
  return out;
}

Json makespan_json(const reshard::Makespan& m) {
  Json bytes = Json::object();
  for (std::size_t c = 0; c < m.bytes.size(); ++c) {
    bytes[std::string(name_of(static_cast<clusters::LinkClass>(c)))] =
        m.bytes[c];
  }
  return {{"predicted_s", to_seconds(m.total())}, {"bytes", std::move(bytes)}};
}

Json change_json(const Change& c,
                 const std::vector<models::Parameter>& parameters) {
  Json rules = Json::object();
  for (std::size_t r = 0; r < c.by_rule.size(); ++r) {
    rules[std::string(name_of(static_cast<SenderRule>(r)))] =
        makespan_json(c.by_rule[r]);
  }
  Json out = survival_json(c.survival);
  out["lost"] = lost_json(c.survival, parameters);
  out["at_s"] = to_seconds(c.at);
  out["event"] = c.event;
  out["from"] = c.from;
  out["to"] = c.to;
  out["finished"] = c.finished;
  out["voided_steps"] = c.voided;
  out["from_checkpoint"] = c.from_checkpoint;
  out["wall"] = wall_json(c.wall);
  out["moved_bytes"] = c.moved.v;
  out["read_bytes"] = c.read.v;
  out["copied_bytes"] = c.copied.v;
  out["messages"] = c.messages;
  out["packed_bytes"] = c.packed.v;
  out["peak_bytes"] = c.peak.v;
  out["peak_device"] = c.fullest.v;
  out["out_of_memory"] = c.out_of_memory;
  out["verified_tensors"] = c.verified;
  out["exchange"] = makespan_json(c.makespan);
  out["exchange"]["predicted_s"] = to_seconds(c.predicted);
  out["senders"] = name_of(c.senders);
  if (!rules.empty()) out["rules"] = std::move(rules);
  return out;
}

Json outcome_json(const Outcome& o,
                  const std::vector<models::Parameter>& parameters) {
  Json segments = Json::array();
  for (const Segment& s : o.segments) segments.push_back(segment_json(s));
  Json changes = Json::array();
  for (const Change& c : o.changes) {
    changes.push_back(change_json(c, parameters));
  }
  Json out{{"policy", name_of(o.policy)},
           {"segments", std::move(segments)},
           {"changes", std::move(changes)},
           {"wall", wall_json(o.wall)},
           {"steps", o.steps},
           {"voided_steps", o.voided},
           {"saves", o.saves},
           {"save_s", to_seconds(o.save)},
           {"tokens", o.tokens},
           {"tokens_per_s", o.tokens_per_s},
           {"mfu", o.mfu},
           {"mfu_whole_cluster", o.mfu_whole},
           {"peer_copies_bytes", o.copies.v},
           {"stopped", o.stopped},
           {"warnings", o.warnings}};
  const auto totals = sender_totals(o);
  if (totals.empty()) return out;
  Json rules = Json::object();
  for (std::size_t r = 0; r < totals.size(); ++r) {
    rules[std::string(name_of(static_cast<SenderRule>(r)))] =
        to_seconds(totals[r]);
  }
  out["senders_s"] = std::move(rules);
  return out;
}

Json options_json(const Options& o) {
  Json out{{"detection_s", to_seconds(o.detection)},
           {"regroup_s", to_seconds(o.regroup)},
           {"restart_s", to_seconds(o.restart)},
           {"peers", o.peers},
           {"bucket_bytes", o.bucket.v},
           {"choose", o.choose == Choose::first ? "first" : "fastest"},
           {"equal_pipelines", o.equal_pipelines}};
  if (!o.checkpoint) return out;
  out["checkpoint"] = {{"every_steps", o.checkpoint->every_steps},
                       {"write_gbytes_per_s", o.checkpoint->write.v / 1e9},
                       {"read_gbytes_per_s", o.checkpoint->read.v / 1e9},
                       {"latency_s", to_seconds(o.checkpoint->latency)}};
  return out;
}

}  // namespace

std::vector<Time> sender_totals(const Outcome& outcome) {
  std::vector<Time> out;
  for (const Change& c : outcome.changes) {
    if (c.by_rule.empty()) continue;
    out.resize(c.by_rule.size());
    for (std::size_t r = 0; r < c.by_rule.size(); ++r) {
      out[r] += c.by_rule[r].total();
    }
  }
  return out;
}

Result<Comparison> compare_policies(const Trace& trace,
                                    const Machinery& machinery,
                                    bool baselines) {
  Comparison out;
  for (const Policy policy :
       {Policy::elastic, Policy::restart, Policy::stop, Policy::drop}) {
    TRY(Outcome outcome, run_trace(trace, policy, machinery));
    out.outcomes.push_back(std::move(outcome));
    if (!baselines) break;
  }
  return out;
}

Json to_json(const Trace& trace, const Comparison& comparison) {
  const auto parameters = models::parameter_list(trace.model);
  Json out = outcome_json(comparison.outcomes.front(), parameters);
  out["format"] = "troupe.elastic/1";
  out["name"] = trace.name;
  out["model"] = trace.model.name;
  out["cluster"] = trace.cluster.name;
  out["cluster_gpus"] = trace.cluster.devices.size();
  out["until_s"] = to_seconds(trace.until);
  out["options"] = options_json(trace.options);
  Json baselines = Json::array();
  for (std::size_t i = 1; i < comparison.outcomes.size(); ++i) {
    baselines.push_back(outcome_json(comparison.outcomes[i], parameters));
  }
  out["baselines"] = std::move(baselines);
  return out;
}

}  // namespace troupe::runs
