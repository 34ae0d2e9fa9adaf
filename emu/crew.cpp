#include "emu/crew.h"

#include <algorithm>
#include <atomic>
#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/preallocated.hpp>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"
#include "emu/fibre_switch.h"

namespace troupe::emu {
namespace {

namespace context = boost::context;
using Clock = std::chrono::steady_clock;

/// Matrix products keep blocks of operands on the stack.
constexpr std::size_t kStack = (512U << 10) * kFrameGrowth;

enum class Turn : std::uint8_t { running, parked, notified };

struct Fibre {
  int number = 0;
  int thread = 0;
  std::atomic<Turn> turn{Turn::running};
  bool ended = false;
  context::fiber self;    ///< where it goes on
  context::fiber worker;  ///< where its thread goes on
  FibreSwitch switched;
};

thread_local Fibre* current = nullptr;

/// A fibre that performs `body` when it first has its turn.
void make(Fibre& f, const std::function<void(int)>& body) {
  context::fixedsize_stack stacks(kStack);
  const context::stack_context stack = stacks.allocate();
  f.switched =
      FibreSwitch(static_cast<std::byte*>(stack.sp) - stack.size, stack.size);
  // Making it runs its first instructions.
  f.switched.entering();
  f.switched.entered();
  f.self = context::fiber(
      std::allocator_arg, context::preallocated(stack.sp, stack.size, stack),
      std::move(stacks), [&f, &body](context::fiber&& worker) {
        f.switched.entered();
        f.worker = std::move(worker);
        body(f.number);
        f.ended = true;
        return std::move(f.worker);
      });
  f.switched.leaving();
  f.switched.left();
}

/// A turn of a fibre, on its thread's stack.
void enter(Fibre& f) {
  current = &f;
  f.switched.entering();
  f.self = std::move(f.self).resume();
  if (f.ended) {
    f.switched.ended();
  } else {
    f.switched.left();
  }
  current = nullptr;
}

/// The end of a turn, on the fibre's stack; returns when the next begins.
void leave(Fibre& f) {
  f.switched.leaving();
  f.worker = std::move(f.worker).resume();
  f.switched.entered();
}

}  // namespace

struct Crew::State {
  State(int count, int thread_count)
      : fibres(static_cast<std::size_t>(count)),
        ready(static_cast<std::size_t>(thread_count)),
        sleepers(static_cast<std::size_t>(thread_count)),
        wake(static_cast<std::size_t>(thread_count)),
        waits(static_cast<std::size_t>(thread_count)) {
    for (int i = 0; i < count; ++i) {
      fibres[static_cast<std::size_t>(i)].number = i;
      fibres[static_cast<std::size_t>(i)].thread =
          static_cast<int>(std::int64_t{i} * thread_count / count);
    }
  }

  void make_ready(Fibre& f) {
    const auto thread = static_cast<std::size_t>(f.thread);
    std::unique_lock lock(mutex);
    ready[thread].push_back(&f);
    const bool waiting = waits[thread];
    lock.unlock();
    if (waiting) wake[thread].notify_one();
  }

  /// Ends a fibre's wait; true when it must be made ready for that.
  static bool notify(Fibre& f) {
    for (;;) {
      Turn turn = f.turn.load();
      if (turn == Turn::notified) return false;
      if (turn == Turn::running &&
          f.turn.compare_exchange_weak(turn, Turn::notified)) {
        return false;
      }
      if (turn == Turn::parked &&
          f.turn.compare_exchange_weak(turn, Turn::running)) {
        return true;
      }
    }
  }

  void unpark(int fibre) {
    Fibre& f = fibres[static_cast<std::size_t>(fibre)];
    if (notify(f)) make_ready(f);
  }

