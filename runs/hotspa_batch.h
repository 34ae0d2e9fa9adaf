// HotSPa's data path: documents of a batch by length buckets, each bucket's
// documents packed into rows, the rows shared by the pipelines of a phase.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "strategy/strategy.h"

namespace troupe::runs {

/// A lognormal law of document lengths, in tokens.
struct LengthLaw {
  std::string name;
  double mean = 600;
  double sigma = 1.2;      ///< of the logarithm
  std::int64_t least = 1;  ///< shorter ones count as that
};

/// The lengths of a typical batch, descending: one in the middle of each of
/// `documents` equally likely parts of the law, cut at `longest`.
///
/// Model: quantile (i + 1/2) / documents of exp(mu + sigma z), mu such that
///        the uncut mean is `mean`; no chance is involved.
/// Requires: documents >= 1, sigma > 0, least <= longest.
std::vector<std::int64_t> typical_batch(const LengthLaw& law,
                                        std::int64_t documents,
                                        std::int64_t longest);

/// Rows of a bucket.
struct BucketRows {
  std::int64_t low = 0, high = 0;  ///< lengths in (low, high]
  std::int64_t documents = 0;
  std::int64_t tokens = 0;  ///< of the documents
  std::int64_t rows = 0;    ///< of `high` tokens each
};

/// Sorts documents into buckets and packs each first fit, longest first.
///
/// Requires: falling bounds, the last 0; lengths within (0, bounds[0]].
/// Source:   HotSPa's bucketing and packing; where it drops the rows that do
///           not divide by dp, none is dropped here.
std::vector<BucketRows> pack_in_buckets(std::span<const std::int64_t> lengths,
                                        std::span<const std::int64_t> bounds);

/// Tokens of a row that only keeps a pipeline busy that got none.
inline constexpr int kDummyTokens = 128;

/// Deals `rows` of `tokens` each to the pipelines in turn; those that get
/// none run one row of kDummyTokens.
void deal_rows(strategy::Phase& phase, std::int64_t rows, std::int64_t tokens);

}  // namespace troupe::runs
