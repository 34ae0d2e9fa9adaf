#include "emu/hub.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <boost/container/small_vector.hpp>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "data/mixed.h"
#include "emu/collective.h"
#include "emu/crew.h"
#include "emu/sum.h"
#include "emu/waits.h"

namespace troupe::emu {
namespace {

using exec::Tag;
using Group = std::vector<RankId>;

constexpr int kRanksPerThread = 16;

/// What one rank brings to a collective.
struct Entry {
  bool here = false;
  Operation kind = Operation::meet;
  kernels::DType dtype = kernels::DType::fp32;
  std::span<const std::byte> in;
  std::span<std::byte> out;
  std::span<const Bytes> sizes;  ///< of all members, for an all-gather
};

/// One collective in the making.
struct Meeting {
  std::vector<Entry> entries;
  std::size_t arrived = 0;
  std::size_t left = 0;
  Time latest;
  bool done = false;
};

/// Meetings of one group, by number.
struct GroupState {
  std::mutex mutex;
  std::map<std::uint64_t, Meeting> meetings;
};

struct Letter {
  std::vector<std::byte> bytes;
  Time time;
};

/// Sender and tag; a thousand ranks that share gradients have a million of
/// them at a time.
using LetterName = std::pair<std::int32_t, Tag>;
struct LetterHash {
  std::size_t operator()(const LetterName& name) const {
    return data::mixed(name.second +
                       data::mixed(static_cast<std::uint64_t>(name.first)));
  }
};
/// Letters of one name, in order; hardly ever more than one.
using Letters = boost::container::small_vector<Letter, 1>;
using LetterBox = std::unordered_map<LetterName, Letters, LetterHash>;

/// What others have sent to one rank, and what they may read of it.
struct Mailbox {
  std::mutex mutex;
  std::map<Tag, std::span<const std::byte>> exposed;
  LetterBox letters;
};

/// What is wrong when the members bring different things, or empty.
std::string problem_of(const Group& group, const Meeting& m) {
  std::vector<Intent> intents;
  for (const Entry& e : m.entries) {
    intents.push_back({e.kind, e.dtype, std::ssize(e.in), std::ssize(e.out)});
  }
  return mismatch(group, intents, m.entries[0].sizes);
}

void perform_all_gather(Meeting& m) {
  std::vector<std::byte> whole;
  for (const Entry& e : m.entries) {
    whole.insert(whole.end(), e.in.begin(), e.in.end());
  }
  for (const Entry& e : m.entries) {
    if (!whole.empty()) std::memcpy(e.out.data(), whole.data(), whole.size());
  }
}

void perform_all_reduce(Meeting& m) {
  const std::span<std::byte> sum = m.entries[0].out;
  for (std::size_t i = 1; i < m.entries.size(); ++i) {
    add_into(m.entries[0].dtype, sum, m.entries[i].out);
  }
  for (std::size_t i = 1; i < m.entries.size(); ++i) {
    if (!sum.empty()) {
      std::memcpy(m.entries[i].out.data(), sum.data(), sum.size());
    }
  }
}

}  // namespace

struct Hub::State {
  State(int n, const HubOptions& o)
      : ranks(n),
        options(o),
        // Ranks that wait for each other are quickest on one thread.
        crew(n, std::clamp(n / kRanksPerThread, 1, std::max(o.threads, 1))),
        boxes(static_cast<std::size_t>(n)) {}

  int ranks;
  HubOptions options;
  Crew crew;
  std::vector<Mailbox> boxes;
  std::mutex groups_mutex;
  std::map<Group, std::unique_ptr<GroupState>> groups;
  std::atomic<bool> failed{false};
  std::mutex failure_mutex;
  Error failure;
  std::mutex waits_mutex;

  GroupState& group(const Group& ranks_of_it) {
    const std::scoped_lock lock(groups_mutex);
    auto& found = groups[ranks_of_it];
    if (!found) found = std::make_unique<GroupState>();
    return *found;
  }

  Result<void> check_running() {
    if (!failed.load()) return {};
    const std::scoped_lock lock(failure_mutex);
    return fail(failure);
  }

  /// The first error becomes everyone's.
  tl::unexpected<Error> give_up(Error error) {
    {
      const std::scoped_lock lock(failure_mutex);
      if (!failed.load()) failure = std::move(error);
      failed = true;
    }
    for (int r = 0; r < ranks; ++r) crew.unpark(r);
    const std::scoped_lock lock(failure_mutex);
    return fail(failure);
  }

