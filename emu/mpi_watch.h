// Waiting with a limit under MPI, and how a run ends on all ranks with one
// message. One thread.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "emu/mpi.h"
#include "emu/waits.h"

namespace troupe::emu {

/// Ends the process when it is not gone in time: for the few calls of MPI
/// that have no form that returns at once.
class Guard {
 public:
  Guard(double limit_s, std::string what);
  ~Guard();
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What this rank waits for: a message of a rank, or a collective.
struct Need {
  exec::RankId from;
  std::span<const exec::RankId> group;
  std::uint64_t meeting = 0;  ///< names the collective among all
  std::string_view what;
};

/// The ranks still there, told apart from those that are not.
///
/// Model:  who gives up or has waited too long tells all. Who hears of it
///         while it waits says where it waits (`Phase::roll_call`). From that,
///         each rank knows who is not in its collective, and tells all whom it
///         waits for (`Phase::verdict`). The lowest rank that spoke blames one
///         and aborts the job.
class MpiWatch {
 public:
  explicit MpiWatch(const MpiOptions& options);
  ~MpiWatch();
  MpiWatch(const MpiWatch&) = delete;
  MpiWatch& operator=(const MpiWatch&) = delete;

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  double patience() const { return options_.patience_s; }

  /// Returns when `done` says yes, which is asked again and again; ends the
  /// run when that takes too long or another rank has ended it.
  template <typename Done>
  void wait(const Need& need, Done done) {
    sleepy_ = false;
    const auto start = std::chrono::steady_clock::now();
    for (int polls = 1; !done(); ++polls) rest(polls, start, need);
  }
  /// Ends the run with this rank's words.
  [[noreturn]] void give_up(std::string_view text);

 private:
  enum class Phase : std::int32_t { roll_call, verdict };
  /// Plain bytes, small enough that sending never waits.
  struct Report {
    Phase phase = Phase::roll_call;
    std::int32_t gave_up = 0;
    std::int32_t waits_for = -1;
    std::uint64_t meeting = 0;
    char text[1000] = {};
  };

  void rest(int polls, std::chrono::steady_clock::time_point start,
            const Need& need);
  [[noreturn]] void end(Report mine, const Need& need);
  void tell(const Report& mine);
  void listen(Phase phase);
  bool hear();
  void find_missing(Report& mine, const Need& need) const;
  std::string judge() const;

  MpiOptions options_;
  MPI_Comm reports_ = MPI_COMM_NULL;  ///< carries nothing else
  int rank_ = 0, ranks_ = 1;
  bool crowded_ = false;  ///< more ranks than cores on this machine
  bool sleepy_ = false;   ///< this wait is no longer a short one
  double grace_s_ = 0;    ///< for others to report
  std::map<std::int32_t, Report> heard_;
  std::deque<Report> told_;  ///< bytes on their way to the others
};

}  // namespace troupe::emu
