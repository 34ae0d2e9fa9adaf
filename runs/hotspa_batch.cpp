#include "runs/hotspa_batch.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace troupe::runs {
namespace {

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

/// The z below which a share `p` of a normal law lies, by bisection.
double normal_quantile(double p) {
  double low = -40, high = 40;
  for (int i = 0; i < 80; ++i) {
    const double middle = 0.5 * (low + high);
    (normal_cdf(middle) < p ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

}  // namespace

std::vector<std::int64_t> typical_batch(const LengthLaw& law,
                                        std::int64_t documents,
                                        std::int64_t longest) {
  const double mu = std::log(law.mean) - 0.5 * law.sigma * law.sigma;
  std::vector<std::int64_t> lengths;
  lengths.reserve(static_cast<std::size_t>(documents));
  for (std::int64_t i = 0; i < documents; ++i) {
    const double p =
        (static_cast<double>(i) + 0.5) / static_cast<double>(documents);
    const double length = std::exp(mu + law.sigma * normal_quantile(p));
    const double cut = std::min(length, static_cast<double>(longest));
    lengths.push_back(std::max(static_cast<std::int64_t>(cut), law.least));
  }
  std::ranges::sort(lengths, std::greater<>());
  return lengths;
}

std::vector<BucketRows> pack_in_buckets(std::span<const std::int64_t> lengths,
                                        std::span<const std::int64_t> bounds) {
  std::vector<BucketRows> out;
  for (std::size_t b = 0; b + 1 < bounds.size(); ++b) {
    BucketRows bucket{bounds[b + 1], bounds[b], 0, 0, 0};
    std::vector<std::int64_t> mine;
    for (const std::int64_t n : lengths) {
      if (bucket.low < n && n <= bucket.high) mine.push_back(n);
    }
    std::ranges::sort(mine, std::greater<>());
    std::vector<std::int64_t> room;
    for (const std::int64_t n : mine) {
      ++bucket.documents;
      bucket.tokens += n;
      const auto row =
          std::ranges::find_if(room, [&](std::int64_t r) { return n <= r; });
      if (row == room.end()) {
        room.push_back(bucket.high - n);
      } else {
        *row -= n;
      }
    }
    bucket.rows = std::ssize(room);
    out.push_back(bucket);
  }
  return out;
}

void deal_rows(strategy::Phase& phase, std::int64_t rows, std::int64_t tokens) {
  const auto pipelines = static_cast<std::int64_t>(phase.pipelines.size());
  for (std::int64_t p = 0; p < pipelines; ++p) {
    strategy::Pipeline& pipeline = phase.pipelines[static_cast<std::size_t>(p)];
    const std::int64_t own = rows / pipelines + (p < rows % pipelines ? 1 : 0);
    pipeline.micro_batch_size = 1;
    pipeline.micro_batch_seq_lens.clear();
    pipeline.micro_batches = static_cast<int>(std::max<std::int64_t>(own, 1));
    pipeline.seq_len = static_cast<int>(own > 0 ? tokens : kDummyTokens);
  }
}

}  // namespace troupe::runs
