// Many fibres on a few threads: what ranks of one process run on.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace troupe::emu {

/// Runs fibres that wait for each other. A fibre stays on one thread; switching
/// between fibres of a thread costs no system call.
class Crew {
 public:
  Crew(int fibres, int threads);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /// Runs `body(i)` for every fibre i and returns when all have ended.
  /// `stuck` is called (perhaps several times) when every fibre is parked:
  /// it must unpark some.
  void run(const std::function<void(int)>& body,
           const std::function<void()>& stuck);

  /// Ends the turn of the fibre that calls, until someone unparks it; returns
  /// at once when someone has since it last was parked. May return early.
  ///
  /// Requires: a fibre of this crew that holds no lock.
  void park();
  /// From any thread.
  void unpark(int fibre);
  /// As `park`, but ends by itself at `at`. The fibre's thread runs others
  /// meanwhile, and sleeps while none can run.
  void park_until(std::chrono::steady_clock::time_point at);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe::emu
