// Faults put into a run on purpose, to prove that it ends with a message.
#pragma once

#include <cstdint>
#include <string_view>

#include "exec/communicator.h"

namespace troupe::emu {

enum class FaultKind : std::uint8_t {
  die,   ///< the rank ends with an error as the step starts
  hang,  ///< it never goes on
  size,  ///< the first thing it sends in the step is a byte short
  hash,  ///< it performs another schedule
};

struct InjectedFault {
  exec::RankId rank;
  int step = 1;  ///< from 1
  FaultKind kind = FaultKind::die;
  bool operator==(const InjectedFault&) const = default;
};

/// Reads "RANK:STEP:KIND" for a run of `ranks` and `steps`.
///
/// Errors: input. A rank alone has nobody who would notice, and schedules are
///         compared before the first step only.
Result<InjectedFault> parse_fault(std::string_view text, int ranks, int steps);

/// A communicator that can shorten what a rank sends.
class FaultyCommunicator final : public exec::Communicator {
 public:
  explicit FaultyCommunicator(exec::Communicator& real) : real_(real) {}
  /// The next send, or part of a collective of several ranks, is short.
  void shorten_next() { shortens_ = true; }

  exec::RankId rank() const override { return real_.rank(); }
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
                       std::span<std::byte> bytes, Time& time) override {
    return real_.receive(from, tag, bytes, time);
  }
  Result<bool> try_receive(exec::RankId from, exec::Tag tag,
                           std::span<std::byte> bytes, Time& time) override {
    return real_.try_receive(from, tag, bytes, time);
  }
  void expose(exec::Tag name, std::span<const std::byte> memory) override {
    real_.expose(name, memory);
  }
  void withdraw(exec::Tag name) override { real_.withdraw(name); }
  Result<void> fetch(exec::RankId from, exec::Tag name,
                     std::span<const exec::Strip> strips,
                     std::span<std::byte> to) override {
    return real_.fetch(from, name, strips, to);
  }
  Result<void> meet(std::span<const exec::RankId> group, Time& time) override {
    return real_.meet(group, time);
  }
  Result<void> sleep_until(std::chrono::steady_clock::time_point at) override {
    return real_.sleep_until(at);
  }

 private:
  /// Bytes of `size` to take off now.
  std::size_t taken(std::size_t ranks, std::size_t size);

  exec::Communicator& real_;
  bool shortens_ = false;
};

}  // namespace troupe::emu
