#include "kernels/nccl.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/dynamic_library.h"

namespace troupe::kernels::nccl {
namespace {

// What nccl.h says of its ABI, which has not changed since 2.10 (bf16);
// tests/kernels/nccl_abi_test.cpp compares where the header is installed.
using Code = int;
constexpr Code kSuccess = 0, kInProgress = 7;
constexpr int kUint8 = 1, kBfloat16 = 9, kSum = 0;
constexpr std::size_t kElement = 2;

}  // namespace

struct Library::Table {
  void* library = nullptr;
  Code (*version)(int*) = nullptr;
  const char* (*error)(Code) = nullptr;
  Code (*create_all)(void**, int, const int*) = nullptr;
  Code (*destroy)(void*) = nullptr;
  Code (*abort)(void*) = nullptr;
  Code (*async_error)(void*, Code*) = nullptr;
  Code (*group_start)() = nullptr;
  Code (*group_end)() = nullptr;
  Code (*all_reduce)(const void*, void*, std::size_t, int, int, void*,
                     void*) = nullptr;
  Code (*all_gather)(const void*, void*, std::size_t, int, void*,
                     void*) = nullptr;
  Code (*reduce_scatter)(const void*, void*, std::size_t, int, int, void*,
                         void*) = nullptr;
  Code (*broadcast)(const void*, void*, std::size_t, int, int, void*,
                    void*) = nullptr;
  Code (*send)(const void*, std::size_t, int, int, void*, void*) = nullptr;
  Code (*receive)(void*, std::size_t, int, int, void*, void*) = nullptr;

  template <typename F>
  bool find(F& function, const char* name) const {
    function = reinterpret_cast<F>(dlsym(library, name));
    return function != nullptr;
  }
  /// The name of a function that is missing; null when none is.
  const char* find_all() {
    if (!find(version, "ncclGetVersion")) return "ncclGetVersion";
    if (!find(error, "ncclGetErrorString")) return "ncclGetErrorString";
    if (!find(create_all, "ncclCommInitAll")) return "ncclCommInitAll";
    if (!find(destroy, "ncclCommDestroy")) return "ncclCommDestroy";
    if (!find(abort, "ncclCommAbort")) return "ncclCommAbort";
    if (!find(async_error, "ncclCommGetAsyncError")) {
      return "ncclCommGetAsyncError";
    }
    if (!find(group_start, "ncclGroupStart")) return "ncclGroupStart";
    if (!find(group_end, "ncclGroupEnd")) return "ncclGroupEnd";
    if (!find(all_reduce, "ncclAllReduce")) return "ncclAllReduce";
    if (!find(all_gather, "ncclAllGather")) return "ncclAllGather";
    if (!find(reduce_scatter, "ncclReduceScatter")) return "ncclReduceScatter";
    if (!find(broadcast, "ncclBroadcast")) return "ncclBroadcast";
    if (!find(send, "ncclSend")) return "ncclSend";
    if (!find(receive, "ncclRecv")) return "ncclRecv";
    return nullptr;
  }
  Result<void> checked(Code code, const char* what) const {
    if (code == kSuccess) return {};
    const char* said = error(code);
    return fail(Fault::io, std::string("NCCL: ") + what + ": " +
                               (said != nullptr ? said : "unknown error"));
  }
};

Library::Library() : table_(std::make_unique<Table>()) {}
Library::~Library() = default;

Result<std::shared_ptr<const Library>> Library::open(const std::string& path) {
  std::shared_ptr<Library> made(new Library());
  Table& table = *made->table_;
  std::vector<std::string> places{path};
  if (path.empty()) {
    places = {"libnccl.so.2", "libnccl.so",
              "/usr/local/cuda/lib64/libnccl.so.2"};
  }
  TRY(table.library, open_library("NCCL", places));
  if (const char* missing = table.find_all()) {
    return fail(Fault::unavailable,
                std::string("NCCL lacks ") + missing + "; 2.10 is needed");
  }
  int version = 0;
  TRY_DO(table.checked(table.version(&version), "asking for its version"));
  made->version_ = std::to_string(version / 10000) + "." +
                   std::to_string(version / 100 % 100) + "." +
                   std::to_string(version % 100);
  return std::shared_ptr<const Library>(std::move(made));
}

Group::Group(std::shared_ptr<const Library> library, std::vector<void*> made)
    : library_(std::move(library)), communicators_(std::move(made)) {}
Group::Group(Group&& other) noexcept
    : library_(std::move(other.library_)),
      communicators_(std::exchange(other.communicators_, {})) {}
Group& Group::operator=(Group&& other) noexcept {
  std::swap(library_, other.library_);
  std::swap(communicators_, other.communicators_);
  return *this;
}

Group::~Group() {
  // Nothing can be done about a failure here.
  for (void* one : communicators_) (void)library_->table().destroy(one);
}

void Group::abort() {
  for (void* one : communicators_) (void)library_->table().abort(one);
  communicators_.clear();
}

Result<Group> Group::create(std::shared_ptr<const Library> library,
                            const std::vector<int>& ordinals) {
  std::vector<void*> made(ordinals.size(), nullptr);
  TRY_DO(library->table().checked(
      library->table().create_all(
          made.data(), static_cast<int>(ordinals.size()), ordinals.data()),
      "joining GPUs"));
  return Group(std::move(library), std::move(made));
}

Result<void> Group::healthy() const {
  for (void* one : communicators_) {
    Code code = kSuccess;
    TRY_DO(library_->table().checked(library_->table().async_error(one, &code),
                                     "asking for errors"));
    if (code != kInProgress) {
      TRY_DO(library_->table().checked(code, "while communicating"));
    }
  }
  return {};
}

namespace {

/// What one rank adds to a group call.
struct Part {
  const Library::Table& table;
  Operation operation;
  std::size_t bytes;
  int rank, ranks;
  const Rank& at;
  void* communicator;

