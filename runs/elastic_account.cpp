#include "runs/elastic_account.h"

namespace troupe::runs {

std::string_view name_of(Account account) {
  switch (account) {
    case Account::useful:
      return "useful";
    case Account::undone:
      return "undone";
    case Account::cut:
      return "cut";
    case Account::redundancy:
      return "redundancy";
    case Account::saving:
      return "saving";
    case Account::detecting:
      return "detecting";
    case Account::restarting:
      return "restarting";
    case Account::loading:
      return "loading";
    case Account::moving:
      return "moving";
    case Account::stopped:
      return "stopped";
  }
  return "unknown";
}

Time WallTime::total() const {
  Time sum;
  for (const Time t : at) sum += t;
  return sum;
}

WallTime& WallTime::operator+=(const WallTime& more) {
  for (std::size_t a = 0; a < kAccounts; ++a) at[a] += more.at[a];
  return *this;
}

}  // namespace troupe::runs
