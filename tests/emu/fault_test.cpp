// Faults put into a run end it on every rank, and the message names the rank
// that is to blame.
#include "emu/fault.h"

#include <gmock/gmock.h>

#include "emu/share.h"
#include "tests/emu/small_job.h"

namespace troupe::emu {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

TEST(Fault, IsReadFromText) {
  const auto fault = parse_fault("3:2:size", 4, 2);
  ASSERT_TRUE(fault.has_value()) << fault.error().message;
  EXPECT_EQ(*fault, (InjectedFault{exec::RankId{3}, 2, FaultKind::size}));
  EXPECT_TRUE(parse_fault("0:1:hash", 2, 1).has_value());
}

TEST(Fault, TextThatIsNoneIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "RANK:STEP:KIND"},
      {"1:2", "RANK:STEP:KIND"},
      {"4:1:die", "from 0 to 3"},
      {"-1:1:die", "from 0 to 3"},
      {"x:1:die", "from 0 to 3"},
      {"1 :1:die", "from 0 to 3"},
      {"1:0:die", "from 1 to 2"},
      {"1:3:die", "from 1 to 2"},
      {"1:99999999999:die", "from 1 to 2"},
      {"1:1:burn", "die, hang, size or hash"},
      {"1:1:", "die, hang, size or hash"},
      {"1:2:hash", "before step 1"},
  };
  for (const auto& [text, words] : cases) {
    const auto fault = parse_fault(text, 4, 2);
    ASSERT_FALSE(fault.has_value()) << text;
    EXPECT_EQ(fault.error().fault, Fault::input);
    EXPECT_THAT(fault.error().message, HasSubstr(words));
  }
  EXPECT_THAT(parse_fault("0:1:die", 1, 1).error().message, HasSubstr("alone"));
}

/// What a run of 8 ranks (DP, TP and PP of 2) says.
std::string said(const InjectedFault& fault) {
  const auto model = test::small_model();
  auto s = test::base::strategy_of(model, {.dp = 2, .tp = 2, .pp = 2});
  s.seq_len = 16;
  s.dtype = kernels::DType::fp64;
  EmulationOptions options;
  options.fault = fault;
  const auto run = test::proven({s}, model, 2, options);
  EXPECT_FALSE(run.has_value());
  return run ? std::string() : run.error().message;
}

TEST(Fault, OfEveryKindEndsTheRunAndNamesTheRank) {
  for (const int rank : {0, 3, 7}) {
    for (const int step : {1, 2}) {
      const exec::RankId r{rank};
      const std::string name = "rank " + std::to_string(rank);
      EXPECT_EQ(said({r, step, FaultKind::die}),
                name + ": dies at the start of step " + std::to_string(step) +
                    ", as asked for");
      EXPECT_THAT(said({r, step, FaultKind::hang}),
                  testing::StartsWith(name + " hangs; "));
      EXPECT_THAT(said({r, step, FaultKind::size}),
                  MatchesRegex("(.* )?" + name +
                               " (brings|sent|wants an all-reduce of) "
                               "[0-9]+ bytes .*"));
    }
    EXPECT_THAT(said({exec::RankId{rank}, 1, FaultKind::hash}),
                HasSubstr("schedules differ: rank " + std::to_string(rank) +
                          " has a fault"));
  }
}

TEST(Share, GivesEveryRankAllTexts) {
  Hub hub(5, {});
  const auto done = hub.run([](exec::Communicator& c) -> Result<void> {
    const std::string mine(static_cast<std::size_t>(c.rank().v) * 3, 'x');
    TRY(const auto all, share(c, 5, mine));
    EXPECT_EQ(all, (std::vector<std::string>{"", "xxx", "xxxxxx", "xxxxxxxxx",
                                             "xxxxxxxxxxxx"}));
    return {};
  });
  EXPECT_TRUE(done.has_value());
}

TEST(Share, TellsWhoseErrorItIs) {
  const auto told = [](int n, auto has) {
    std::string out;
    Hub hub(n, {});
    const auto done = hub.run([&](exec::Communicator& c) -> Result<void> {
      std::optional<Error> mine;
      if (has(c.rank().v)) mine = Error{Fault::io, "no file"};
      TRY(const auto first, first_error(c, n, mine));
      if (first) {
        EXPECT_EQ(first->fault, Fault::io);
        if (c.rank().v == 0) out = first->message;
      }
      return {};
    });
    EXPECT_TRUE(done.has_value());
    return out;
  };
  EXPECT_EQ(told(3, [](int) { return false; }), "");
  EXPECT_EQ(told(3, [](int) { return true; }), "no file");
  EXPECT_EQ(told(3, [](int r) { return r > 0; }), "rank 1: no file");
}

/// The rank that is different is named, also when it is the first.
TEST(Share, NamesTheRankThatDisagrees) {
  for (const int odd : {0, 2}) {
    Hub hub(3, {});
    const auto done = hub.run([&](exec::Communicator& c) {
      return agree(c, 3, c.rank().v == odd ? "b" : "a");
    });
    ASSERT_FALSE(done.has_value());
    EXPECT_THAT(done.error().message,
                HasSubstr("rank " + std::to_string(odd) + " has b where"));
  }
}

}  // namespace
}  // namespace troupe::emu
