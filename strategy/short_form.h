// The 3D/4D form of a strategy: equal pipelines from a few numbers.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "strategy/strategy.h"

namespace troupe::strategy {

/// A dimension of the grid of ranks.
enum class Axis : std::uint8_t { tp, cp, dp, pp };
/// Which axis varies fastest over the ranks, then the next.
using RankOrder = std::array<Axis, 4>;

/// Megatron-LM's default: rank = tp + TP (cp + CP (dp + DP pp)).
inline constexpr RankOrder kMegatronOrder{Axis::tp, Axis::cp, Axis::dp,
                                          Axis::pp};

/// Reads "tp-cp-dp-pp", fastest first; "ep" is allowed and ignored.
std::optional<RankOrder> parse_rank_order(std::string_view text);
std::string to_string(const RankOrder& order);

/// dp equal pipelines of pp stages on tp x cp devices each.
struct ShortForm {
  int dp = 1;
  int tp = 1;
  int pp = 1;
  int cp = 1;
  int interleave = 1;  ///< virtual stages per stage
  int micro_batches = 1;
  int micro_batch_size = 1;
  RankOrder order = kMegatronOrder;
  /// Layers of each of the pp x interleave virtual stages in model order;
  /// empty: an even split.
  std::vector<int> layers_per_stage = {};
  std::vector<DeviceId> devices =
      {};  ///< device of each rank; empty: rank i is i
};

/// dp x tp x pp x cp, at most 2^62.
std::int64_t rank_count(const ShortForm& form);

/// `layers` over `parts`: every part gets the quotient, and the remainder
/// goes one by one to the parts nearest the middle (the first and last part
/// also hold embedding and head); of two as near, the earlier. No parts
/// give none.
std::vector<int> even_split(int layers, int parts);

/// The pipelines of the form. Interleaved, virtual stage v is chunk v / pp
/// of stage v mod pp.
///
/// Requires: rank_count small enough to hold; layers_per_stage and devices
///           empty or of the right length.
std::vector<Pipeline> pipelines_of(const ShortForm& form, int layers);

}  // namespace troupe::strategy
