#include "strategy/hspmd_packed.h"

#include <algorithm>
#include <numeric>

#include "strategy/short_form.h"

namespace troupe::strategy {
namespace {

/// The DP group of a pipeline.
std::size_t group_of(const HspmdPacked& packed, std::size_t pipeline) {
  std::int64_t end = 0;
  for (std::size_t g = 0; g < packed.cp_list.size(); ++g) {
    end += packed.cp_list[g];
    if (static_cast<std::int64_t>(pipeline) < end) return g;
  }
  return packed.cp_list.size();
}

}  // namespace

bool absent(const Json* value) {
  return !value || value->is_null() || (value->is_array() && value->empty());
}

bool read_layers(ForeignContext& context, JsonObject& o, HspmdPacked& packed,
                 bool& shaped) {
  const Json* list = o.raw("layers_num_list");
  if (!list) {
    o.findings().error(o.where("layers_num_list"),
                       "missing; this key is required");
    shaped = false;
    return false;
  }
  const std::string where = o.where("layers_num_list");
  const std::size_t before = o.findings().all().size();
  packed.layers = whole_table(*list, where, kHspmdLayers, o.findings());
  bool good = o.findings().all().size() == before;
  const std::int64_t expected = std::accumulate(
      packed.cp_list.begin(), packed.cp_list.end(), std::int64_t{0});
  if (shaped && static_cast<std::int64_t>(packed.layers.size()) != expected) {
    shaped = false;
    o.findings().error(where,
                       fmt::format("{} lists of layers; expected one for each "
                                   "of the {} pipelines of cp_list",
                                   packed.layers.size(), expected));
  }
  const int total =
      o.small("num_layers", {1, kHspmdLayers.most}, context.model.layers);
  for (std::size_t p = 0; p < packed.layers.size(); ++p) {
    const std::int64_t sum = std::accumulate(
        packed.layers[p].begin(), packed.layers[p].end(), std::int64_t{0});
    if (sum == total) continue;
    good = good && sum < kMostRanks;  // else the ranges would overflow
    o.findings().error(
        fmt::format("{}/{}", where, p),
        fmt::format("the stages hold {} layers; expected {}{}", sum, total,
                    o.has("num_layers") ? " (num_layers)" : " of the model"));
    context.draft.places.mark_unread(
        fmt::format("/phases/0/pipelines/{}/layers", group_of(packed, p)));
  }
  return good && shaped;
}

bool read_groups(JsonObject& o, HspmdPacked& packed) {
  packed.dp = o.small("dp", {1, 1 << 16});
  packed.tp = o.small("tp", {1, 4096});
  const Json* list = o.raw("cp_list");
  if (absent(list)) {
    packed.cp_list.assign(static_cast<std::size_t>(packed.dp), 1);
    return true;
  }
  const std::string where = o.where("cp_list");
  packed.cp_list = whole_list(*list, where, {1, 4096}, o.findings());
  if (packed.cp_list.size() == static_cast<std::size_t>(packed.dp)) {
    return true;
  }
  o.findings().error(where,
                     fmt::format("{} entries; expected one for each of dp {} "
                                 "groups",
                                 packed.cp_list.size(), packed.dp));
  return false;
}

void read_lengths(JsonObject& o, HspmdPacked& packed) {
  packed.micro_batch_size = o.small("micro_batch_size", kSequences, 1);
  const bool given = o.has("global_seq_len");
  packed.seq_len = o.small("global_seq_len", kSeqLen, kHspmdSeqLen);
  const Json* list = o.raw("seq_len_list");
  if (absent(list)) return;
  const std::string where = o.where("seq_len_list");
  packed.seq_lens = whole_list(*list, where, kSeqLen, o.findings());
  if (packed.seq_lens.size() != packed.layers.size()) {
    o.findings().error(
        where, fmt::format("{} lengths; expected one for each of the {} "
                           "pipelines, or null for equal ones",
                           packed.seq_lens.size(), packed.layers.size()));
    packed.seq_lens.clear();
    return;
  }
  std::int64_t first = given ? packed.seq_len : 0;
  std::size_t p = 0;
  for (std::size_t g = 0; g < packed.cp_list.size(); ++g) {
    std::int64_t sum = 0;
    for (std::int64_t c = 0; c < packed.cp_list[g]; ++c) {
      if (p < packed.seq_lens.size()) sum += packed.seq_lens[p++];
    }
    if (first == 0) first = sum;
    if (sum == first) continue;
    o.findings().error(
        where,
        fmt::format("the lengths of DP group {} add up to {}; expected "
                    "{}, {}",
                    g, sum, first, given ? "global_seq_len" : "as in group 0"));
  }
  packed.seq_len = static_cast<int>(
      std::min<std::int64_t>(std::max<std::int64_t>(first, 1), kSeqLen.most));
}

void read_micro_batches(JsonObject& o, HspmdPacked& packed) {
  const Json* list = o.raw("micro_batch_num_list");
  const std::string where = o.where("micro_batch_num_list");
  const std::int64_t batch = o.integer("global_batch_size", kPositive, 0);
  const std::int64_t expected = o.integer(
      "global_micro_batches", kPositive,
      batch > 0 ? std::max<std::int64_t>(batch / packed.micro_batch_size, 1)
                : 0);
  if (absent(list)) {
    const auto total = static_cast<int>(std::min<std::int64_t>(
        expected > 0 ? expected : kHspmdSequences, kMicroBatches.most));
    const std::vector<int> shares = even_split(total, packed.dp);
    packed.micro_batches.assign(shares.begin(), shares.end());
    o.findings().warning(where,
                         fmt::format("missing; {} micro-batches are shared "
                                     "evenly by {} DP groups",
                                     total, packed.dp));
    return;
  }
  packed.micro_batches = whole_list(*list, where, kMicroBatches, o.findings());
  if (packed.micro_batches.size() != static_cast<std::size_t>(packed.dp)) {
    o.findings().error(where,
                       fmt::format("{} counts; expected one for each of dp {} "
                                   "groups",
                                   packed.micro_batches.size(), packed.dp));
    return;
  }
  const std::int64_t sum =
      std::accumulate(packed.micro_batches.begin(), packed.micro_batches.end(),
                      std::int64_t{0});
  if (expected > 0 && sum != expected) {
    o.findings().error(
        where, fmt::format("the micro-batches add up to {}; the global batch "
                           "is {} of them",
                           sum, expected));
  }
}

}  // namespace troupe::strategy
