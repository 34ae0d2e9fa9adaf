#include "emu/crew.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace troupe::emu {
namespace {

using Clock = std::chrono::steady_clock;

/// Fibres of two threads hand a turn around: each wakes the next and waits.
TEST(Crew, EveryFibreGetsItsTurns) {
  constexpr int kFibres = 6;
  constexpr int kRounds = 50;
  Crew crew(kFibres, 2);
  std::atomic<int> turn{0};
  std::vector<int> order;
  crew.run(
      [&](int self) {
        for (int round = 0; round < kRounds; ++round) {
          const int mine = round * kFibres + self;
          while (turn.load() != mine) crew.park();
          order.push_back(self);
          turn = mine + 1;
          crew.unpark((self + 1) % kFibres);
        }
      },
      [] { ADD_FAILURE() << "stuck"; });
  ASSERT_EQ(order.size(), std::size_t{kFibres * kRounds});
  for (std::size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(order[i], static_cast<int>(i % kFibres));
  }
}

/// One fibre wakes up while the other, on a thread of its own, is about to
/// wait for it: at no moment are both stuck.
TEST(Crew, AFibreThatWakesUpIsNotStuck) {
  constexpr int kRounds = 200000;
  Crew crew(2, 2);
  std::atomic<int> slept{0};
  std::atomic<int> stuck{0};
  crew.run(
      [&](int self) {
        for (int round = 1; round <= kRounds; ++round) {
          if (self == 0) {
            crew.park_until(Clock::now());  // wakes up at once
            slept = round;
            crew.unpark(1);
          } else {
            while (slept.load() < round) crew.park();
          }
        }
      },
      [&] {
        ++stuck;
        crew.unpark(0);
        crew.unpark(1);
      });
  EXPECT_EQ(stuck.load(), 0);
}

}  // namespace
}  // namespace troupe::emu
