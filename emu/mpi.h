// This process as one rank of an MPI job. Where MPI is not built in, starting
// fails and says so.
#pragma once

#include <memory>
#include <string>

#include "exec/communicator.h"

namespace troupe::emu {

struct MpiOptions {
  /// No rank waits longer than this for another before the run ends.
  double patience_s = 60;
};

/// From MPI_Init to MPI_Finalize, once in a process, on one thread.
///
/// A rank that is gone, that hangs or computes for longer than the patience,
/// that wants another collective or sends another size than expected, ends
/// the run on all ranks: those still there tell each other what they wait
/// for, the lowest prints one message to stderr and aborts the job. Calls of
/// the communicator therefore do not return errors.
class MpiSession {
 public:
  /// Errors: unavailable, where MPI is not built in or does not start.
  static Result<std::unique_ptr<MpiSession>> start(const MpiOptions& options);
  /// Finalises, when all ranks have come here.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const;
  int ranks() const;
  exec::Communicator& communicator();

  /// Ends the run on all ranks with this rank's error.
  [[noreturn]] void give_up(const Error& error);
  /// Ends this process alone, without a word to the others.
  [[noreturn]] void die(const std::string& text);
  /// Never does anything again.
  [[noreturn]] void hang();

 private:
  struct State;
  explicit MpiSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe::emu