  /// Parks until `ready` says yes, which is asked with the lock held; gives
  /// up when the run has failed.
  template <typename Ready, typename Describe>
  Result<void> wait(RankId self, std::unique_lock<std::mutex>& lock,
                    Ready ready, Describe describe) {
    while (!ready()) {
      TRY_DO(check_running());
      if (looking.load()) {
        Wait wait = describe();
        const std::scoped_lock waits_lock(waits_mutex);
        waits.try_emplace(self.v, std::move(wait));
      }
      lock.unlock();
      crew.park();
      lock.lock();
    }
    return {};
  }

  /// Every rank waits: none will ever go on. The first call wakes all to say
  /// what they wait for, the second ends the run.
  void stuck() {
    if (!looking.exchange(true)) {
      for (int r = 0; r < ranks; ++r) crew.unpark(r);
      asked = true;
      return;
    }
    // Another thread is still waking them.
    if (!asked.load()) return std::this_thread::yield();
    std::string text;
    {
      const std::scoped_lock lock(waits_mutex);
      text = blame(waits);
    }
    static_cast<void>(give_up({Fault::unavailable, text}));
  }

  std::atomic<bool> looking{false}, asked{false};
  std::map<std::int32_t, Wait> waits;  ///< by rank, once all are looking
};

/// One rank's end of the hub.
class Hub::Member final : public exec::Communicator {
 public:
  Member(State& state, RankId self) : state_(state), self_(self) {}
  RankId rank() const override { return self_; }

  Result<void> all_gather(std::span<const RankId> group,
                          std::span<const std::byte> mine,
                          std::span<const Bytes> sizes,
                          std::span<std::byte> all, Time& time) override {
    return join(
        group,
        {true, Operation::all_gather, kernels::DType::fp32, mine, all, sizes},
        time);
  }
  Result<void> all_reduce(std::span<const RankId> group, kernels::DType dtype,
                          std::span<std::byte> numbers, Time& time) override {
    return join(group, {true, Operation::all_reduce, dtype, {}, numbers, {}},
                time);
  }
  Result<void> meet(std::span<const RankId> group, Time& time) override {
    if (group.size() < 2) return {};
    return join(
        group, {true, Operation::meet, kernels::DType::fp32, {}, {}, {}}, time);
  }

  Result<void> send(RankId to, Tag tag, std::span<const std::byte> bytes,
                    Time time) override {
    TRY_DO(state_.check_running());
    Mailbox& box = state_.boxes[to.at()];
    {
      const std::scoped_lock lock(box.mutex);
      box.letters[{self_.v, tag}].push_back(
          {{bytes.begin(), bytes.end()}, time});
    }
    state_.crew.unpark(to.v);
    return {};
  }

  Result<void> receive(RankId from, Tag tag, std::span<std::byte> bytes,
                       Time& time) override {
    Mailbox& box = state_.boxes[self_.at()];
    std::unique_lock lock(box.mutex);
    auto& queue = box.letters[{from.v, tag}];
    TRY_DO(state_.wait(
        self_, lock, [&] { return !queue.empty(); },
        [&] {
          return Wait{from.v,
                      fmt::format("rank {} waits for a message of rank {}",
                                  self_.v, from.v)};
        }));
    return open(box.letters.find({from.v, tag}), from, lock, bytes, time);
  }

  Result<bool> try_receive(RankId from, Tag tag, std::span<std::byte> bytes,
                           Time& time) override {
    TRY_DO(state_.check_running());
    Mailbox& box = state_.boxes[self_.at()];
    std::unique_lock lock(box.mutex);
    const auto letters = box.letters.find({from.v, tag});
    if (letters == box.letters.end()) return false;
    TRY_DO(open(letters, from, lock, bytes, time));
    return true;
  }

  void expose(Tag name, std::span<const std::byte> memory) override {
    Mailbox& box = state_.boxes[self_.at()];
    const std::scoped_lock lock(box.mutex);
    box.exposed[name] = memory;
  }

  void withdraw(Tag name) override {
    Mailbox& box = state_.boxes[self_.at()];
    const std::scoped_lock lock(box.mutex);
    box.exposed.erase(name);
  }

