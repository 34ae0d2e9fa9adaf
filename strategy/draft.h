// A strategy while it is read: what came out, where it was written, and what
// was wrong.
#pragma once

#include <string>
#include <string_view>

#include "base/findings.h"
#include "base/json.h"
#include "strategy/places.h"
#include "strategy/strategy.h"

namespace troupe::strategy {

struct Draft {
  Strategy strategy;
  Places places;
  Findings findings;
};

/// Limits of what people write; far above any real cluster, and low enough
/// that nothing built from them overflows.
inline constexpr Limits kDegree{1, 1 << 18};
inline constexpr Limits kMicroBatches{0, 1 << 20};
inline constexpr Limits kSequences{1, 1 << 20};
inline constexpr Limits kSeqLen{1, 1 << 26};
inline constexpr std::int64_t kMostRanks = 1 << 20;

/// The JSON path within "file: /a/b", "" for the file itself.
std::string own_path(const Places& places, std::string_view where);

/// Removes stages that hold no layer, with a warning at each: their devices
/// stay idle. Parts of the other stages keep their places. `part` names the
/// pipeline, whose stages are at `own` + "/" + index in the file unless
/// `own` is empty.
void drop_empty_stages(Draft& draft, Pipeline& pipeline,
                       const std::string& part, const std::string& own);

}  // namespace troupe::strategy
