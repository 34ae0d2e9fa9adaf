#include "strategy/shrink.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace troupe::strategy {
namespace {

constexpr int kMostHeads = 1024;
constexpr int kTokens = 32;
constexpr int kTokensOfMany = 16;
constexpr int kManyDevices = 256;
constexpr int kHeadDim = 4;
constexpr int kHidden = 16;
constexpr int kByteVocabulary = 257;

/// The degrees of all stages of all phases.
struct Degrees {
  std::set<int> tensor;
  int context = 1;
  int longest = 1;
  std::size_t devices = 0;  ///< of the largest phase
};

void add_degrees(const Strategy& s, Degrees& d) {
  for (const Phase& phase : s.phases) {
    d.devices = std::max(d.devices, used_devices(phase).size());
    for (const Pipeline& p : phase.pipelines) {
      for (const Stage& stage : p.stages) {
        d.context = std::max(d.context, static_cast<int>(stage.members.size()));
        for (const Member& m : stage.members) d.tensor.insert(m.tp());
      }
      for (int m = 0; m < p.micro_batches; ++m) {
        d.longest = std::max(d.longest, sequence_length(s, p, m));
      }
    }
  }
}

Result<models::Model> small_model(const models::Model& model,
                                  const Degrees& degrees) {
  std::int64_t heads = 1;
  for (const int tp : degrees.tensor) {
    heads = std::lcm(heads, std::int64_t{tp});
    if (heads > kMostHeads) {
      return fail(Fault::infeasible,
                  fmt::format("the tensor-parallel degrees' least common "
                              "multiple is over {} heads",
                              kMostHeads));
    }
  }
  models::Model small = model;
  small.name = model.name + " shrunk";
  small.heads = static_cast<int>(heads);
  small.kv_heads = small.heads;
  const int ratio = model.heads / std::max(model.kv_heads, 1);
  if (ratio > 1 && small.heads % ratio == 0) {
    const int kv = small.heads / ratio;
    const bool fits = std::ranges::all_of(
        degrees.tensor, [&](int tp) { return kv % tp == 0 || tp % kv == 0; });
    if (fits) small.kv_heads = kv;
  }
  small.head_dim = kHeadDim;
  small.hidden = kHidden;
  small.ffn = 2 * kHidden + 3;
  small.vocab = kByteVocabulary;
  return small;
}

Plan small_plan(const Plan& plan, const models::Model& model,
                const Degrees& degrees) {
  Plan out = plan;
  out.model = model;
  const int longest =
      std::max(degrees.devices > kManyDevices ? kTokensOfMany : kTokens,
               4 * degrees.context);
  const auto shorter = [&](int length) {
    const double share = static_cast<double>(length) / degrees.longest;
    return std::max(static_cast<int>(std::lround(share * longest)),
                    2 * degrees.context);
  };
  for (Phase& phase : out.strategy.phases) {
    for (Pipeline& p : phase.pipelines) {
      p.seq_len = shorter(p.seq_len > 0 ? p.seq_len
                                        : std::max(plan.strategy.seq_len, 1));
      for (int& length : p.micro_batch_seq_lens) length = shorter(length);
      p.micro_batch_size = std::min(p.micro_batch_size, 2);
    }
  }
  out.strategy.seq_len = longest;
  out.model.seq_len = longest;
  if (out.model.max_positions > 0) out.model.max_positions = longest;
  return out;
}

}  // namespace

Result<std::vector<Plan>> shrunk(std::span<const Plan* const> plans) {
  Degrees degrees;
  for (const Plan* const plan : plans) add_degrees(plan->strategy, degrees);
  TRY(const models::Model model, small_model(plans[0]->model, degrees));
  std::vector<Plan> out;
  for (const Plan* const plan : plans) {
    out.push_back(small_plan(*plan, model, degrees));
  }
  return out;
}

}  // namespace troupe::strategy
