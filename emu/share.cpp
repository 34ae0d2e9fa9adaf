#include "emu/share.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "base/text.h"

namespace troupe::emu {

Result<std::vector<std::string>> share(exec::Communicator& communicator,
                                       int ranks, const std::string& mine) {
  const auto count = static_cast<std::size_t>(ranks);
  const std::vector<exec::RankId> group = exec::everyone(count);
  Time time;
  const auto length = static_cast<std::int64_t>(mine.size());
  std::vector<std::int64_t> lengths(count);
  const std::vector<Bytes> each(count, Bytes{sizeof length});
  TRY_DO(communicator.all_gather(
      group, std::as_bytes(std::span(&length, 1)), each,
      std::as_writable_bytes(std::span(lengths)), time));
  std::vector<Bytes> sizes;
  std::int64_t total = 0;
  for (const std::int64_t n : lengths) {
    sizes.emplace_back(n);
    total += n;
  }
  std::string all(static_cast<std::size_t>(total), ' ');
  TRY_DO(communicator.all_gather(group, std::as_bytes(std::span(mine)), sizes,
                                 std::as_writable_bytes(std::span(all)), time));
  std::vector<std::string> out;
  std::size_t at = 0;
  for (const std::int64_t n : lengths) {
    out.push_back(all.substr(at, static_cast<std::size_t>(n)));
    at += static_cast<std::size_t>(n);
  }
  return out;
}

Result<void> agree(exec::Communicator& communicator, int ranks,
                   const std::string& mine) {
  TRY(const std::vector<std::string> all, share(communicator, ranks, mine));
  std::map<std::string_view, int> counts;
  for (const std::string& text : all) ++counts[text];
  std::size_t usual = 0;  // a rank that performs what most do
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (counts[all[r]] > counts[all[usual]]) usual = r;
  }
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r] == all[usual]) continue;
    return fail(
        Fault::unavailable,
        fmt::format("schedules differ: rank {} has {} where rank {} has {}; "
                    "give every rank the same files and options",
                    r, excerpt(all[r], 160), usual, excerpt(all[usual], 160)));
  }
  return {};
}

Result<std::optional<Error>> first_error(exec::Communicator& communicator,
                                         int ranks,
                                         const std::optional<Error>& mine) {
  std::string text;
  if (mine) {
    text = static_cast<char>(mine->fault);
    text += mine->message;
  }
  TRY(const std::vector<std::string> all, share(communicator, ranks, text));
  const auto it =
      std::ranges::find_if(all, [](const auto& t) { return !t.empty(); });
  if (it == all.end()) return std::nullopt;
  Error error{static_cast<Fault>((*it)[0]), it->substr(1)};
  const bool same =
      std::ranges::all_of(all, [&](const auto& t) { return t == *it; });
  if (!same) {
    error.message = fmt::format("rank {}: {}", it - all.begin(), error.message);
  }
  return error;
}

}  // namespace troupe::emu
