// Batches of random corpora against what packing says, token by token.
#include "data/batch.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <set>

namespace troupe::data {
namespace {

using Pipelines = std::vector<schedule::MicroBatches>;

Corpus random_corpus() {
  Corpus corpus;
  const int documents = *rc::gen::inRange(1, 8);
  for (int d = 0; d < documents; ++d) {
    auto& document = corpus.documents.emplace_back();
    const int size = *rc::gen::inRange(1, 30);
    // Every token says where it is from.
    for (int i = 0; i < size; ++i) document.push_back(d * 30 + i);
  }
  return corpus;
}

Pipelines random_pipelines() {
  Pipelines out(*rc::gen::inRange<std::size_t>(1, 4));
  for (schedule::MicroBatches& p : out) {
    p.sequences = *rc::gen::inRange(1, 4);
    const int count = *rc::gen::inRange(1, 4);
    for (int m = 0; m < count; ++m) {
      p.seq_len.push_back(*rc::gen::inRange(1, 60));
    }
  }
  return out;
}

std::vector<const Sequence*> sequences_of(const Batch& batch) {
  std::vector<const Sequence*> out;
  for (const auto& pipeline : batch.pipelines) {
    for (const MicroBatch& micro_batch : pipeline) {
      for (const Sequence& s : micro_batch) out.push_back(&s);
    }
  }
  return out;
}

RC_GTEST_PROP(Batches, HaveTheShapeOfThePipelines, ()) {
  const Corpus corpus = random_corpus();
  const Pipelines pipelines = random_pipelines();
  const Batch batch = make_batch(corpus, pipelines, 500, 1, 0);
  RC_ASSERT(batch.pipelines.size() == pipelines.size());
  for (std::size_t p = 0; p < pipelines.size(); ++p) {
    const auto& lengths = pipelines[p].seq_len;
    RC_ASSERT(batch.pipelines[p].size() == lengths.size());
    for (std::size_t m = 0; m < lengths.size(); ++m) {
      const MicroBatch& micro_batch = batch.pipelines[p][m];
      RC_ASSERT(std::ssize(micro_batch) == pipelines[p].sequences);
      for (const Sequence& s : micro_batch) {
        RC_ASSERT(std::ssize(s.tokens) == lengths[m]);
        RC_ASSERT(std::ssize(s.labels) == lengths[m]);
        RC_ASSERT(std::ssize(s.positions) == lengths[m]);
        RC_ASSERT(s.starts.back() == lengths[m]);
      }
    }
  }
}

/// Walks through a sequence with the corpus beside it.
void check_sequence(const Corpus& corpus, const Sequence& s, int vocabulary,
                    int longest, std::int64_t& labels) {
  RC_ASSERT(s.starts.front() == 0);
  std::size_t number = 0;  // of the document
  for (std::size_t d = 0; d + 1 < s.starts.size(); ++d) {
    const auto first = static_cast<std::size_t>(s.starts[d]);
    const auto last = static_cast<std::size_t>(s.starts[d + 1]);
    RC_ASSERT(first < last);
    // With a vocabulary that holds all tokens, they say where they are from.
    if (d == 0) {
      number = static_cast<std::size_t>(s.tokens[0] / 30);
    } else {
      number = (number + 1) % corpus.documents.size();
    }
    const auto& document = corpus.documents[number];
    std::size_t whole = document.size();
    if (longest > 0) {
      whole = std::min(whole, static_cast<std::size_t>(longest));
    }
    const bool cut = last == s.tokens.size();
    RC_ASSERT(last - first <= whole);
    RC_ASSERT((cut || last - first == whole));
    for (std::size_t i = first; i < last; ++i) {
      RC_ASSERT(s.tokens[i] == document[i - first] % vocabulary);
      RC_ASSERT(s.positions[i] == static_cast<std::int32_t>(i - first));
      const std::int32_t next =
          i + 1 < last ? document[i + 1 - first] % vocabulary : -1;
      RC_ASSERT(s.labels[i] == next);
      labels += next >= 0 ? 1 : 0;
    }
  }
}

RC_GTEST_PROP(Batches, PackDocumentsAndLabelTheNextToken, ()) {
  const Corpus corpus = random_corpus();
  const int longest = *rc::gen::element(0, 0, 1, 2, 9);
  const Batch batch = make_batch(corpus, random_pipelines(), 240,
                                 *rc::gen::arbitrary<std::uint64_t>(),
                                 *rc::gen::inRange(0, 9), longest);
  std::int64_t labels = 0;
  for (const Sequence* s : sequences_of(batch)) {
    check_sequence(corpus, *s, 240, longest, labels);
  }
  RC_ASSERT(batch.labels == labels);
}

RC_GTEST_PROP(Batches, AreTheSameForEveryoneWhoAsks, ()) {
  const Corpus corpus = random_corpus();
  const Pipelines pipelines = random_pipelines();
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto step = *rc::gen::inRange(0, 100);
  const Batch a = make_batch(corpus, pipelines, 100, seed, step);
  const Batch b = make_batch(corpus, pipelines, 100, seed, step);
  RC_ASSERT(a.pipelines == b.pipelines);
  RC_ASSERT(a.labels == b.labels);
}

/// The sequences are numbered through all pipelines: how many there are and
/// who takes which does not change what is learnt.
RC_GTEST_PROP(Batches, DoNotDependOnThePipelines, ()) {
  const Corpus corpus = random_corpus();
  const Pipelines pipelines = random_pipelines();
  schedule::MicroBatches one;
  for (const schedule::MicroBatches& p : pipelines) {
    for (const std::int32_t length : p.seq_len) {
      one.seq_len.insert(one.seq_len.end(),
                         static_cast<std::size_t>(p.sequences), length);
    }
  }
  const Batch a = make_batch(corpus, pipelines, 300, 4, 2);
  const Batch b = make_batch(corpus, Pipelines{one}, 300, 4, 2);
  const auto all = sequences_of(a);
  const auto same = sequences_of(b);
  RC_ASSERT(all.size() == same.size());
  for (std::size_t i = 0; i < all.size(); ++i) RC_ASSERT(*all[i] == *same[i]);
  RC_ASSERT(a.labels == b.labels);
}

TEST(Batches, KeepTokensWithinTheVocabulary) {
  const Pipelines pipelines{{.sequences = 4, .seq_len = {64, 200}}};
  for (const std::int32_t vocabulary : {1, 2, 50, 257, 1000}) {
    const Batch batch =
        make_batch(sample_corpus(), pipelines, vocabulary, 1, 0);
    for (const Sequence* s : sequences_of(batch)) {
      for (const std::int32_t t : s->tokens) {
        EXPECT_GE(t, 0);
        EXPECT_LT(t, vocabulary);
      }
      for (const std::int32_t l : s->labels) {
        EXPECT_GE(l, -1);
        EXPECT_LT(l, vocabulary);
      }
    }
  }
}

/// 14 sequences of 13 documents: equal batches of other steps or seeds would
/// be a matter of 1 in 13^14.
TEST(Batches, DifferBySeedAndStep) {
  const Pipelines pipelines{{.sequences = 2, .seq_len = {9, 9, 9, 9, 9, 9, 9}}};
  ASSERT_GT(sample_corpus().documents.size(), 8U);
  std::vector<Batch> batches;
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    for (const int step : {0, 1, 2}) {
      batches.push_back(
          make_batch(sample_corpus(), pipelines, 257, seed, step));
    }
  }
  for (std::size_t i = 0; i < batches.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      EXPECT_NE(batches[i].pipelines, batches[k].pipelines) << i << " " << k;
    }
    std::set<std::vector<std::int32_t>> distinct;
    for (const Sequence* s : sequences_of(batches[i])) {
      distinct.insert(s->tokens);
    }
    EXPECT_GT(distinct.size(), 4U);
  }
}

}  // namespace
}  // namespace troupe::data
