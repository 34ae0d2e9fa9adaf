// Suggestions, human-readable numbers, excerpts, findings.
#include "base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/findings.h"

namespace troupe {
namespace {

using namespace literals;
using testing::HasSubstr;
using testing::Not;

const std::vector<std::string> kWords{"layers", "hidden", "heads", "dp", "tp"};

TEST(Closest, FindsMisspeltWords) {
  EXPECT_EQ(closest("layer", kWords), "layers");
  EXPECT_EQ(closest("hiden", kWords), "hidden");
  EXPECT_EQ(closest("HIDDEN", kWords), "hidden");
  EXPECT_EQ(did_you_mean("haeds", kWords), " (did you mean 'heads'?)");
}

TEST(Counted, MakesThePluralOfRegularNouns) {
  EXPECT_EQ(counted(1, "micro-batch"), "1 micro-batch");
  EXPECT_EQ(counted(2, "micro-batch"), "2 micro-batches");
  EXPECT_EQ(counted(0, "stage"), "0 stages");
  EXPECT_EQ(counted(3, "strategy"), "3 strategies");
  EXPECT_EQ(counted(1, "strategy"), "1 strategy");
  EXPECT_EQ(counted(2, "GPU"), "2 GPUs");
  EXPECT_EQ(counted(2, "day"), "2 days");
  EXPECT_EQ(counted(-2, "loss"), "-2 losses");
}

TEST(Closest, IsSilentWhenNothingIsNear) {
  EXPECT_EQ(closest("bandwidth", kWords), "");
  EXPECT_EQ(closest("", kWords), "");
  const std::vector<std::string> letters{"a", ""};
  EXPECT_EQ(closest("b", letters), "");
  EXPECT_EQ(closest(std::string(100000, 'x'), kWords), "");
  EXPECT_EQ(did_you_mean("qqqqqq", kWords), "");
}

TEST(Human, HasThreeDigits) {
  EXPECT_EQ(human(seconds(1.25)), "1.25 s");
  EXPECT_EQ(human(seconds(0.0034)), "3.4 ms");
  EXPECT_EQ(human(12_us), "12 us");
  EXPECT_EQ(human(Time{5'000}), "5 ns");
  EXPECT_EQ(human(Time{}), "0 ns");
  EXPECT_EQ(human(seconds(12345)), "12345 s");
  EXPECT_EQ(human(seconds(-1.25)), "-1.25 s");
  EXPECT_EQ(human(Bytes{17}), "17 B");
  EXPECT_EQ(human(512_MiB), "512 MiB");
  EXPECT_EQ(human(Bytes{13207024435}), "12.3 GiB");
  EXPECT_EQ(human_count(12.34e15, "FLOP"), "12.3 PFLOP");
  EXPECT_EQ(human_count(100, "x"), "100 x");
}

// Rounding must not end in "1000 ms" or "1e+03".
TEST(Human, MovesToTheNextUnitWhenRoundingDoes) {
  EXPECT_EQ(human(seconds(0.99996)), "1 s");
  EXPECT_EQ(human_count(999.9, "FLOP"), "1 kFLOP");
}

TEST(Excerpt, CutsAndHidesControlCharacters) {
  EXPECT_EQ(excerpt("a\nb\x1b[31m"), "a?b?[31m");
  EXPECT_EQ(excerpt(std::string(100, 'x'), 10), "xxxxxxxxxx...");
  EXPECT_EQ(excerpt("xxxx", 4), "xxxx");
}

// "é" is two bytes; cutting after the first would leave a broken character.
TEST(Excerpt, NeverCutsACharacter) {
  EXPECT_EQ(excerpt("ab\xc3\xa9z", 3), "ab...");
  EXPECT_EQ(excerpt("ab\xc3\xa9z", 4), "ab\xc3\xa9...");
}

TEST(Findings, AreALineEach) {
  Findings findings;
  findings.warning("w", "only so");
  EXPECT_TRUE(findings.ok());
  findings.error("f.json: /a", "bad");
  findings.error("", "worse");
  EXPECT_FALSE(findings.ok());
  EXPECT_EQ(findings.to_error().message, "f.json: /a: bad\nworse");
  EXPECT_EQ(findings.warnings().size(), 1u);
}

TEST(Findings, AreCountedPastTheFirstTwenty) {
  Findings findings;
  for (int i = 0; i < 25; ++i) findings.error("x", std::to_string(i));
  EXPECT_THAT(findings.to_error().message, HasSubstr("... and 5 more"));
  EXPECT_THAT(findings.to_error().message, Not(HasSubstr("x: 20")));
}

TEST(Findings, StayFewForHostileInput) {
  Findings findings;
  for (int i = 0; i < 5000; ++i) findings.warning("w", "odd");
  for (int i = 0; i < 5000; ++i) findings.error("x", "bad");
  EXPECT_LT(findings.all().size(), 1100u);
  EXPECT_FALSE(findings.ok());
  EXPECT_THAT(findings.to_error().message, HasSubstr("and 4999 more"));
  Findings more;
  more.append(findings);
  EXPECT_FALSE(more.ok());
  EXPECT_THAT(more.to_error().message, HasSubstr("and 4999 more"));
}

RC_GTEST_PROP(Human, NeverShowsAnExponent, (std::int64_t v)) {
  RC_ASSERT(human(Time{v}).find('e') == std::string::npos);
  RC_ASSERT(human(Bytes{v}).find('e') == std::string::npos);
}

}  // namespace
}  // namespace troupe
