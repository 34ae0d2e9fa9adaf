#include "emu/mpi_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "emu/sum.h"

namespace troupe::emu {
namespace {

using exec::RankId;
using exec::Tag;

constexpr int kMessageTag = 1, kRequestTag = 2, kAnswerTag = 3;
constexpr std::int64_t kProgram = 0, kGroups = 1;  // channels
/// Up to so many bytes of all members an all-reduce is one exchange of
/// everything, above two of shares. The sums are the same; only speed differs.
constexpr std::int64_t kSmall = 256 << 10;
/// Tags that every MPI allows.
constexpr std::uint64_t kTags = 32767;

/// FNV-1a (Fowler, Noll, Vo), the same in every process.
std::uint64_t hash_of(std::span<const RankId> ranks) {
  std::uint64_t hash = 14695981039346656037U;
  for (const RankId r : ranks) {
    hash = (hash ^ static_cast<std::uint64_t>(r.v)) * 1099511628211U;
  }
  return hash;
}

std::vector<int> starts_of(const std::vector<int>& counts) {
  std::vector<int> starts(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), starts.begin(), 0);
  return starts;
}

}  // namespace

MpiCommunicator::MpiCommunicator(MpiWatch& watch) : watch_(watch) {
  const Guard guard(watch.patience(), "the start of MPI");
  MPI_Comm_dup(MPI_COMM_WORLD, &messages_);
  MPI_Comm_set_errhandler(messages_, MPI_ERRORS_RETURN);
  MPI_Comm_dup(MPI_COMM_WORLD, &reads_);
  MPI_Comm_set_errhandler(reads_, MPI_ERRORS_RETURN);
}

MpiCommunicator::~MpiCommunicator() {
  const Guard guard(watch_.patience(), "the end of MPI");
  for (auto& [ranks, group] : groups_) MPI_Comm_free(&group.comm);
  MPI_Comm_free(&messages_);
  MPI_Comm_free(&reads_);
}

void MpiCommunicator::succeed(int code) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  watch_.give_up(
      fmt::format("rank {}: MPI says: {}", watch_.rank(),
                  std::string_view(text, static_cast<std::size_t>(length))));
}

int MpiCommunicator::count_of(std::size_t bytes) {
  if (bytes > std::numeric_limits<int>::max()) {
    watch_.give_up(fmt::format(
        "rank {} sends {} bytes at once, more than MPI counts (2 GiB)",
        watch_.rank(), bytes));
  }
  return static_cast<int>(bytes);
}

void MpiCommunicator::wait(MPI_Request request, const Group& group,
                           std::string_view what) {
  const Need need{{}, group.ranks, group.hash + group.meetings, what};
  watch_.wait(need, [&] {
    serve();
    int done = 0;
    succeed(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    return done != 0;
  });
}

MpiCommunicator::Group& MpiCommunicator::group_of(
    std::span<const RankId> ranks) {
  const std::vector<RankId> key(ranks.begin(), ranks.end());
  Group& group = groups_[key];
  if (group.comm == MPI_COMM_NULL) {
    group.ranks = key;
    group.hash = hash_of(ranks);
    make(group);
  }
  ++group.meetings;
  return group;
}

/// MPI makes a communicator only in one call that waits. So all members have
/// come here before anyone makes that call.
void MpiCommunicator::make(Group& group) {
  std::vector<int> members;
  for (const RankId r : group.ranks) {
    members.push_back(r.v);
    if (r != rank()) post(r, {group.hash, 0, kGroups}, {});
  }
  for (const RankId r : group.ranks) {
    if (r != rank()) take(r, kGroups, group.hash, "the first word");
  }
  const auto self = std::ranges::find(group.ranks, rank());
  check(self != group.ranks.end(), "a rank in a collective of others");
  group.self = static_cast<std::size_t>(self - group.ranks.begin());
  const Guard guard(watch_.patience(), "making a group of ranks");
  MPI_Group world = MPI_GROUP_NULL;
  MPI_Group made = MPI_GROUP_NULL;
  succeed(MPI_Comm_group(messages_, &world));
  succeed(
      MPI_Group_incl(world, count_of(members.size()), members.data(), &made));
  succeed(MPI_Comm_create_group(
      messages_, made, static_cast<int>(group.hash % kTags), &group.comm));
  MPI_Group_free(&made);
  MPI_Group_free(&world);
  MPI_Comm_set_errhandler(group.comm, MPI_ERRORS_RETURN);
}

void MpiCommunicator::open(Group& group, const Intent& intent,
                           std::span<const Bytes> sizes, Time& time) {
  release();
  const Opening mine{intent, time.v};
  std::vector<Opening> all(group.ranks.size());
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Iallgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine,
                         MPI_BYTE, group.comm, &request));
  wait(request, group, name_of(intent.operation));
  std::vector<Intent> intents;
  for (const Opening& o : all) {
    intents.push_back(o.intent);
    time = std::max(time, Time{o.time});
  }
  const std::string problem = mismatch(group.ranks, intents, sizes);
  if (!problem.empty()) watch_.give_up(problem);
}

