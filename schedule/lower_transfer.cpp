#include <algorithm>

#include "schedule/lowering.h"

namespace troupe::schedule {

using strategy::HandOver;

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

std::int64_t count_of(const std::vector<TokenRange>& rows) {
  std::int64_t sum = 0;
  for (const TokenRange& r : rows) sum += r.count;
  return sum;
}

/// Cuts rows [part.first, part.last) out of a member's rows, for a rank whose
/// first row is the member's row `begin`.
std::vector<Piece> cut(const std::vector<TokenRange>& rows, RowRange part,
                       std::int64_t begin) {
  std::vector<Piece> out;
  std::int64_t row = 0;
  for (const TokenRange& r : rows) {
    const std::int64_t first = std::max(row, part.first);
    const std::int64_t last = std::min(row + r.count, part.last);
    if (first < last) {
      out.push_back({{r.first + first - row, last - first}, first - begin});
    }
    row += r.count;
  }
  return out;
}

std::vector<TokenRange> rows_of(const Stage& stage, std::size_t member,
                                const Passage& passage) {
  return member_rows(stage.shares, member, passage.seq_len,
                     passage.micro_batch_size);
}

/// Who holds, or is to get, which rows of a micro-batch. Under sequence
/// parallelism each rank of a member has its own slice; else each has all the
/// member's, and of those gets what `way` says.
std::vector<Holder> holders(const Lowering& l, StageId id,
                            const Passage& passage, HandOver way) {
  const Stage& stage = l.out.stage(id);
  const bool sliced = l.strategy.sequence_parallel;
  std::vector<Holder> out;
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    const std::vector<TokenRange> rows = rows_of(stage, m, passage);
    const std::int64_t all = count_of(rows);
    const std::int64_t tp = std::ssize(stage.members[m]);
    for (std::int64_t t = 0; t < tp; ++t) {
      RowRange part{0, all};
      if (sliced || way == HandOver::scatter) part = row_shard(all, t, tp);
      if (!sliced && way == HandOver::leader && t > 0) part = {};
      out.push_back({stage.members[m][static_cast<std::size_t>(t)],
                     cut(rows, part, sliced ? part.first : 0)});
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

/// The groups whose ranks share what they got.
Transfer shared_rows(const Lowering& l, const Passage& passage, HandOver way,
                     Bytes row) {
  Transfer out{passage.to, passage.to, {}, {}, {}};
  out.collective = way == HandOver::leader ? clusters::Collective::broadcast
                                           : clusters::Collective::all_gather;
  const Stage& stage = l.out.stage(passage.to);
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    if (stage.members[m].size() < 2) continue;
    out.groups.push_back(
        {stage.members[m], row * count_of(rows_of(stage, m, passage))});
  }
  return out;
}

}  // namespace

HandedOver hand_over(const Lowering& l, const Passage& passage, HandOver way) {
  const std::vector<Holder> sources =
      holders(l, passage.from, passage, HandOver::batched);
  const std::vector<Holder> sinks = holders(l, passage.to, passage, way);
  // Rows of an encoder-decoder's decoder travel with the encoder's output.
  const std::int64_t copies =
      l.model.encoder_layers > 0 && l.model.encoder_layers < l.model.layers &&
              l.out.stage(passage.to).chunks.front().last >
                  l.model.encoder_layers
          ? 2
          : 1;
  const Bytes row = kernels::size_of(l.strategy.dtype) *
                    (std::int64_t{l.model.hidden} * copies);
  HandedOver out{{passage.from, passage.to, {}, {}, {}}, {}};
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    std::vector<TokenRange> wanted;
    for (const Piece& p : sinks[i].pieces) wanted.push_back(p.tokens);
    // Where several ranks hold the same rows, senders take turns.
    for (std::size_t k = 0; k < sources.size() && !wanted.empty(); ++k) {
      append_common(sources[(i + k) % sources.size()], sinks[i], row, wanted,
                    out.sent.messages);
    }
  }
  if (!l.strategy.sequence_parallel && way != HandOver::batched) {
    Transfer shared = shared_rows(l, passage, way, row);
    if (!shared.groups.empty()) out.shared = std::move(shared);
  }
  return out;
}

}  // namespace troupe::schedule