  Result<void> fetch(RankId from, Tag name, std::span<const exec::Strip> strips,
                     std::span<std::byte> to) override {
    TRY_DO(state_.check_running());
    Mailbox& box = state_.boxes[from.at()];
    std::unique_lock lock(box.mutex);
    const auto it = box.exposed.find(name);
    const std::string problem = it == box.exposed.end()
                                    ? nothing_exposed(from, self_)
                                    : copy_strips(it->second, strips, to);
    lock.unlock();
    if (problem.empty()) return {};
    return state_.give_up({Fault::unavailable, problem});
  }

 private:
  /// Takes the first letter of a queue, which is there.
  Result<void> open(LetterBox::iterator letters, RankId from,
                    std::unique_lock<std::mutex>& lock,
                    std::span<std::byte> bytes, Time& time) {
    Letters& queue = letters->second;
    const Letter letter = std::move(queue.front());
    queue.erase(queue.begin());
    if (queue.empty()) state_.boxes[self_.at()].letters.erase(letters);
    lock.unlock();
    if (letter.bytes.size() != bytes.size()) {
      return state_.give_up(
          {Fault::unavailable,
           wrong_size(from, letter.bytes.size(), self_, bytes.size())});
    }
    if (!bytes.empty()) {
      std::memcpy(bytes.data(), letter.bytes.data(), bytes.size());
    }
    time = letter.time;
    return {};
  }

  Result<void> sleep_until(std::chrono::steady_clock::time_point at) override {
    while (std::chrono::steady_clock::now() < at) {
      TRY_DO(state_.check_running());
      state_.crew.park_until(at);
    }
    return {};
  }

 private:
  struct Known {
    GroupState* state = nullptr;
    std::uint64_t next = 0;  ///< number of this rank's next meeting
  };

  Result<void> join(std::span<const RankId> ranks, Entry entry, Time& time) {
    const Group group(ranks.begin(), ranks.end());
    const auto self = std::ranges::find(group, self_);
    check(self != group.end(), "a rank in a collective of others");
    Known& known = known_[group];
    if (known.state == nullptr) known.state = &state_.group(group);
    const std::uint64_t number = known.next++;
    std::unique_lock lock(known.state->mutex);
    Meeting& m = known.state->meetings[number];
    if (m.entries.empty()) m.entries.resize(group.size());
    m.entries[static_cast<std::size_t>(self - group.begin())] = entry;
    m.latest = std::max(m.latest, time);
    if (++m.arrived == group.size()) {
      TRY_DO(perform(group, m));
      m.done = true;
      for (const RankId other : group) {
        if (other != self_) state_.crew.unpark(other.v);
      }
    } else {
      TRY_DO(state_.wait(
          self_, lock, [&] { return m.done; },
          [&] { return missing(group, m); }));
    }
    time = m.latest;
    if (++m.left == group.size()) known.state->meetings.erase(number);
    return {};
  }

  Result<void> perform(const Group& group, Meeting& m) {
    // Who gave up has taken its memory away.
    TRY_DO(state_.check_running());
    const std::string problem = problem_of(group, m);
    if (!problem.empty()) {
      return state_.give_up({Fault::unavailable, problem});
    }
    switch (m.entries[0].kind) {
      case Operation::all_gather:
        perform_all_gather(m);
        break;
      case Operation::all_reduce:
        perform_all_reduce(m);
        break;
      case Operation::meet:
        break;
    }
    return {};
  }

  Wait missing(const Group& group, const Meeting& m) const {
    std::vector<std::int32_t> late;
    for (std::size_t i = 0; i < group.size() && late.size() < 8; ++i) {
      if (!m.entries[i].here) late.push_back(group[i].v);
    }
    return {late.empty() ? -1 : late[0],
            fmt::format("rank {} waits in a collective of {} ranks for {}",
                        self_.v, group.size(), fmt::join(late, ", "))};
  }

  State& state_;
  RankId self_;
  std::map<Group, Known> known_;
};

Hub::Hub(int ranks, const HubOptions& options)
    : state_(std::make_unique<State>(ranks, options)) {}
Hub::~Hub() = default;

Result<void> Hub::run(
    const std::function<Result<void>(exec::Communicator&)>& work) {
  State& s = *state_;
  const auto perform = [&](int rank) {
    Member member(s, RankId{rank});
    const Result<void> result = work(member);
    if (!result && !s.failed.load()) {
      static_cast<void>(s.give_up(
          {result.error().fault,
           fmt::format("rank {}: {}", rank, result.error().message)}));
    }
  };
  s.crew.run(perform, [&s] { s.stuck(); });
  return s.check_running();
}

}  // namespace troupe::emu
