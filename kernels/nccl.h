// NCCL, opened when first needed: a machine without the library, or with one
// GPU, can still start the program. One process, one thread, several GPUs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace troupe::kernels::nccl {

/// `bytes` below is the whole (gathered) buffer of a rank, as nccl-tests
/// prints it; n is the number of ranks.
enum class Operation : std::uint8_t {
  all_reduce,      ///< sums bf16: in, out of `bytes`
  all_gather,      ///< in of bytes / n, out of `bytes`
  reduce_scatter,  ///< in of `bytes`, out of bytes / n
  all_to_all,      ///< bytes / n to every rank
  broadcast,       ///< in of rank 0, out of all, of `bytes`
  ring_shift,      ///< every rank sends `bytes` to the next
  send_receive,    ///< rank 0 sends `bytes` to rank 1
};

/// The functions of the library. Never closed: its threads may still run.
class Library {
 public:
  /// `path` is for tests; empty looks where loaders and CUDA look.
  ///
  /// Errors: unavailable, with the loader's reason.
  static Result<std::shared_ptr<const Library>> open(
      const std::string& path = {});
  /// "2.28.9"
  const std::string& version() const { return version_; }

  struct Table;
  const Table& table() const { return *table_; }

 private:
  Library();
  std::unique_ptr<Table> table_;
  std::string version_;

 public:
  ~Library();
};

/// Memory and stream of one rank, on its GPU.
struct Rank {
  const void* in = nullptr;
  void* out = nullptr;
  void* stream = nullptr;  ///< cudaStream_t
};

/// GPUs of this process that communicate. Destroyed without waiting; call
/// `abort` first where an operation may never end.
class Group {
 public:
  /// Errors: io with NCCL's reason.
  static Result<Group> create(std::shared_ptr<const Library> library,
                              const std::vector<int>& ordinals);
  Group(Group&& other) noexcept;
  Group& operator=(Group&& other) noexcept;
  ~Group();

  int ranks() const { return static_cast<int>(communicators_.size()); }

  /// Puts one operation on the streams of all ranks.
  ///
  /// Requires: ranks.size() == this->ranks().
  /// Errors:   input unless every rank's share is a whole number of bf16, or
  ///           for send_receive among other than two; io with NCCL's reason.
  Result<void> start(Operation operation, Bytes bytes,
                     std::span<const Rank> ranks) const;
  /// Errors: io for what went wrong since, as far as NCCL knows.
  Result<void> healthy() const;
  /// Ends what is going on, at once; the group is of no use afterwards.
  void abort();

 private:
  Group(std::shared_ptr<const Library> library, std::vector<void*> made);
  std::shared_ptr<const Library> library_;
  std::vector<void*> communicators_;  ///< ncclComm_t
};

}  // namespace troupe::kernels::nccl