Result<void> MpiCommunicator::all_gather(std::span<const RankId> ranks,
                                         std::span<const std::byte> mine,
                                         std::span<const Bytes> sizes,
                                         std::span<std::byte> all, Time& time) {
  if (ranks.size() == 1) {
    std::ranges::copy(mine, all.begin());
    return {};
  }
  Group& group = group_of(ranks);
  open(group, {Operation::all_gather, {}, std::ssize(mine), std::ssize(all)},
       sizes, time);
  count_of(all.size());
  std::vector<int> counts;
  for (const Bytes b : sizes) counts.push_back(static_cast<int>(b.v));
  const std::vector<int> starts = starts_of(counts);
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Iallgatherv(mine.data(), counts[group.self], MPI_BYTE, all.data(),
                          counts.data(), starts.data(), MPI_BYTE, group.comm,
                          &request));
  wait(request, group, name_of(Operation::all_gather));
  return {};
}

/// Everyone gets all numbers and adds them up.
void MpiCommunicator::add_all(const Group& group, kernels::DType dtype,
                              std::span<std::byte> numbers) {
  const std::size_t size = numbers.size();
  std::vector<std::byte> all(size * group.ranks.size());
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Iallgather(numbers.data(), static_cast<int>(size), MPI_BYTE,
                         all.data(), static_cast<int>(size), MPI_BYTE,
                         group.comm, &request));
  wait(request, group, name_of(Operation::all_reduce));
  std::ranges::copy(std::span(all).first(size), numbers.begin());
  for (std::size_t at = size; at < all.size(); at += size) {
    add_into(dtype, numbers, std::span(all).subspan(at, size));
  }
}

/// The sum of this member's share of the numbers.
std::vector<std::byte> MpiCommunicator::summed(
    const Group& group, kernels::DType dtype,
    std::span<const std::byte> numbers, const std::vector<int>& counts,
    const std::vector<int>& starts) {
  const std::size_t members = group.ranks.size();
  const std::vector<int> shares(members, counts[group.self]);
  const std::vector<int> share_starts = starts_of(shares);
  const auto share = static_cast<std::size_t>(counts[group.self]);
  std::vector<std::byte> parts(share * members);
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Ialltoallv(numbers.data(), counts.data(), starts.data(), MPI_BYTE,
                         parts.data(), shares.data(), share_starts.data(),
                         MPI_BYTE, group.comm, &request));
  wait(request, group, name_of(Operation::all_reduce));
  const std::span sum = std::span(parts).first(share);
  for (std::size_t i = 1; i < members; ++i) {
    add_into(dtype, sum, std::span(parts).subspan(i * share, share));
  }
  parts.resize(share);
  return parts;
}

