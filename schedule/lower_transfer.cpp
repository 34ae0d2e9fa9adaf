#include <algorithm>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

/// Rows [first, last) of the activations that one rank holds.
struct Piece {
  std::int64_t first = 0, last = 0;
  RankId rank;
};

/// Who holds which rows of one sequence. Under sequence parallelism each
/// rank of a member holds its own slice; else each holds all the member's.
std::vector<Piece> pieces(const Lowering& l, StageId id, int seq_len,
                          bool slices) {
  const Stage& stage = l.out.stage(id);
  const strategy::Stage& source = *l.sources[id.at()];
  std::vector<Piece> out;
  std::int64_t start = 0;
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    const std::int64_t tokens = member_tokens(source, m, seq_len);
    const auto tp = static_cast<std::int64_t>(stage.members[m].size());
    for (std::int64_t t = 0; t < tp; ++t) {
      const RankId rank = stage.members[m][static_cast<std::size_t>(t)];
      if (slices) {
        out.push_back(
            {start + tokens * t / tp, start + tokens * (t + 1) / tp, rank});
      } else {
        out.push_back({start, start + tokens, rank});
      }
    }
    start += tokens;
  }
  return out;
}

}  // namespace

Transfer hand_over(const Lowering& l, StageId from, StageId to,
                   int micro_batch_size, int seq_len) {
  const bool slices = l.strategy.sequence_parallel;
  const std::vector<Piece> sources = pieces(l, from, seq_len, slices);
  const std::vector<Piece> sinks = pieces(l, to, seq_len, slices);
  // Rows of an encoder-decoder's decoder travel with the encoder's output.
  const std::int64_t copies =
      l.model.encoder_layers > 0 && l.model.encoder_layers < l.model.layers &&
              l.out.stage(to).chunks.front().last > l.model.encoder_layers
          ? 2
          : 1;
  const Bytes row = kernels::size_of(l.strategy.dtype) *
                    (std::int64_t{l.model.hidden} * micro_batch_size * copies);
  Transfer out{from, to, {}};
  if (slices) {
    for (const Piece& sink : sinks) {
      for (const Piece& source : sources) {
        const std::int64_t rows = std::min(sink.last, source.last) -
                                  std::max(sink.first, source.first);
        if (rows > 0) {
          out.messages.push_back({source.rank, sink.rank, row * rows});
        }
      }
    }
    return out;
  }
  // Every sink needs all its rows; senders take turns.
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    std::int64_t at = sinks[i].first;
    while (at < sinks[i].last) {
      std::vector<const Piece*> holders;
      for (const Piece& source : sources) {
        if (source.first <= at && at < source.last) holders.push_back(&source);
      }
      if (holders.empty()) break;
      const Piece& chosen = *holders[i % holders.size()];
      const std::int64_t end = std::min(chosen.last, sinks[i].last);
      out.messages.push_back({chosen.rank, sinks[i].rank, row * (end - at)});
      at = end;
    }
  }
  return out;
}

}  // namespace troupe::schedule
