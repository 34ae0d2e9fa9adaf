// GPUs of one machine: peer copies and NCCL, by one thread.
#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "kernels/cuda.h"
#include "kernels/nccl.h"
#include "measure/links.h"

namespace troupe::measure {
namespace {

namespace cuda = kernels::cuda;
namespace nccl = kernels::nccl;
using clusters::Collective;

// Longer than any measurement takes; what has not ended then never will.
constexpr std::chrono::seconds kPatience{20};
// Buffers take at most this share of a GPU's free memory, in and out.
constexpr std::int64_t kMemoryShare = 8;

nccl::Operation operation_of(Collective collective) {
  switch (collective) {
    case Collective::all_reduce:
      return nccl::Operation::all_reduce;
    case Collective::all_gather:
      return nccl::Operation::all_gather;
    case Collective::reduce_scatter:
      return nccl::Operation::reduce_scatter;
    case Collective::all_to_all:
      return nccl::Operation::all_to_all;
    case Collective::broadcast:
      return nccl::Operation::broadcast;
    case Collective::send_receive:
      return nccl::Operation::send_receive;
    case Collective::ring_shift:
      return nccl::Operation::ring_shift;
  }
  return nccl::Operation::all_reduce;
}

/// One GPU with what is timed on it.
struct Member {
  int ordinal = 0;
  cuda::Context context;
  cuda::Event from, to;
  cuda::Buffer in = {}, out = {};
};

class CudaLinks final : public LinkMachine {
 public:
  CudaLinks(std::vector<Member> members, Bytes largest,
            Result<std::shared_ptr<const nccl::Library>> library)
      : members_(std::move(members)),
        largest_(largest),
        library_(std::move(library)) {}

  int devices() const override { return static_cast<int>(members_.size()); }

  Result<Route> path(int from, int to) override {
    TRY(const cuda::PeerPath path,
        cuda::peer_path(at(from).ordinal, at(to).ordinal));
    switch (path) {
      case cuda::PeerPath::nvlink:
        return Route::peer_nvlink;
      case cuda::PeerPath::pcie:
        return Route::peer_pcie;
      case cuda::PeerPath::host:
        return Route::peer_host;
    }
    return Route::peer_host;
  }

  std::string no_collectives() const override {
    return library_ ? "" : library_.error().message;
  }
  std::string libraries() const override {
    return library_ ? "NCCL " + (*library_)->version() : "";
  }
  Bytes largest() const override { return largest_; }
  void release() override {
    for (Member& m : members_) {
      m.in = cuda::Buffer();
      m.out = cuda::Buffer();
    }
  }

  Result<double> time_peer(int from, int to, Bytes bytes, int runs) override {
    Member& source = at(from);
    TRY_DO(prepare(from, bytes));
    TRY_DO(prepare(to, bytes));
    TRY_DO(source.context.reach(at(to).ordinal));
    TRY_DO(source.context.record(source.from));
    for (int i = 0; i < runs; ++i) {
      TRY_DO(source.context.copy(at(to).out.data(), source.in.data(), bytes));
    }
    TRY_DO(source.context.record(source.to));
    TRY_DO(ended(source));
    TRY(const double seconds, source.context.elapsed(source.from, source.to));
    return seconds / runs;
  }

  Result<double> time_collective(Collective collective,
                                 std::span<const int> devices, Bytes bytes,
                                 int runs) override {
    const std::vector<int> who(devices.begin(), devices.end());
    TRY(nccl::Group * group, group_of(who));
    const auto seconds =
        on(*group, operation_of(collective), devices, bytes, runs);
    if (seconds) return seconds;
    // Nobody knows what state the group is in.
    group->abort();
    groups_.erase(who);
    return seconds;
  }

 private:
  Member& at(int device) { return members_[static_cast<std::size_t>(device)]; }

  Result<void> prepare(int device, Bytes bytes) {
    Member& m = at(device);
    if (m.in.size() >= bytes) return {};
    m.in = cuda::Buffer();
    m.out = cuda::Buffer();
    TRY(m.in, m.context.allocate(bytes));
    TRY(m.out, m.context.allocate(bytes));
    TRY_DO(m.context.fill(m.in.data(), 0, bytes));
    return m.context.synchronize();
  }

  /// Joined when first asked for: joining takes about a second.
  Result<nccl::Group*> group_of(const std::vector<int>& devices) {
    const auto known = groups_.find(devices);
    if (known != groups_.end()) return &known->second;
    if (!library_) return fail(library_.error());
    std::vector<int> ordinals;
    for (const int d : devices) ordinals.push_back(at(d).ordinal);
    TRY(nccl::Group group, nccl::Group::create(*library_, ordinals));
    return &groups_.emplace(devices, std::move(group)).first->second;
  }

  Result<void> ended(Member& m) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      TRY(const bool reached, m.context.reached(m.to));
      if (reached) return {};
      if (std::chrono::steady_clock::now() > until) {
        return fail(Fault::io, fmt::format("GPU {} did not finish within {} s",
                                           m.ordinal, kPatience.count()));
      }
      std::this_thread::yield();
    }
  }

  /// The slowest member's time.
  Result<double> on(const nccl::Group& group, nccl::Operation operation,
                    std::span<const int> devices, Bytes bytes, int runs) {
    std::vector<nccl::Rank> ranks;
    for (const int d : devices) {
      TRY_DO(prepare(d, bytes));
      ranks.push_back(
          {at(d).in.data(), at(d).out.data(), at(d).context.stream()});
    }
    for (const int d : devices) {
      TRY_DO(at(d).context.record(at(d).from));
    }
    for (int i = 0; i < runs; ++i) {
      TRY_DO(group.start(operation, bytes, ranks));
    }
    for (const int d : devices) {
      TRY_DO(at(d).context.record(at(d).to));
    }
    double slowest = 0;
    for (const int d : devices) {
      TRY_DO(ended(at(d)));
      TRY(const double t, at(d).context.elapsed(at(d).from, at(d).to));
      slowest = std::max(slowest, t);
    }
    TRY_DO(group.healthy());
    return slowest / runs;
  }

  std::vector<Member> members_;
  Bytes largest_;
  Result<std::shared_ptr<const nccl::Library>> library_;
  std::map<std::vector<int>, nccl::Group> groups_;
};

Result<Member> member_of(int ordinal) {
  TRY(cuda::Context context, cuda::Context::create(ordinal));
  TRY(cuda::Event from, context.event());
  TRY(cuda::Event to, context.event());
  return Member{ordinal, std::move(context), std::move(from), std::move(to)};
}

}  // namespace

Result<std::unique_ptr<LinkMachine>> open_links(std::string_view device) {
  if (device == "cpu") {
    return fail(Fault::unavailable, "a processor has no links to others");
  }
  TRY(const int first, ordinal_of(device));
  TRY(const cuda::DeviceInfo info, cuda::device_info(first));
  TRY(const int count, cuda::device_count());
  std::vector<Member> members;
  Bytes free = info.free_memory;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    TRY(const cuda::DeviceInfo other, cuda::device_info(ordinal));
    if (other.name != info.name) continue;
    free = std::min(free, other.free_memory);
    TRY(Member member, member_of(ordinal));
    members.push_back(std::move(member));
  }
  if (members.size() < 2) {
    return fail(Fault::unavailable,
                fmt::format("there is one {} in this machine", info.name));
  }
  return std::make_unique<CudaLinks>(
      std::move(members), Bytes{free.v / kMemoryShare}, nccl::Library::open());
}

}  // namespace troupe::measure
