#include "data/batch.h"

#include <algorithm>

#include "data/mixed.h"

namespace troupe::data {
namespace {

Sequence pack(const Corpus& corpus, std::size_t first, std::int64_t length,
              std::int32_t vocabulary, std::int64_t longest) {
  const auto size = static_cast<std::size_t>(length);
  Sequence out;
  out.tokens.assign(size, 0);
  out.labels.assign(size, -1);
  out.positions.assign(size, 0);
  std::size_t at = 0;
  for (std::size_t d = first; at < size; ++d) {
    const auto& document = corpus.documents[d % corpus.documents.size()];
    std::size_t count = std::min(document.size(), size - at);
    if (longest > 0) {
      count = std::min(count, static_cast<std::size_t>(longest));
    }
    out.starts.push_back(static_cast<std::int32_t>(at));
    for (std::size_t i = 0; i < count; ++i) {
      out.tokens[at + i] = document[i] % vocabulary;
      out.positions[at + i] = static_cast<std::int32_t>(i);
      if (i + 1 < count) out.labels[at + i] = document[i + 1] % vocabulary;
    }
    at += count;
  }
  out.starts.push_back(static_cast<std::int32_t>(at));
  return out;
}

}  // namespace

Batch make_batch(const Corpus& corpus,
                 std::span<const schedule::MicroBatches> pipelines,
                 std::int32_t vocabulary, std::uint64_t seed, std::int64_t step,
                 std::int64_t max_positions) {
  Batch batch;
  std::uint64_t number = 0;
  for (const schedule::MicroBatches& pipeline : pipelines) {
    auto& micro_batches = batch.pipelines.emplace_back();
    for (const std::int32_t length : pipeline.seq_len) {
      MicroBatch& micro_batch = micro_batches.emplace_back();
      for (int s = 0; s < pipeline.sequences; ++s) {
        const std::uint64_t choice = mixed(
            mixed(seed ^ mixed(static_cast<std::uint64_t>(step))) + number++);
        micro_batch.push_back(pack(corpus, choice % corpus.documents.size(),
                                   length, vocabulary, max_positions));
        for (const std::int32_t label : micro_batch.back().labels) {
          batch.labels += label >= 0 ? 1 : 0;
        }
      }
    }
  }
  return batch;
}

}  // namespace troupe::data
