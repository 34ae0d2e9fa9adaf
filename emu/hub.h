// Ranks of one process and what connects them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "exec/communicator.h"

namespace troupe::emu {

using exec::RankId;

struct HubOptions {
  int threads = 2;
};

/// Connects ranks 0 to n-1 and runs them.
class Hub {
 public:
  Hub(int ranks, const HubOptions& options);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  /// Runs `work` once for each rank, each in a fibre of its own, and waits for
  /// all. The first rank that fails ends the others at their next call, and
  /// so does a moment in which every rank waits for another.
  ///
  /// Errors: the first one, with the rank's number.
  Result<void> run(
      const std::function<Result<void>(exec::Communicator&)>& work);

 private:
  struct State;
  class Member;
  std::unique_ptr<State> state_;
};

}  // namespace troupe::emu
