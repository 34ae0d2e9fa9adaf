#include "emu/fault.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace troupe::emu {
namespace {

constexpr std::pair<std::string_view, FaultKind> kKinds[] = {
    {"die", FaultKind::die},
    {"hang", FaultKind::hang},
    {"size", FaultKind::size},
    {"hash", FaultKind::hash},
};

bool read_number(std::string_view text, int least, int most, int& out) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() &&
         out >= least && out <= most;
}

}  // namespace

Result<InjectedFault> parse_fault(std::string_view text, int ranks, int steps) {
  const auto wrong = [&](const std::string& what) {
    return fail(Fault::input,
                fmt::format("fault '{}': {}", excerpt(text), what));
  };
  const std::size_t first = text.find(':');
  const std::size_t second =
      first == text.npos ? first : text.find(':', first + 1);
  if (second == text.npos) {
    return wrong("expected RANK:STEP:KIND, such as 1:2:hang");
  }
  if (ranks < 2) return wrong("a rank alone has nobody who would notice");
  InjectedFault out;
  if (!read_number(text.substr(0, first), 0, ranks - 1, out.rank.v)) {
    return wrong(fmt::format("the rank must be from 0 to {}", ranks - 1));
  }
  if (!read_number(text.substr(first + 1, second - first - 1), 1, steps,
                   out.step)) {
    return wrong(fmt::format("the step must be from 1 to {}", steps));
  }
  const std::string_view name = text.substr(second + 1);
  const auto* const kind =
      std::ranges::find(kKinds, name, [](const auto& k) { return k.first; });
  if (kind == std::end(kKinds)) {
    return wrong("the kind must be die, hang, size or hash");
  }
  out.kind = kind->second;
  if (out.kind == FaultKind::hash && out.step != 1) {
    return wrong("schedules are compared before step 1 only");
  }
  return out;
}

std::size_t FaultyCommunicator::taken(std::size_t ranks, std::size_t size) {
  if (!shortens_ || ranks < 2 || size == 0) return 0;
  shortens_ = false;
  return 1;
}

Result<void> FaultyCommunicator::all_gather(std::span<const exec::RankId> group,
                                            std::span<const std::byte> mine,
                                            std::span<const Bytes> sizes,
                                            std::span<std::byte> all,
                                            Time& time) {
  const std::size_t less = taken(group.size(), mine.size());
  return real_.all_gather(group, mine.first(mine.size() - less), sizes, all,
                          time);
}

Result<void> FaultyCommunicator::all_reduce(std::span<const exec::RankId> group,
                                            kernels::DType dtype,
                                            std::span<std::byte> numbers,
                                            Time& time) {
  const std::size_t less = taken(group.size(), numbers.size());
  return real_.all_reduce(group, dtype, numbers.first(numbers.size() - less),
                          time);
}

Result<void> FaultyCommunicator::send(exec::RankId to, exec::Tag tag,
                                      std::span<const std::byte> bytes,
                                      Time time) {
  const std::size_t less = taken(2, bytes.size());
  return real_.send(to, tag, bytes.first(bytes.size() - less), time);
}

}  // namespace troupe::emu
