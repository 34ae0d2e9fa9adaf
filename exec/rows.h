// The tokens of a micro-batch that one rank works on, in its rows' order.
#pragma once

#include <vector>

#include "data/batch.h"
#include "exec/device.h"
#include "schedule/tokens.h"

namespace troupe::exec {

/// Attention of the queries of one chunk to the keys of another, as entries
/// of packed sequences (kernels/call.h).
struct ChunkAttention {
  std::vector<std::int32_t> q_starts, kv_starts;
  std::int64_t longest_q = 0, longest_kv = 0;
  bool causal = false;
};

/// Where documents lie: starts of all documents of all sequences of a
/// micro-batch, one after the other, and the end.
using Documents = std::vector<std::int64_t>;
Documents documents_of(const data::MicroBatch& micro_batch,
                       std::int64_t seq_len);

/// What the rows of one member have to do with the rows of another: calls
/// with the keys of `kv` for the queries of `q`; each covers all rows.
///
/// Requires: chunks as `schedule::member_rows` makes them, two a sequence.
/// Model:    chunks are equal, or all tokens of one come before the other's;
///           causal within a document, nothing across documents.
std::vector<ChunkAttention> chunk_attention(
    const std::vector<schedule::TokenRange>& q,
    const std::vector<schedule::TokenRange>& kv, const Documents& documents);

/// A member's rows of a micro-batch on the device.
struct Rows {
  std::int64_t tokens = 0;        ///< of the member
  std::int64_t first = 0;         ///< first row of this rank's shard
  std::int64_t count = 0;         ///< rows of this rank's shard
  std::int64_t shard = 0;         ///< rows of the largest shard
  Buffer ids, labels, positions;  ///< int32 (tokens)
  Buffer shard_positions;         ///< int32 (shard); 0 beyond `count`
  /// One member alone: documents as packed sequences.
  Buffer starts;
  std::int64_t documents = 0, longest = 0;
  /// Several members: rows of each, and where documents are.
  std::vector<std::vector<schedule::TokenRange>> member_rows;
  std::vector<std::int64_t> member_tokens;
  Documents bounds;
};

/// `sharded`: under sequence parallelism.
Result<Rows> make_rows(const schedule::Stage& stage, std::size_t member,
                       std::size_t tp_index, bool sharded, std::int64_t seq_len,
                       const data::MicroBatch& micro_batch, Device& device);

/// An int32 array on the device.
Result<Buffer> upload(Device& device, std::span<const std::int32_t> values);
inline const std::int32_t* ints(const Buffer& array) {
  return reinterpret_cast<const std::int32_t*>(array.data());
}

}  // namespace troupe::exec