  std::size_t share() const { return bytes / static_cast<std::size_t>(ranks); }

  Code all_to_all() const {
    for (int peer = 0; peer < ranks; ++peer) {
      const std::size_t offset = share() * static_cast<std::size_t>(peer);
      Code code = table.send(static_cast<const std::byte*>(at.in) + offset,
                             share(), kUint8, peer, communicator, at.stream);
      if (code != kSuccess) return code;
      code = table.receive(static_cast<std::byte*>(at.out) + offset, share(),
                           kUint8, peer, communicator, at.stream);
      if (code != kSuccess) return code;
    }
    return kSuccess;
  }

  Code shift() const {
    const Code code = table.send(at.in, bytes, kUint8, (rank + 1) % ranks,
                                 communicator, at.stream);
    if (code != kSuccess) return code;
    return table.receive(at.out, bytes, kUint8, (rank + ranks - 1) % ranks,
                         communicator, at.stream);
  }

  Code start() const {
    const std::size_t all = bytes / kElement, mine = share() / kElement;
    switch (operation) {
      case Operation::all_reduce:
        return table.all_reduce(at.in, at.out, all, kBfloat16, kSum,
                                communicator, at.stream);
      case Operation::all_gather:
        return table.all_gather(at.in, at.out, mine, kBfloat16, communicator,
                                at.stream);
      case Operation::reduce_scatter:
        return table.reduce_scatter(at.in, at.out, mine, kBfloat16, kSum,
                                    communicator, at.stream);
      case Operation::all_to_all:
        return all_to_all();
      case Operation::broadcast:
        return table.broadcast(at.in, at.out, all, kBfloat16, 0, communicator,
                               at.stream);
      case Operation::ring_shift:
        return shift();
      case Operation::send_receive:
        return rank == 0 ? table.send(at.in, bytes, kUint8, 1, communicator,
                                      at.stream)
                         : table.receive(at.out, bytes, kUint8, 0, communicator,
                                         at.stream);
    }
    return kSuccess;
  }
};

}  // namespace

Result<void> Group::start(Operation operation, Bytes bytes,
                          std::span<const Rank> at) const {
  check(at.size() == communicators_.size(), "one memory for every rank");
  const std::int64_t whole =
      static_cast<std::int64_t>(kElement) * std::max(ranks(), 1);
  if (bytes.v < 0 || bytes.v % whole != 0) {
    return fail(Fault::input, std::to_string(bytes.v) + " bytes among " +
                                  std::to_string(ranks()) +
                                  " ranks: expected a multiple of " +
                                  std::to_string(whole));
  }
  if (operation == Operation::send_receive && ranks() != 2) {
    return fail(Fault::input, "a message is between two ranks, not " +
                                  std::to_string(ranks()));
  }
  const Library::Table& table = library_->table();
  TRY_DO(table.checked(table.group_start(), "beginning a group"));
  Code first = kSuccess;
  for (int r = 0; r < ranks(); ++r) {
    const auto i = static_cast<std::size_t>(r);
    const Part part{
        table, operation,        static_cast<std::size_t>(bytes.v), r, ranks(),
        at[i], communicators_[i]};
    if (first == kSuccess) first = part.start();
  }
  // A group that was begun has to be ended, whatever happened in it.
  const Code end = table.group_end();
  TRY_DO(table.checked(first, "starting an operation"));
  return table.checked(end, "starting a group");
}

}  // namespace troupe::kernels::nccl
