#include "emu/mpi_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

namespace troupe::emu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kReportTag = 1;
/// Polls between looks at the clock and at reports while a rank spins.
constexpr int kPolls = 32;
/// How long a rank spins before it sleeps between polls, with a core of its
/// own; ranks that share cores sleep at once, for another needs the core.
constexpr double kSpin_s = 2e-3;
/// Sleeps take this part of the time waited so far, so that a wait is longer
/// by no more than that, and never more than the longest.
constexpr double kSleepPart = 0.25;
constexpr double kShortest_s = 10e-6, kLongest_s = 1e-3;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void nap(double waited_s) {
  std::this_thread::sleep_for(std::chrono::duration<double>(
      std::clamp(kSleepPart * waited_s, kShortest_s, kLongest_s)));
}

/// Whether this machine has more ranks than cores.
bool is_crowded(MPI_Comm all) {
  MPI_Comm here = MPI_COMM_NULL;
  MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
  int ranks = 1;
  MPI_Comm_size(here, &ranks);
  MPI_Comm_free(&here);
  return std::cmp_greater(ranks, std::thread::hardware_concurrency());
}

[[noreturn]] void abort_job(const std::string& message) {
  fmt::print(stderr, "troupe: {}\n", message);
  std::fflush(stderr);
  // Lets the launcher pass the message on before it ends everyone.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  MPI_Abort(MPI_COMM_WORLD, 1);
  _exit(1);
}

}  // namespace

struct Guard::State {
  std::mutex mutex;
  std::condition_variable wake;
  bool over = false;
  std::thread thread;
};

Guard::Guard(double limit_s, std::string what)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.thread = std::thread([&s, limit_s, what = std::move(what)] {
    std::unique_lock lock(s.mutex);
    const auto limit = std::chrono::duration<double>(limit_s);
    if (s.wake.wait_for(lock, limit, [&s] { return s.over; })) return;
    fmt::print(stderr, "troupe: {} took longer than {:g} s\n", what, limit_s);
    // MPI is stuck on the other thread; the launcher sees the exit code.
    _exit(1);
  });
}

Guard::~Guard() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->over = true;
  }
  state_->wake.notify_all();
  state_->thread.join();
}

MpiWatch::MpiWatch(const MpiOptions& options) : options_(options) {
  const Guard guard(options.patience_s, "the start of MPI");
  MPI_Comm_dup(MPI_COMM_WORLD, &reports_);
  MPI_Comm_set_errhandler(reports_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(reports_, &rank_);
  MPI_Comm_size(reports_, &ranks_);
  crowded_ = is_crowded(reports_);
  // Two rounds of reports are part of the patience.
  grace_s_ = std::min(1.0, options.patience_s / 4);
}

MpiWatch::~MpiWatch() {
  const Guard guard(options_.patience_s, "the end of MPI");
  MPI_Comm_free(&reports_);
}

void MpiWatch::rest(int polls, Clock::time_point start, const Need& need) {
  if (polls % kPolls != 0 && !sleepy_) return std::this_thread::yield();
  const double waited_s = since(start);
  const bool late = waited_s > options_.patience_s - grace_s_;
  if (late || hear()) {
    Report mine;
    mine.waits_for = need.from.v;
    mine.meeting = need.meeting;
    end(mine, need);
  }
  sleepy_ = crowded_ || waited_s > kSpin_s;
  if (sleepy_) nap(waited_s);
}

void MpiWatch::give_up(std::string_view text) {
  Report mine;
  mine.gave_up = 1;
  mine.text[text.copy(mine.text, sizeof mine.text - 1)] = '\0';
  end(mine, {});
}

void MpiWatch::end(Report mine, const Need& need) {
  tell(mine);
  listen(Phase::roll_call);
  if (mine.gave_up == 0) find_missing(mine, need);
  mine.phase = Phase::verdict;
  tell(mine);
  listen(Phase::verdict);
  heard_[rank_] = mine;
  // A lower one will end the job; unless it cannot.
  if (heard_.begin()->first != rank_) {
    std::this_thread::sleep_for(std::chrono::seconds(5));
  }
  abort_job(judge());
}

void MpiWatch::tell(const Report& mine) {
  const Report& kept = told_.emplace_back(mine);
  for (int other = 0; other < ranks_; ++other) {
    if (other == rank_) continue;
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(&kept, sizeof kept, MPI_BYTE, other, kReportTag, reports_,
              &request);
  }
}

/// Whether another rank has reported.
bool MpiWatch::hear() {
  int there = 0;
  MPI_Status status;
  bool any = false;
  while (MPI_Iprobe(MPI_ANY_SOURCE, kReportTag, reports_, &there, &status) ==
             MPI_SUCCESS &&
         there != 0) {
    Report& report = heard_[status.MPI_SOURCE];
    MPI_Recv(&report, sizeof report, MPI_BYTE, status.MPI_SOURCE, kReportTag,
             reports_, MPI_STATUS_IGNORE);
    any = true;
  }
  return any;
}

/// Until all others have come as far, or half the grace has passed.
void MpiWatch::listen(Phase phase) {
  const auto start = Clock::now();
  const auto there = [&] {
    return std::ranges::count_if(
        heard_, [&](const auto& h) { return h.second.phase >= phase; });
  };
  while (there() < ranks_ - 1 && since(start) < grace_s_ / 2) {
    hear();
    nap(since(start));
  }
}

void MpiWatch::find_missing(Report& mine, const Need& need) const {
  std::vector<std::int32_t> late;
  for (const exec::RankId member : need.group) {
    const auto it = heard_.find(member.v);
    const bool here = it != heard_.end() && it->second.gave_up == 0 &&
                      it->second.meeting == need.meeting;
    if (member.v != rank_ && !here) late.push_back(member.v);
  }
  std::string text;
  if (need.group.empty()) {
    text = fmt::format("rank {} waits for {} of rank {}", rank_, need.what,
                       need.from.v);
  } else {
    // Without a late one the data itself is: all are in the collective.
    if (!late.empty()) mine.waits_for = late[0];
    text = fmt::format("rank {} waits in {} of {} ranks", rank_, need.what,
                       need.group.size());
    for (std::size_t i = 0; i < late.size() && i < 8; ++i) {
      text += fmt::format("{} {}", i == 0 ? " for" : ",", late[i]);
    }
  }
  mine.text[text.copy(mine.text, sizeof mine.text - 1)] = '\0';
}

/// One message out of all reports.
std::string MpiWatch::judge() const {
  std::map<std::int32_t, Wait> waits;
  for (const auto& [rank, report] : heard_) {
    if (report.gave_up != 0) return report.text;
    waits[rank] = {report.waits_for, report.text};
  }
  return fmt::format("{} (limit {:g} s; --patience sets another)", blame(waits),
                     options_.patience_s);
}

}  // namespace troupe::emu
