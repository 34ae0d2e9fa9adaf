// Operator detail: performs a compute task operator by operator on every rank
// of its stage, with every collective a meeting of its ranks.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "schedule/disturbance.h"
#include "schedule/schedule.h"
#include "sim/price.h"

namespace troupe::sim {

/// One operator of one rank, as it ran.
struct OperatorRecord {
  schedule::RankId rank;
  schedule::TaskId task;
  std::int32_t layer = 0;   ///< -1 embedding, -2 head, -3 optimizer
  std::uint16_t index = 0;  ///< of the operator in its block
  const schedule::Block* block = nullptr;
  Time start, end;
};

/// Deviations from the prices, for a phase of a strategy.
struct Disturbed {
  const schedule::Disturbance* by = nullptr;  ///< or nothing
  std::int32_t phase = 0;
};

/// Performs tasks in detail; may keep records of some ranks.
class OperatorDetail {
 public:
  /// Keeps at most `most_records` records, of ranks in `recorded` (sorted).
  OperatorDetail(const schedule::Schedule& schedule, PriceList& prices,
                 std::vector<schedule::RankId> recorded = {},
                 std::size_t most_records = 0, Disturbed disturbed = {});

  /// Performs compute task `id` from `start`; returns what it takes.
  Time perform(schedule::TaskId id, Time start);

  /// Operators performed, each rank's counted.
  std::int64_t operators() const { return operators_; }
  const std::vector<OperatorRecord>& records() const { return records_; }
  bool cut() const { return cut_; }  ///< records were left out

 private:
  using Runs = std::vector<std::pair<const BlockPrice*, int>>;
  struct Lanes;
  const std::vector<Runs>& runs_of(schedule::TaskId id);
  bool same_structure(const std::vector<Runs>& members) const;
  void prefetch(Lanes& lanes, std::size_t i, bool early);
  void perform_block(Lanes& lanes, std::size_t i);
  void perform_operator(Lanes& lanes, std::size_t i, std::size_t op,
                        std::vector<Time>& ends);
  Time time_of(const Lanes& lanes, std::size_t i, std::size_t op,
               std::size_t rank) const;
  Time disturbed_whole(schedule::TaskId id) const;
  void record(const Lanes& lanes, std::size_t i, std::size_t op,
              std::span<const Time> ends);

  const schedule::Schedule& schedule_;
  PriceList& prices_;
  std::vector<schedule::RankId> recorded_;
  std::size_t most_records_;
  Disturbed disturbed_;
  std::int64_t operators_ = 0;
  bool cut_ = false;
  std::vector<OperatorRecord> records_;
  std::vector<std::vector<Runs>> known_;  ///< by body and kind of stage
  std::vector<std::vector<std::int32_t>> known_of_;
  std::vector<std::size_t> kind_of_stage_;
};

}  // namespace troupe::sim
