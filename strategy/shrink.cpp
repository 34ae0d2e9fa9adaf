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

/// As few heads as every degree divides, and as many ranks to a key head as
/// in the model.
Result<void> set_heads(const models::Model& model, const Degrees& degrees,
                       models::Model& small) {
  std::int64_t heads = 1;
  bool shared = false;
  for (const int tp : degrees.tensor) {
    heads = std::min(std::lcm(heads, std::int64_t{tp}),
                     std::int64_t{kMostHeads} + 1);
    shared = shared || tp > model.kv_heads;
  }
  std::int64_t kv_heads = heads;
  if (shared) {
    kv_heads = model.kv_heads;
    heads = std::lcm(heads, kv_heads);
  } else if (model.kv_heads < model.heads) {
    heads *= 2;
  }
  if (heads > kMostHeads) {
    return fail(Fault::infeasible,
                fmt::format("the tensor-parallel degrees' least common "
                            "multiple is over {} heads",
                            kMostHeads));
  }
  small.heads = static_cast<int>(heads);
  small.kv_heads = static_cast<int>(kv_heads);
  return {};
}

/// `length` of the longest sequence's tokens, when that has `longest`.
int shorter(int length, const Degrees& degrees, int longest) {
  const double share = static_cast<double>(length) / degrees.longest;
  return static_cast<int>(std::lround(share * longest));
}

Result<models::Model> small_model(const models::Model& model,
                                  const Degrees& degrees, int longest) {
  models::Model small = model;
  small.name = model.name + " shrunk";
  TRY_DO(set_heads(model, degrees, small));
  if (model.attention_window > 0) {
    small.attention_window =
        std::max(shorter(model.attention_window, degrees, longest), 1);
  }
  small.seq_len = longest;
  if (small.max_positions > 0) small.max_positions = longest;
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
  const auto short_of = [&](int length) {
    return std::max(shorter(length, degrees, model.seq_len),
                    2 * degrees.context);
  };
  for (Phase& phase : out.strategy.phases) {
    for (Pipeline& p : phase.pipelines) {
      p.seq_len = short_of(p.seq_len > 0 ? p.seq_len
                                         : std::max(plan.strategy.seq_len, 1));
      for (int& length : p.micro_batch_seq_lens) length = short_of(length);
      p.micro_batch_size = std::min(p.micro_batch_size, 2);
    }
  }
  out.strategy.seq_len = model.seq_len;
  return out;
}

}  // namespace

Result<std::vector<Plan>> shrunk(std::span<const Plan* const> plans) {
  Degrees degrees;
  for (const Plan* const plan : plans) add_degrees(plan->strategy, degrees);
  const int longest =
      std::max(degrees.devices > kManyDevices ? kTokensOfMany : kTokens,
               4 * degrees.context);
  TRY(const models::Model model,
      small_model(plans[0]->model, degrees, longest));
  std::vector<Plan> out;
  for (const Plan* const plan : plans) {
    out.push_back(small_plan(*plan, model, degrees));
  }
  return out;
}

}  // namespace troupe::strategy
