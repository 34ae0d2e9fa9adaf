#include <algorithm>

#include "schedule/lowering.h"

namespace troupe::schedule {
namespace {

/// Rows that one rank holds: tokens of the micro-batch, counted over all its
/// sequences, and where they begin in the rank's activations.
struct Piece {
  TokenRange tokens;
  std::int64_t row = 0;
};
struct Holder {
  RankId rank;
  std::vector<Piece> pieces;  ///< in order of rows
};

/// Cuts rows [part.first, part.last) out of a member's rows.
std::vector<Piece> cut(const std::vector<TokenRange>& rows, RowRange part) {
  std::vector<Piece> out;
  std::int64_t row = 0;
  for (const TokenRange& r : rows) {
    const std::int64_t first = std::max(row, part.first);
    const std::int64_t last = std::min(row + r.count, part.last);
    if (first < last) {
      out.push_back(
          {{r.first + first - row, last - first}, first - part.first});
    }
    row += r.count;
  }
  return out;
}

/// Who holds which rows of a micro-batch. Under sequence parallelism each
/// rank of a member holds its own slice; else each holds all the member's.
std::vector<Holder> holders(const Lowering& l, StageId id, int sequences,
                            int seq_len) {
  const Stage& stage = l.out.stage(id);
  std::vector<Holder> out;
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    const std::vector<TokenRange> rows =
        member_rows(stage.shares, m, seq_len, sequences);
    std::int64_t all = 0;
    for (const TokenRange& r : rows) all += r.count;
    const auto tp = static_cast<std::int64_t>(stage.members[m].size());
    for (std::int64_t t = 0; t < tp; ++t) {
      const RowRange part = l.strategy.sequence_parallel ? row_shard(all, t, tp)
                                                         : RowRange{0, all};
      out.push_back(
          {stage.members[m][static_cast<std::size_t>(t)], cut(rows, part)});
    }
  }
  return out;
}

/// Appends what `from` and `to` both hold and `wanted` still lacks.
void append_common(const Holder& from, const Holder& to, Bytes row,
                   std::vector<TokenRange>& wanted,
                   std::vector<Message>& messages) {
  Message message{from.rank, to.rank, {}, {}};
  std::vector<TokenRange> left;
  std::int64_t rows = 0;
  for (const TokenRange& w : wanted) {
    std::int64_t at = w.first;
    const std::int64_t end = w.first + w.count;
    const auto row_of = [&](const Holder& h, std::int64_t token,
                            std::int64_t& last) -> std::int64_t {
      for (const Piece& p : h.pieces) {
        if (token < p.tokens.first || token >= p.tokens.first + p.tokens.count)
          continue;
        last = std::min(last, p.tokens.first + p.tokens.count);
        return p.row + token - p.tokens.first;
      }
      return -1;
    };
    while (at < end) {
      std::int64_t last = end;
      const std::int64_t source = row_of(from, at, last);
      if (source < 0) {
        // The next token that the sender holds.
        std::int64_t next = end;
        for (const Piece& p : from.pieces) {
          if (p.tokens.first > at) next = std::min(next, p.tokens.first);
        }
        left.push_back({at, next - at});
        at = next;
        continue;
      }
      const std::int64_t sink = row_of(to, at, last);
      const auto number = [](std::int64_t n) {
        return static_cast<std::int32_t>(n);
      };
      message.rows.insert(message.rows.end(),
                          {number(source), number(sink), number(last - at)});
      rows += last - at;
      at = last;
    }
  }
  wanted = std::move(left);
  if (rows == 0) return;
  message.bytes = row * rows;
  messages.push_back(std::move(message));
}

}  // namespace

Transfer hand_over(const Lowering& l, StageId from, StageId to,
                   int micro_batch_size, int seq_len) {
  const std::vector<Holder> sources =
      holders(l, from, micro_batch_size, seq_len);
  const std::vector<Holder> sinks = holders(l, to, micro_batch_size, seq_len);
  // Rows of an encoder-decoder's decoder travel with the encoder's output.
  const std::int64_t copies =
      l.model.encoder_layers > 0 && l.model.encoder_layers < l.model.layers &&
              l.out.stage(to).chunks.front().last > l.model.encoder_layers
          ? 2
          : 1;
  const Bytes row = kernels::size_of(l.strategy.dtype) *
                    (std::int64_t{l.model.hidden} * copies);
  Transfer out{from, to, {}};
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    std::vector<TokenRange> wanted;
    for (const Piece& p : sinks[i].pieces) wanted.push_back(p.tokens);
    // Where several ranks hold the same rows, senders take turns.
    for (std::size_t k = 0; k < sources.size() && !wanted.empty(); ++k) {
      append_common(sources[(i + k) % sources.size()], sinks[i], row, wanted,
                    out.messages);
    }
  }
  return out;
}

}  // namespace troupe::schedule
