// A communicator of device memory over one of host memory: every message is
// staged in the host. It is for devices whose ranks have no faster way: several
// ranks on one GPU, or GPUs that only the host connects.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "exec/communicator.h"
#include "exec/device.h"

namespace troupe::exec {

/// Requires: `host` and `device` outlive it; memory that is exposed does not
///           change until it is withdrawn (a copy of it is shown).
class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(Communicator& host, Device& device)
      : host_(host), device_(device) {}

  RankId rank() const override { return host_.rank(); }
  Result<void> all_gather(std::span<const RankId> group,
                          std::span<const std::byte> mine,
                          std::span<const Bytes> sizes,
                          std::span<std::byte> all, Time& time) override;
  Result<void> all_reduce(std::span<const RankId> group, kernels::DType dtype,
                          std::span<std::byte> numbers, Time& time) override;
  Result<void> send(RankId to, Tag tag, std::span<const std::byte> bytes,
                    Time time) override;
  Result<void> receive(RankId from, Tag tag, std::span<std::byte> bytes,
                       Time& time) override;
  Result<bool> try_receive(RankId from, Tag tag, std::span<std::byte> bytes,
                           Time& time) override;
  void expose(Tag name, std::span<const std::byte> memory) override;
  void withdraw(Tag name) override;
  Result<void> fetch(RankId from, Tag name, std::span<const Strip> strips,
                     std::span<std::byte> to) override;
  Result<void> meet(std::span<const RankId> group, Time& time) override;
  Result<void> sleep_until(std::chrono::steady_clock::time_point at) override {
    return host_.sleep_until(at);
  }

 private:
  /// Errors: of an exposure, which has no answer of its own.
  Result<void> check_exposures() const;
  Result<std::vector<std::byte>> from_device(std::span<const std::byte> bytes);

  Communicator& host_;
  Device& device_;
  std::map<Tag, std::vector<std::byte>> shown_;
  std::optional<Error> failed_;
};

}  // namespace troupe::exec
