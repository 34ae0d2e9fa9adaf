// How ranks reach each other. The interpreter is the same for all: threads of
// one process, MPI (emu/), NCCL.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "kernels/operator.h"
#include "schedule/schedule.h"

namespace troupe::exec {

using schedule::RankId;

/// Names a message between two ranks; equal names arrive in order.
using Tag = std::uint64_t;

/// Rows of memory at equal distances, in bytes from its start.
struct Strip {
  std::int64_t at = 0, row = 0, stride = 0, rows = 1;
  bool operator==(const Strip&) const = default;
};

/// One rank's end. Memory is the rank's device's. Every collective is called
/// by all ranks of `group` in the same order with the same list, whose order
/// is that of the parts; a group of one does nothing but its own copy.
///
/// Every call carries a virtual time: a collective returns in `time` the
/// latest of all members', a receive the sender's.
///
/// Errors: unavailable, when a rank is gone, late beyond the time limit, or
///         wants something else (a size, an operation): the same message on
///         every rank that waits.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual RankId rank() const = 0;

  /// Member i's `mine` becomes part i of `all`; sizes may differ.
  virtual Result<void> all_gather(std::span<const RankId> group,
                                  std::span<const std::byte> mine,
                                  std::span<const Bytes> sizes,
                                  std::span<std::byte> all, Time& time) = 0;
  /// Sums of all members' numbers, added in the order of the group.
  virtual Result<void> all_reduce(std::span<const RankId> group,
                                  kernels::DType dtype,
                                  std::span<std::byte> numbers, Time& time) = 0;
  /// Returns at once; the bytes may change afterwards.
  virtual Result<void> send(RankId to, Tag tag,
                            std::span<const std::byte> bytes, Time time) = 0;
  virtual Result<void> receive(RankId from, Tag tag, std::span<std::byte> bytes,
                               Time& time) = 0;
  /// The same when the message is there; else false, at once.
  virtual Result<bool> try_receive(RankId from, Tag tag,
                                   std::span<std::byte> bytes, Time& time) = 0;

  /// Others may read this memory by its name, from now until it is withdrawn.
  virtual void expose(Tag name, std::span<const std::byte> memory) = 0;
  virtual void withdraw(Tag name) = 0;
  /// Reads strips of what `from` (or this rank) exposes, one after the other.
  ///
  /// Model:    one-sided: the owner takes no part in it and may be anywhere in
  ///           its work (a read by the network card or over NVLink, MPI_Get,
  ///           or a thread of the owner that serves).
  /// Requires: it is exposed, and stays so (whoever calls has met the owner).
  virtual Result<void> fetch(RankId from, Tag name,
                             std::span<const Strip> strips,
                             std::span<std::byte> to) = 0;
  /// Waits for everyone; no data.
  virtual Result<void> meet(std::span<const RankId> group, Time& time) = 0;
  /// Lets real time pass for this rank, not for others of its thread.
  virtual Result<void> sleep_until(std::chrono::steady_clock::time_point at) {
    std::this_thread::sleep_until(at);
    return {};
  }
};

/// Ranks 0 to `ranks` - 1: the group of all.
inline std::vector<RankId> everyone(std::size_t ranks) {
  std::vector<RankId> out;
  for (std::size_t r = 0; r < ranks; ++r) out.push_back(make_id<RankId>(r));
  return out;
}

}  // namespace troupe::exec
