// The sequences of one training step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/corpus.h"
#include "schedule/schedule.h"

namespace troupe::data {

/// One sequence of a micro-batch: documents one after another.
///
/// Shapes: tokens, labels, positions (seq_len); starts (documents + 1), the
///         last one is where the padding begins.
/// Model:  a label is the next token of the same document; -1 where there is
///         none. Positions count from the start of the document. Padding is
///         of no document, has token 0 and no label.
struct Sequence {
  std::vector<std::int32_t> tokens, labels, positions, starts;
  bool operator==(const Sequence&) const = default;
};

using MicroBatch = std::vector<Sequence>;

/// What a step trains on, by pipeline and micro-batch.
struct Batch {
  std::vector<std::vector<MicroBatch>> pipelines;
  std::int64_t labels = 0;  ///< tokens with a label: what losses are divided by
};

/// Packs documents into the sequences of a step.
///
/// Model: a sequence begins with a document that (seed, step, number of the
///        sequence) chooses and goes on with the next ones; the last one is
///        cut where the sequence is full. With `max_positions` > 0 documents
///        are cut there. Tokens beyond `vocabulary` are taken modulo it.
Batch make_batch(const Corpus& corpus,
                 std::span<const schedule::MicroBatches> pipelines,
                 std::int32_t vocabulary, std::uint64_t seed, std::int64_t step,
                 std::int64_t max_positions = 0);

}  // namespace troupe::data
