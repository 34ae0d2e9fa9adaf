// Trains models on one device for a program in another language, one request
// after the other. A request is a line of JSON on standard input,
//   {"model": {"layers": 2, ...}, "lengths": [[16, 9], [20]],
//    "padding": 0, "documents": [[5, 1, 7], ...], "seed": 1,
//    "training": {"rate": 0.01, ...}}
// with the lengths of the sequences of each step,
// and the answer is a line: {"error": ...}, or the batches, the parameters
// before the first step and, by step, the loss, the norm of the gradients, the
// gradients before clipping and the parameters afterwards. All in fp64.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "clusters/read.h"
#include "emu/emulate.h"
#include "models/parameters.h"
#include "schedule/lower.h"
#include "strategy/one_device.h"

namespace troupe::emu {
namespace {

using nlohmann::json;

template <typename Enum>
Enum one_of(const json& from, const char* key,
            std::initializer_list<const char*> names) {
  const auto wanted = from.at(key).get<std::string>();
  std::size_t i = 0;
  for (const char* name : names) {
    if (wanted == name) return static_cast<Enum>(i);
    ++i;
  }
  throw std::invalid_argument(wanted + " is no " + key);
}

models::Model model_of(const json& from) {
  models::Model m;
  m.name = "request";
  for (const auto& [key, field] :
       {std::pair{"layers", &m.layers},
        {"hidden", &m.hidden},
        {"heads", &m.heads},
        {"kv_heads", &m.kv_heads},
        {"head_dim", &m.head_dim},
        {"ffn", &m.ffn},
        {"vocab", &m.vocab},
        {"max_positions", &m.max_positions},
        {"attention_window", &m.attention_window},
        {"full_attention_first", &m.full_attention_first},
        {"full_attention_every", &m.full_attention_every}}) {
    *field = from.at(key).get<int>();
  }
  for (const auto& [key, field] :
       {std::pair{"qkv_bias", &m.qkv_bias},
        {"attention_out_bias", &m.attention_out_bias},
        {"mlp_bias", &m.mlp_bias},
        {"final_norm", &m.final_norm},
        {"head_bias", &m.head_bias},
        {"tied_embeddings", &m.tied_embeddings}}) {
    *field = from.at(key).get<bool>();
  }
  m.norm = one_of<models::Norm>(from, "norm", {"rms", "layer"});
  m.activation = one_of<models::Activation>(
      from, "activation", {"swiglu", "geglu", "gelu", "relu", "gelu_tanh"});
  m.positions = one_of<models::Positions>(from, "positions",
                                          {"none", "rotary", "learned"});
  m.norm_epsilon = from.at("norm_epsilon").get<double>();
  m.rotary_base = from.at("rotary_base").get<double>();
  const json& scaling = from.at("rotary_scaling");
  m.rotary_scaling = {scaling.at(0).get<double>(), scaling.at(1).get<double>(),
                      scaling.at(2).get<double>(), scaling.at(3).get<double>()};
  return m;
}

exec::Training training_of(const json& from) {
  exec::Training t;
  for (const auto& [key, field] : {std::pair{"rate", &t.rate},
                                   {"beta1", &t.beta1},
                                   {"beta2", &t.beta2},
                                   {"epsilon", &t.epsilon},
                                   {"decay", &t.decay},
                                   {"clip", &t.clip}}) {
    *field = from.at(key).get<double>();
  }
  return t;
}

Result<exec::Program> program_of(const models::Model& model,
                                 std::span<const std::int32_t> lengths) {
  strategy::Strategy like;
  like.dtype = kernels::DType::fp64;
  like.seq_len = lengths.front();
  const strategy::Strategy s =
      strategy::one_device(like, model.layers, lengths);
  TRY(const clusters::Cluster cluster,
      clusters::read_cluster(
          "8 x h100-sxm per node, 400 Gbit/s per GPU, 1 node"));
  TRY(schedule::Schedule lowered,
      schedule::lower(s, s.phases[0], model, cluster));
  return exec::make_program(
      std::move(lowered), schedule::placements(s, s.phases[0], model), cluster);
}

/// The last `padding` tokens of a sequence become padding.
void pad(data::Sequence& s, std::int32_t padding, std::int64_t& labels) {
  const std::size_t end = s.tokens.size() - static_cast<std::size_t>(padding);
  for (std::size_t i = end > 0 ? end - 1 : 0; i < s.tokens.size(); ++i) {
    labels -= s.labels[i] >= 0 ? 1 : 0;
    s.labels[i] = -1;
    if (i >= end) s.tokens[i] = s.positions[i] = 0;
  }
  while (!s.starts.empty() && s.starts.back() >= static_cast<int>(end)) {
    s.starts.pop_back();
  }
  s.starts.push_back(static_cast<std::int32_t>(end));
}

/// One batch for each step, each of sequences of its own lengths.
std::vector<StepBatches> batches_for(const json& request,
                                     const models::Model& model) {
  data::Corpus corpus;
  request.at("documents").get_to(corpus.documents);
  const auto seed = request.at("seed").get<std::uint64_t>();
  const auto padding = request.at("padding").get<std::int32_t>();
  std::vector<StepBatches> out;
  for (const json& lengths : request.at("lengths")) {
    schedule::MicroBatches one;
    lengths.get_to(one.seq_len);
    const auto step = std::ssize(out);
    data::Batch batch =
        data::make_batch(corpus, std::span(&one, 1), model.vocab, seed, step,
                         model.max_positions);
    for (data::MicroBatch& m : batch.pipelines.at(0)) {
      if (padding > 0) pad(m.at(0), padding, batch.labels);
    }
    out.push_back({batch});
  }
  return out;
}

json batches_in(const std::vector<StepBatches>& batches) {
  json out = json::array();
  for (const StepBatches& step : batches) {
    const data::Batch& batch = step.at(0);
    json sequences = json::array();
    for (const data::MicroBatch& micro_batch : batch.pipelines.at(0)) {
      const data::Sequence& s = micro_batch.at(0);
      sequences.push_back({{"tokens", s.tokens},
                           {"labels", s.labels},
                           {"positions", s.positions},
                           {"starts", s.starts}});
    }
    out.push_back({{"labels", batch.labels}, {"sequences", sequences}});
  }
  return out;
}

json parameters_of(const models::Model& model, std::uint64_t seed) {
  json out = json::array();
  for (const models::Parameter& p : models::parameter_list(model)) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < p.elements(); ++i) {
      values.push_back(exec::initial_value(p, i, seed));
    }
    out.push_back({{"name", p.name}, {"shape", p.shape}, {"values", values}});
  }
  return out;
}

Result<json> answer(const json& request) {
  const models::Model model = model_of(request.at("model"));
  const auto seed = request.at("seed").get<std::uint64_t>();
  const auto batches = batches_for(request, model);
  const auto program = [&](std::span<const std::int32_t> lengths) {
    return program_of(model, lengths);
  };
  TRY(const std::vector<Snapshot> steps,
      run_alone(program, batches, training_of(request.at("training")),
                exec::initial_values(seed)));
  json out{{"batches", batches_in(batches)},
           {"parameters", parameters_of(model, seed)},
           {"steps", json::array()}};
  for (const Snapshot& s : steps) {
    out["steps"].push_back({{"loss", s.loss},
                            {"gradient_norm", s.gradient_norm},
                            {"gradients", s.gradients},
                            {"parameters", s.parameters}});
  }
  return out;
}

}  // namespace
}  // namespace troupe::emu

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    try {
      const auto out = troupe::emu::answer(nlohmann::json::parse(line));
      std::cout << (out ? *out : nlohmann::json{{"error", out.error().message}})
                << std::endl;
    } catch (const std::exception& e) {
      std::cerr << "emu_probe: " << e.what() << "\n";
      return 1;
    }
  }
  return 0;
}
