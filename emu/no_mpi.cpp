// mpi.h where MPI is not built in.
#include <cstdlib>

#include "emu/mpi.h"

namespace troupe::emu {

struct MpiSession::State {};

Result<std::unique_ptr<MpiSession>> MpiSession::start(
    const MpiOptions& /*options*/) {
  return fail(Fault::unavailable,
              "built without MPI; install libopenmpi-dev and openmpi-bin and "
              "configure with -DTROUPE_MPI=ON, or leave out --mpi: the ranks "
              "then share this process");
}

// Nobody has a session, so nobody calls these.
MpiSession::MpiSession(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
MpiSession::~MpiSession() = default;
int MpiSession::rank() const { return 0; }
int MpiSession::ranks() const { return 0; }
exec::Communicator& MpiSession::communicator() { std::abort(); }
void MpiSession::give_up(const Error& /*error*/) { std::abort(); }
void MpiSession::die(const std::string& /*text*/) { std::abort(); }
void MpiSession::hang() { std::abort(); }

}  // namespace troupe::emu
