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

#include "base/fibre_switch.h"
#include "base/result.h"

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

/// What waits for one thread; all of it under the crew's lock.
struct Thread {
  std::deque<Fibre*> ready;
  std::multimap<Clock::time_point, int> sleepers;  ///< numbers of fibres
  std::condition_variable wake;
  bool waits = false;
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
        threads(static_cast<std::size_t>(thread_count)) {
    for (int i = 0; i < count; ++i) {
      fibres[static_cast<std::size_t>(i)].number = i;
      fibres[static_cast<std::size_t>(i)].thread =
          static_cast<int>(std::int64_t{i} * thread_count / count);
    }
  }

  Thread& thread(int number) {
    return threads[static_cast<std::size_t>(number)];
  }

  void make_ready(Fibre& f) {
    Thread& own = thread(f.thread);
    std::unique_lock lock(mutex);
    own.ready.push_back(&f);
    const bool waits = own.waits;
    lock.unlock();
    if (waits) own.wake.notify_one();
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
  bool wake_sleeper(Thread& own) {
    auto& sleepers = own.sleepers;
    if (sleepers.empty() || sleepers.begin()->first > Clock::now()) {
      return false;
    }
    Fibre& f = fibres[static_cast<std::size_t>(sleepers.begin()->second)];
    sleepers.erase(sleepers.begin());
    if (notify(f)) own.ready.push_back(&f);
    return true;
  }

  /// Until something is ready for the thread, or its next sleeper's time.
  static void wait(Thread& own, std::unique_lock<std::mutex>& lock) {
    own.waits = true;
    if (own.sleepers.empty()) {
      own.wake.wait(lock);
    } else {
      own.wake.wait_until(lock, own.sleepers.begin()->first);
    }
    own.waits = false;
  }

  /// The next fibre of a thread, or null when all have ended.
  Fibre* next(Thread& own, const std::function<void()>& stuck) {
    std::unique_lock lock(mutex);
    ++idle;
    while (own.ready.empty() && living > 0) {
      if (wake_sleeper(own)) continue;
      const bool none = std::ranges::all_of(threads, [](const Thread& t) {
        return t.ready.empty() && t.sleepers.empty();
      });
      if (none && idle == static_cast<int>(threads.size())) {
        lock.unlock();
        stuck();
        lock.lock();
        continue;
      }
      wait(own, lock);
    }
    --idle;
    if (own.ready.empty()) return nullptr;
    Fibre* const f = own.ready.front();
    own.ready.pop_front();
    return f;
  }

  void work(int number, const std::function<void()>& stuck) {
    while (Fibre* const f = next(thread(number), stuck)) {
      enter(*f);
      if (f->ended) {
        {
          const std::scoped_lock lock(mutex);
          --living;
        }
        for (Thread& one : threads) one.wake.notify_one();
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
  std::vector<Thread> threads;
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
    s.thread(f.thread).ready.push_back(&f);
  }
  std::vector<std::thread> others;
  for (int t = 1; t < static_cast<int>(s.threads.size()); ++t) {
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
    state_->thread(self->thread).sleepers.emplace(at, self->number);
  }
  park();
}

void Crew::unpark(int fibre) { state_->unpark(fibre); }

}  // namespace troupe::emu
