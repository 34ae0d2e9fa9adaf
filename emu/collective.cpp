#include "emu/collective.h"

#include <fmt/format.h>

#include <cstring>

namespace troupe::emu {

std::string_view name_of(Operation operation) {
  switch (operation) {
    case Operation::all_gather:
      return "all-gather";
    case Operation::all_reduce:
      return "all-reduce";
    case Operation::meet:
      return "meeting";
  }
  return "";
}

std::string mismatch(std::span<const exec::RankId> group,
                     std::span<const Intent> intents,
                     std::span<const Bytes> sizes) {
  const Intent& a = intents[0];
  for (std::size_t i = 1; i < intents.size(); ++i) {
    const Intent& b = intents[i];
    if (a.operation == b.operation && a.dtype == b.dtype && a.gets == b.gets) {
      continue;
    }
    return fmt::format(
        "rank {} wants an {} of {} bytes where rank {} wants an {} of {} bytes",
        group[0].v, name_of(a.operation), a.gets, group[i].v,
        name_of(b.operation), b.gets);
  }
  std::int64_t parts = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    parts += intents[i].brings;
    if (intents[i].brings == sizes[i].v) continue;
    return fmt::format("rank {} brings {} bytes to an {} where {} are expected",
                       group[i].v, intents[i].brings, name_of(a.operation),
                       sizes[i].v);
  }
  if (!sizes.empty() && parts != a.gets) {
    return fmt::format(
        "the parts of an all-gather of {} bytes are {} bytes in all", a.gets,
        parts);
  }
  return {};
}

std::string nothing_exposed(exec::RankId owner, exec::RankId reader) {
  return fmt::format("rank {} reads weights that rank {} does not expose",
                     reader.v, owner.v);
}

std::string copy_strips(std::span<const std::byte> memory,
                        std::span<const exec::Strip> strips,
                        std::span<std::byte> to) {
  std::int64_t at = 0;
  for (const exec::Strip& s : strips) {
    const std::int64_t last = s.at + (s.rows - 1) * s.stride + s.row;
    if (s.at < 0 || s.row < 0 || s.rows < 1 || s.stride < 0 ||
        last > std::ssize(memory) || at + s.rows * s.row > std::ssize(to)) {
      return fmt::format(
          "reading {} rows of {} bytes from byte {} on, {} apart, of {}",
          s.rows, s.row, s.at, s.stride, memory.size());
    }
    for (std::int64_t r = 0; r < s.rows && s.row > 0; ++r, at += s.row) {
      std::memcpy(to.data() + at, memory.data() + s.at + r * s.stride,
                  static_cast<std::size_t>(s.row));
    }
  }
  if (at == std::ssize(to)) return {};
  return fmt::format("strips of {} bytes are read into {}", at, to.size());
}

std::string wrong_size(exec::RankId from, std::size_t sent, exec::RankId to,
                       std::size_t expected) {
  return fmt::format("rank {} sent {} bytes to rank {}, which expects {}",
                     from.v, sent, to.v, expected);
}

}  // namespace troupe::emu
