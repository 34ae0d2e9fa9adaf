// Ranks of an MPI job as a Communicator. One thread.
#pragma once

#include <mpi.h>

#include <deque>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "emu/collective.h"
#include "emu/mpi_watch.h"
#include "exec/communicator.h"

namespace troupe::emu {

/// Model:  before each collective its members tell each other the operation,
///         the size and their time, so that a mismatch is a message instead of
///         a wrong number. Sums are formed in the order of the group: every
///         member adds up its share of the numbers and gets the others' sums,
///         so every rank and every run has the same bits, those of the hub.
///         Messages carry their tag along: MPI's tags are too small for ours.
/// Errors: none; what goes wrong ends the run (MpiSession).
class MpiCommunicator final : public exec::Communicator {
 public:
  explicit MpiCommunicator(MpiWatch& watch);
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  exec::RankId rank() const override { return exec::RankId{watch_.rank()}; }
  Result<void> all_gather(std::span<const exec::RankId> group,
                          std::span<const std::byte> mine,
                          std::span<const Bytes> sizes,
                          std::span<std::byte> all, Time& time) override;
  Result<void> all_reduce(std::span<const exec::RankId> group,
                          kernels::DType dtype, std::span<std::byte> numbers,
                          Time& time) override;
  Result<void> send(exec::RankId to, exec::Tag tag,
                    std::span<const std::byte> bytes, Time time) override;
  Result<void> receive(exec::RankId from, exec::Tag tag,
                       std::span<std::byte> bytes, Time& time) override;
  Result<bool> try_receive(exec::RankId from, exec::Tag tag,
                           std::span<std::byte> bytes, Time& time) override;
  void expose(exec::Tag name, std::span<const std::byte> memory) override;
  void withdraw(exec::Tag name) override;
  /// The owner answers whenever it waits for something or sends.
  Result<void> fetch(exec::RankId from, exec::Tag name,
                     std::span<const exec::Strip> strips,
                     std::span<std::byte> to) override;
  Result<void> meet(std::span<const exec::RankId> group, Time& time) override;
  /// Waits until all that was sent has arrived.
  void finish();

 private:
  /// What a member says before a collective.
  struct Opening {
    Intent intent;
    std::int64_t time = 0;
  };
  /// What stands before the bytes of a message.
  struct Head {
    exec::Tag tag = 0;
    std::int64_t time = 0;
    std::int64_t channel = 0;  ///< of the program, or of making groups
  };
  struct Letter {
    std::vector<std::byte> bytes;  ///< with head
    std::int64_t time = 0;
  };
  struct Sent {
    std::vector<std::byte> bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  struct Group {
    MPI_Comm comm = MPI_COMM_NULL;
    std::vector<exec::RankId> ranks;
    std::uint64_t hash = 0;
    std::uint64_t meetings = 0;
    std::size_t self = 0;
  };
  using Key = std::pair<std::int32_t, std::pair<std::int64_t, exec::Tag>>;

  Group& group_of(std::span<const exec::RankId> ranks);
  void make(Group& group);
  /// Tells the intent, compares it with the members'; `time` becomes the
  /// latest of all.
  void open(Group& group, const Intent& intent, std::span<const Bytes> sizes,
            Time& time);
  void wait(MPI_Request request, const Group& group, std::string_view what);
  void add_all(const Group& group, kernels::DType dtype,
               std::span<std::byte> numbers);
  std::vector<std::byte> summed(const Group& group, kernels::DType dtype,
                                std::span<const std::byte> numbers,
                                const std::vector<int>& counts,
                                const std::vector<int>& starts);
  void post(exec::RankId to, Head head, std::span<const std::byte> bytes);
  Letter take(exec::RankId from, std::int64_t channel, exec::Tag tag,
              std::string_view what);
  /// Takes in what a rank has sent so far.
  void take_in(exec::RankId from);
  Letter arrived(const Key& key);
  /// Answers those who want to read what this rank exposes.
  void serve();
  std::vector<std::byte> received(MPI_Message& message,
                                  const MPI_Status& status,
                                  std::string_view what);
  void release();
  int count_of(std::size_t bytes);
  /// Ends the run when a call of MPI has failed.
  void succeed(int code);

  MpiWatch& watch_;
  MPI_Comm messages_ = MPI_COMM_NULL;
  MPI_Comm reads_ = MPI_COMM_NULL;  ///< requests and answers
  std::map<std::vector<exec::RankId>, Group> groups_;
  std::map<Key, std::deque<Letter>> letters_;
  std::deque<Sent> sent_;
  std::map<exec::Tag, std::span<const std::byte>> exposed_;
};

}  // namespace troupe::emu