  /// Makes a fibre ready whose time has come. The lock is held throughout:
  /// neither asleep nor ready, it would seem stuck to other threads.
  bool wake_sleeper(int thread) {
    auto& own = sleepers[static_cast<std::size_t>(thread)];
    if (own.empty() || own.begin()->first > Clock::now()) return false;
    Fibre& f = fibres[static_cast<std::size_t>(own.begin()->second)];
    own.erase(own.begin());
    if (notify(f)) ready[static_cast<std::size_t>(thread)].push_back(&f);
    return true;
  }

  /// Until something is ready for the thread, or its next sleeper's time.
  void wait(std::size_t thread, std::unique_lock<std::mutex>& lock) {
    const auto& own = sleepers[thread];
    waits[thread] = true;
    if (own.empty()) {
      wake[thread].wait(lock);
    } else {
      wake[thread].wait_until(lock, own.begin()->first);
    }
    waits[thread] = false;
  }

  /// The next fibre of a thread, or null when all have ended.
  Fibre* next(int thread, const std::function<void()>& stuck) {
    auto& mine = ready[static_cast<std::size_t>(thread)];
    std::unique_lock lock(mutex);
    ++idle;
    while (mine.empty() && living > 0) {
      if (wake_sleeper(thread)) continue;
      const auto empty = [](const auto& list) { return list.empty(); };
      const bool none = std::ranges::all_of(ready, empty) &&
                        std::ranges::all_of(sleepers, empty);
      if (none && idle == static_cast<int>(ready.size())) {
        lock.unlock();
        stuck();
        lock.lock();
        continue;
      }
      wait(static_cast<std::size_t>(thread), lock);
    }
    --idle;
    if (mine.empty()) return nullptr;
    Fibre* const f = mine.front();
    mine.pop_front();
    return f;
  }

  void work(int thread, const std::function<void()>& stuck) {
    while (Fibre* const f = next(thread, stuck)) {
      enter(*f);
      if (f->ended) {
        {
          const std::scoped_lock lock(mutex);
          --living;
        }
        for (auto& one : wake) one.notify_one();
        continue;
      }
      Turn turn = Turn::running;
      if (!f->turn.compare_exchange_strong(turn, Turn::parked)) {
        f->turn = Turn::running;  // notified on its way out
        make_ready(*f);
      }
    }
  }

  std::vector<Fibre> fibres;
  std::mutex mutex;
  std::vector<std::deque<Fibre*>> ready;                        ///< by thread
  std::vector<std::multimap<Clock::time_point, int>> sleepers;  ///< by thread
  std::vector<std::condition_variable> wake;                    ///< by thread
  std::vector<char> waits;                                      ///< by thread
  int idle = 0;
  int living = 0;
};

Crew::Crew(int fibres, int threads)
    : state_(std::make_unique<State>(
          fibres, std::clamp(threads, 1, std::max(fibres, 1)))) {}
Crew::~Crew() = default;

void Crew::run(const std::function<void(int)>& body,
               const std::function<void()>& stuck) {
  State& s = *state_;
  s.living = static_cast<int>(s.fibres.size());
  for (Fibre& f : s.fibres) {
    make(f, body);
    s.ready[static_cast<std::size_t>(f.thread)].push_back(&f);
  }
  std::vector<std::thread> others;
  for (int t = 1; t < static_cast<int>(s.ready.size()); ++t) {
    others.emplace_back([&s, &stuck, t] { s.work(t, stuck); });
  }
  s.work(0, stuck);
  for (std::thread& t : others) t.join();
}

void Crew::park() {
  Fibre* const self = current;
  check(self != nullptr, "parked outside of a fibre");
  Turn turn = Turn::notified;
  if (self->turn.compare_exchange_strong(turn, Turn::running)) return;
  leave(*self);
}

void Crew::park_until(std::chrono::steady_clock::time_point at) {
  Fibre* const self = current;
  check(self != nullptr, "parked outside of a fibre");
  {
    const std::scoped_lock lock(state_->mutex);
    state_->sleepers[static_cast<std::size_t>(self->thread)].emplace(
        at, self->number);
  }
  park();
}

void Crew::unpark(int fibre) { state_->unpark(fibre); }

}  // namespace troupe::emu
