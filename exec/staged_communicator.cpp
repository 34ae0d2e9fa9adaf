#include "exec/staged_communicator.h"

#include <utility>

namespace troupe::exec {

Result<void> StagedCommunicator::check_exposures() const {
  return failed_ ? fail(*failed_) : Result<void>();
}

Result<std::vector<std::byte>> StagedCommunicator::from_device(
    std::span<const std::byte> bytes) {
  TRY_DO(check_exposures());
  std::vector<std::byte> out(bytes.size());
  TRY_DO(device_.copy_out(out, bytes.data()));
  return out;
}

Result<void> StagedCommunicator::all_gather(std::span<const RankId> group,
                                            std::span<const std::byte> mine,
                                            std::span<const Bytes> sizes,
                                            std::span<std::byte> all,
                                            Time& time) {
  TRY(const std::vector<std::byte> own, from_device(mine));
  std::vector<std::byte> gathered(all.size());
  TRY_DO(host_.all_gather(group, own, sizes, gathered, time));
  return device_.copy_in(all.data(), gathered);
}

Result<void> StagedCommunicator::all_reduce(std::span<const RankId> group,
                                            kernels::DType dtype,
                                            std::span<std::byte> numbers,
                                            Time& time) {
  TRY(std::vector<std::byte> own, from_device(numbers));
  TRY_DO(host_.all_reduce(group, dtype, own, time));
  return device_.copy_in(numbers.data(), own);
}

Result<void> StagedCommunicator::send(RankId to, Tag tag,
                                      std::span<const std::byte> bytes,
                                      Time time) {
  TRY(const std::vector<std::byte> own, from_device(bytes));
  return host_.send(to, tag, own, time);
}

Result<void> StagedCommunicator::receive(RankId from, Tag tag,
                                         std::span<std::byte> bytes,
                                         Time& time) {
  std::vector<std::byte> got(bytes.size());
  TRY_DO(host_.receive(from, tag, got, time));
  return device_.copy_in(bytes.data(), got);
}

Result<bool> StagedCommunicator::try_receive(RankId from, Tag tag,
                                             std::span<std::byte> bytes,
                                             Time& time) {
  std::vector<std::byte> got(bytes.size());
  TRY(const bool there, host_.try_receive(from, tag, got, time));
  if (!there) return false;
  TRY_DO(device_.copy_in(bytes.data(), got));
  return true;
}

void StagedCommunicator::expose(Tag name, std::span<const std::byte> memory) {
  auto copy = from_device(memory);
  if (!copy) {
    failed_ = copy.error();
    return;
  }
  std::vector<std::byte>& shown = shown_[name] = std::move(*copy);
  host_.expose(name, shown);
}

void StagedCommunicator::withdraw(Tag name) {
  host_.withdraw(name);
  shown_.erase(name);
}

Result<void> StagedCommunicator::fetch(RankId from, Tag name,
                                       std::span<const Strip> strips,
                                       std::span<std::byte> to) {
  TRY_DO(check_exposures());
  std::vector<std::byte> got(to.size());
  TRY_DO(host_.fetch(from, name, strips, got));
  return device_.copy_in(to.data(), got);
}

Result<void> StagedCommunicator::meet(std::span<const RankId> group,
                                      Time& time) {
  TRY_DO(check_exposures());
  return host_.meet(group, time);
}

}  // namespace troupe::exec
