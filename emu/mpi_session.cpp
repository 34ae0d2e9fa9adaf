#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "emu/mpi.h"
#include "emu/mpi_communicator.h"
#include "emu/mpi_watch.h"

namespace troupe::emu {

struct MpiSession::State {
  explicit State(const MpiOptions& options) : watch(options) {}
  MpiWatch watch;
  MpiCommunicator communicator{watch};
};

Result<std::unique_ptr<MpiSession>> MpiSession::start(
    const MpiOptions& options) {
  int started = 0;
  MPI_Initialized(&started);
  if (started != 0) return fail(Fault::unavailable, "MPI was started twice");
  // A process that no launcher started needs no daemon of Open MPI's.
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
  {
    const Guard guard(options.patience_s, "the start of MPI");
    int level = 0;
    // The only thread beside this one never calls MPI.
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level) !=
        MPI_SUCCESS) {
      return fail(Fault::unavailable, "MPI does not start here");
    }
  }
  return std::unique_ptr<MpiSession>(
      new MpiSession(std::make_unique<State>(options)));
}

MpiSession::MpiSession(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

MpiSession::~MpiSession() {
  state_->communicator.finish();
  const double limit_s = state_->watch.patience();
  state_.reset();
  const Guard guard(limit_s, "the end of MPI");
  MPI_Finalize();
}

int MpiSession::rank() const { return state_->watch.rank(); }
int MpiSession::ranks() const { return state_->watch.ranks(); }
exec::Communicator& MpiSession::communicator() { return state_->communicator; }

void MpiSession::give_up(const Error& error) {
  state_->watch.give_up(fmt::format("rank {}: {}", rank(), error.message));
}

void MpiSession::die(const std::string& text) {
  fmt::print(stderr, "troupe: rank {}: {}\n", rank(), text);
  std::fflush(stderr);
  _exit(1);
}

void MpiSession::hang() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace troupe::emu
