#include "runs/elastic_account.h"

#include <gtest/gtest.h>

#include <set>

namespace troupe::runs {
namespace {

using namespace troupe::literals;

TEST(WallTime, IsTheSumOfItsAccounts) {
  WallTime a;
  a[Account::useful] = 3_us;
  a[Account::moving] = 4_us;
  WallTime b;
  b[Account::useful] = 1_us;
  b += a;
  EXPECT_EQ(b[Account::useful], 4_us);
  EXPECT_EQ(b.total(), 8_us);
}

TEST(WallTime, NamesEveryAccountOnce) {
  std::set<std::string_view> names;
  for (std::size_t a = 0; a < kAccounts; ++a) {
    names.insert(name_of(static_cast<Account>(a)));
  }
  EXPECT_EQ(names.size(), kAccounts);
  EXPECT_FALSE(names.contains("unknown"));
}

}  // namespace
}  // namespace troupe::runs