Result<void> MpiCommunicator::all_reduce(std::span<const RankId> ranks,
                                         kernels::DType dtype,
                                         std::span<std::byte> numbers,
                                         Time& time) {
  if (ranks.size() == 1) return {};
  Group& group = group_of(ranks);
  const std::int64_t size = std::ssize(numbers);
  open(group, {Operation::all_reduce, dtype, size, size}, {}, time);
  count_of(numbers.size() * 2);
  const std::int64_t members = std::ssize(ranks);
  if (size == 0) return {};
  if (size * members <= kSmall) {
    add_all(group, dtype, numbers);
    return {};
  }
  const std::int64_t one = kernels::size_of(dtype).v;
  const std::int64_t count = size / one;
  std::vector<int> counts;
  for (std::int64_t i = 0; i < members; ++i) {
    counts.push_back(static_cast<int>(
        one * (count * (i + 1) / members - count * i / members)));
  }
  const std::vector<int> starts = starts_of(counts);
  const auto sum = summed(group, dtype, numbers, counts, starts);
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Iallgatherv(sum.data(), counts[group.self], MPI_BYTE,
                          numbers.data(), counts.data(), starts.data(),
                          MPI_BYTE, group.comm, &request));
  wait(request, group, name_of(Operation::all_reduce));
  return {};
}

Result<void> MpiCommunicator::meet(std::span<const RankId> ranks, Time& time) {
  if (ranks.size() < 2) return {};
  open(group_of(ranks), {}, {}, time);
  return {};
}

void MpiCommunicator::release() {
  serve();
  while (!sent_.empty()) {
    int done = 0;
    succeed(MPI_Test(&sent_.front().request, &done, MPI_STATUS_IGNORE));
    if (done == 0) return;
    sent_.pop_front();
  }
}

void MpiCommunicator::post(RankId to, Head head,
                           std::span<const std::byte> bytes) {
  release();
  Sent& s = sent_.emplace_back();
  s.bytes.resize(sizeof head + bytes.size());
  std::memcpy(s.bytes.data(), &head, sizeof head);
  std::ranges::copy(bytes, s.bytes.begin() + sizeof head);
  succeed(MPI_Isend(s.bytes.data(), count_of(s.bytes.size()), MPI_BYTE, to.v,
                    kMessageTag, messages_, &s.request));
}

std::vector<std::byte> MpiCommunicator::received(MPI_Message& message,
                                                 const MPI_Status& status,
                                                 std::string_view what) {
  int size = 0;
  succeed(MPI_Get_count(&status, MPI_BYTE, &size));
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Imrecv(bytes.data(), size, MPI_BYTE, &message, &request));
  watch_.wait({RankId{status.MPI_SOURCE}, {}, 0, what}, [&] {
    int done = 0;
    succeed(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    return done != 0;
  });
  return bytes;
}

void MpiCommunicator::take_in(RankId from) {
  for (;;) {
    int there = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    succeed(
        MPI_Improbe(from.v, kMessageTag, messages_, &there, &message, &status));
    if (there == 0) return;
    Letter letter;
    letter.bytes = received(message, status, "the rest of a message");
    Head head;
    std::memcpy(&head, letter.bytes.data(), sizeof head);
    letter.time = head.time;
    letters_[{from.v, {head.channel, head.tag}}].push_back(std::move(letter));
  }
}

MpiCommunicator::Letter MpiCommunicator::take(RankId from, std::int64_t channel,
                                              Tag tag, std::string_view what) {
  const Key key{from.v, {channel, tag}};
  watch_.wait({from, {}, 0, what}, [&] {
    serve();
    if (letters_.contains(key)) return true;
    take_in(from);
    return letters_.contains(key);
  });
  return arrived(key);
}

MpiCommunicator::Letter MpiCommunicator::arrived(const Key& key) {
  const auto it = letters_.find(key);
  Letter letter = std::move(it->second.front());
  it->second.pop_front();
  if (it->second.empty()) letters_.erase(it);
  return letter;
}

Result<void> MpiCommunicator::send(RankId to, Tag tag,
                                   std::span<const std::byte> bytes,
                                   Time time) {
  post(to, {tag, time.v, kProgram}, bytes);
  return {};
}

