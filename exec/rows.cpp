#include "exec/rows.h"

#include <algorithm>

namespace troupe::exec {
namespace {

using schedule::TokenRange;

std::int64_t end_of(const TokenRange& r) { return r.first + r.count; }

std::int64_t total(const std::vector<TokenRange>& rows) {
  std::int64_t n = 0;
  for (const TokenRange& r : rows) n += r.count;
  return n;
}

/// Entries of packed sequences that follow each other without a gap; what
/// lies between is given entries without keys, or without queries.
class Entries {
 public:
  void add(std::int64_t q, std::int64_t q_end, std::int64_t kv,
           std::int64_t kv_end) {
    skip(q, kv);
    push(q_end, kv_end);
    ++real_;
  }
  bool any() const { return real_ > 0; }
  ChunkAttention finish(std::int64_t q_rows, std::int64_t kv_rows,
                        bool causal) {
    skip(q_rows, kv_rows);
    out_.causal = causal;
    return std::move(out_);
  }

 private:
  void skip(std::int64_t q, std::int64_t kv) {
    if (q > out_.q_starts.back()) push(q, out_.kv_starts.back());
    if (kv > out_.kv_starts.back()) push(out_.q_starts.back(), kv);
  }
  void push(std::int64_t q_end, std::int64_t kv_end) {
    out_.longest_q = std::max(out_.longest_q, q_end - out_.q_starts.back());
    out_.longest_kv = std::max(out_.longest_kv, kv_end - out_.kv_starts.back());
    out_.q_starts.push_back(static_cast<std::int32_t>(q_end));
    out_.kv_starts.push_back(static_cast<std::int32_t>(kv_end));
  }
  ChunkAttention out_{{0}, {0}, 0, 0, false};
  int real_ = 0;
};

/// Adds what the queries of chunk `q`, whose first row is `q_row`, see of
/// chunk `kv`.
void add_chunk(const TokenRange& q, std::int64_t q_row, const TokenRange& kv,
               std::int64_t kv_row, const Documents& documents,
               Entries& entries) {
  if (q.count == 0 || kv.count == 0) return;
  if (q == kv) {
    auto it = std::ranges::upper_bound(documents, q.first) - 1;
    for (; *it < end_of(q); ++it) {
      const std::int64_t first = std::max(*it, q.first) - q.first;
      const std::int64_t last = std::min(*std::next(it), end_of(q)) - q.first;
      entries.add(q_row + first, q_row + last, kv_row + first, kv_row + last);
    }
    return;
  }
  if (q.first < end_of(kv)) return;  // all keys come later
  // Only the document that spans from one to the other.
  const auto it = std::ranges::upper_bound(documents, q.first) - 1;
  if (*it >= end_of(kv)) return;
  const std::int64_t last = std::min(*std::next(it), end_of(q));
  entries.add(q_row, q_row + last - q.first,
              kv_row + std::max<std::int64_t>(*it - kv.first, 0),
              kv_row + kv.count);
}

}  // namespace

Documents documents_of(const data::MicroBatch& micro_batch,
                       std::int64_t seq_len) {
  Documents out;
  for (std::size_t s = 0; s < micro_batch.size(); ++s) {
    const std::int64_t base = static_cast<std::int64_t>(s) * seq_len;
    for (const std::int32_t start : micro_batch[s].starts) {
      // The last one begins the padding, unless there is none.
      if (start < seq_len) out.push_back(base + start);
    }
  }
  out.push_back(static_cast<std::int64_t>(micro_batch.size()) * seq_len);
  return out;
}

std::vector<ChunkAttention> chunk_attention(const std::vector<TokenRange>& q,
                                            const std::vector<TokenRange>& kv,
                                            const Documents& documents) {
  std::vector<ChunkAttention> out;
  for (std::size_t qc = 0; qc < 2; ++qc) {
    for (std::size_t kc = 0; kc < 2; ++kc) {
      Entries entries;
      bool causal = false;
      std::int64_t q_row = 0;
      std::int64_t kv_row = 0;
      for (std::size_t i = 0; i < q.size(); i += 2) {
        const std::int64_t q_at = q_row + (qc == 1 ? q[i].count : 0);
        const std::int64_t kv_at = kv_row + (kc == 1 ? kv[i].count : 0);
        causal = causal || q[i + qc] == kv[i + kc];
        add_chunk(q[i + qc], q_at, kv[i + kc], kv_at, documents, entries);
        q_row += q[i].count + q[i + 1].count;
        kv_row += kv[i].count + kv[i + 1].count;
      }
      if (entries.any()) {
        out.push_back(entries.finish(total(q), total(kv), causal));
      }
    }
  }
  return out;
}

Result<Buffer> upload(Device& device, std::span<const std::int32_t> values) {
  TRY(Buffer out, Buffer::of(device, Bytes{std::ssize(values) * 4}));
  TRY_DO(device.copy_in(out.data(), std::as_bytes(values)));
  return out;
}

Result<Rows> make_rows(const schedule::Stage& stage, std::size_t member,
                       std::size_t tp_index, bool sharded, std::int64_t seq_len,
                       const data::MicroBatch& micro_batch, Device& device) {
  const auto sequences = std::ssize(micro_batch);
  Rows r;
  for (std::size_t m = 0; m < stage.members.size(); ++m) {
    r.member_rows.push_back(
        schedule::member_rows(stage.shares, m, seq_len, sequences));
    r.member_tokens.push_back(total(r.member_rows.back()));
  }
  r.bounds = documents_of(micro_batch, seq_len);
  r.tokens = r.member_tokens[member];
  std::vector<std::int32_t> ids, labels, positions;
  for (const TokenRange& range : r.member_rows[member]) {
    for (std::int64_t i = range.first; i < end_of(range); ++i) {
      const data::Sequence& s =
          micro_batch[static_cast<std::size_t>(i / seq_len)];
      const auto at = static_cast<std::size_t>(i % seq_len);
      ids.push_back(s.tokens[at]);
      labels.push_back(s.labels[at]);
      positions.push_back(s.positions[at]);
    }
  }
  const auto tp = std::ssize(stage.members[member]);
  const schedule::RowRange mine =
      sharded ? schedule::row_shard(r.tokens,
                                    static_cast<std::int64_t>(tp_index), tp)
              : schedule::RowRange{0, r.tokens};
  r.first = mine.first;
  r.count = mine.count();
  r.shard = sharded ? schedule::row_shard(r.tokens, 0, tp).count() : r.tokens;
  std::vector<std::int32_t> own(static_cast<std::size_t>(r.shard), 0);
  std::copy(positions.begin() + mine.first, positions.begin() + mine.last,
            own.begin());
  TRY(r.ids, upload(device, ids));
  TRY(r.labels, upload(device, labels));
  TRY(r.positions, upload(device, positions));
  TRY(r.shard_positions, upload(device, own));
  if (stage.members.size() > 1) return r;
  std::vector<std::int32_t> starts;
  for (const std::int64_t b : r.bounds) {
    if (!starts.empty()) r.longest = std::max(r.longest, b - starts.back());
    starts.push_back(static_cast<std::int32_t>(b));
  }
  r.documents = std::ssize(starts) - 1;
  TRY(r.starts, upload(device, starts));
  return r;
}

}  // namespace troupe::exec