Result<void> MpiCommunicator::receive(RankId from, Tag tag,
                                      std::span<std::byte> bytes, Time& time) {
  release();
  const Letter letter = take(from, kProgram, tag, "a message");
  const auto content = std::span(letter.bytes).subspan(sizeof(Head));
  if (content.size() != bytes.size()) {
    watch_.give_up(wrong_size(from, content.size(), rank(), bytes.size()));
  }
  std::ranges::copy(content, bytes.begin());
  time = Time{letter.time};
  return {};
}

Result<bool> MpiCommunicator::try_receive(RankId from, Tag tag,
                                          std::span<std::byte> bytes,
                                          Time& time) {
  const Key key{from.v, {kProgram, tag}};
  if (!letters_.contains(key)) take_in(from);
  if (!letters_.contains(key)) return false;
  TRY_DO(receive(from, tag, bytes, time));
  return true;
}

void MpiCommunicator::expose(Tag name, std::span<const std::byte> memory) {
  exposed_[name] = memory;
}

void MpiCommunicator::withdraw(Tag name) { exposed_.erase(name); }

void MpiCommunicator::serve() {
  while (!exposed_.empty()) {
    int there = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    succeed(MPI_Improbe(MPI_ANY_SOURCE, kRequestTag, reads_, &there, &message,
                        &status));
    if (there == 0) return;
    const auto request = received(message, status, "the rest of a request");
    const RankId reader{status.MPI_SOURCE};
    Tag name = 0;
    std::memcpy(&name, request.data(), sizeof name);
    std::vector<exec::Strip> strips((request.size() - sizeof name) /
                                    sizeof(exec::Strip));
    std::memcpy(strips.data(), request.data() + sizeof name,
                strips.size() * sizeof(exec::Strip));
    const auto it = exposed_.find(name);
    if (it == exposed_.end()) watch_.give_up(nothing_exposed(rank(), reader));
    std::int64_t size = 0;
    for (const exec::Strip& s : strips) size += s.row * s.rows;
    Sent& s = sent_.emplace_back();
    s.bytes.resize(static_cast<std::size_t>(size));
    const std::string problem = copy_strips(it->second, strips, s.bytes);
    if (!problem.empty()) watch_.give_up(problem);
    succeed(MPI_Isend(s.bytes.data(), count_of(s.bytes.size()), MPI_BYTE,
                      reader.v, kAnswerTag, reads_, &s.request));
  }
}

Result<void> MpiCommunicator::fetch(RankId from, Tag name,
                                    std::span<const exec::Strip> strips,
                                    std::span<std::byte> to) {
  release();
  if (from == rank()) {
    const std::string problem = copy_strips(exposed_[name], strips, to);
    if (!problem.empty()) watch_.give_up(problem);
    return {};
  }
  Sent& s = sent_.emplace_back();
  const auto list = std::as_bytes(strips);
  s.bytes.resize(sizeof name + list.size());
  std::memcpy(s.bytes.data(), &name, sizeof name);
  std::ranges::copy(list, s.bytes.begin() + sizeof name);
  succeed(MPI_Isend(s.bytes.data(), count_of(s.bytes.size()), MPI_BYTE, from.v,
                    kRequestTag, reads_, &s.request));
  MPI_Request answer = MPI_REQUEST_NULL;
  succeed(MPI_Irecv(to.data(), count_of(to.size()), MPI_BYTE, from.v,
                    kAnswerTag, reads_, &answer));
  watch_.wait({from, {}, 0, "weights"}, [&] {
    serve();
    int done = 0;
    succeed(MPI_Test(&answer, &done, MPI_STATUS_IGNORE));
    return done != 0;
  });
  return {};
}

void MpiCommunicator::finish() {
  Group all;
  all.ranks = exec::everyone(static_cast<std::size_t>(watch_.ranks()));
  all.hash = 1;
  MPI_Request request = MPI_REQUEST_NULL;
  succeed(MPI_Ibarrier(messages_, &request));
  wait(request, all, "the end");
  watch_.wait({{}, all.ranks, 2, "the end"}, [&] {
    release();
    return sent_.empty();
  });
}

}  // namespace troupe::emu
