// Runs priced blocks on the in-order streams of a device. Shared by pricing
// (one device) and operator detail (every rank).
#pragma once

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "schedule/schedule.h"
#include "sim/price.h"

namespace troupe::sim {

/// Calls `account.busy(price)` for each compute operator and
/// `account.waited(gap, stream, provenance)` for each gap of the compute
/// stream, which ends by an operator of `stream`. Returns when all streams
/// are idle again; starts at zero.
template <typename Account>
Time run_streams(const std::vector<std::pair<const BlockPrice*, int>>& runs,
                 Account& account) {
  using schedule::Stream;
  std::array<Time, schedule::kStreams> free{};
  constexpr auto kCompute = static_cast<std::size_t>(Stream::compute);
  std::vector<const BlockPrice*> blocks;
  for (const auto& [block, count] : runs) {
    blocks.insert(blocks.end(), static_cast<std::size_t>(count), block);
  }
  std::vector<Time> ends;
  std::vector<Time> early;  // of the next block's prefetches
  Time block_end;           // of the block before
  const auto prefetch = [&](std::size_t i, Time ready) {
    early.assign(blocks[i]->operators.size(), Time{});
    for (const std::uint16_t o : blocks[i]->prefetches) {
      const auto& op = blocks[i]->block->operators[o];
      Time& stream = free[static_cast<std::size_t>(op.stream)];
      stream = std::max(stream, ready) + blocks[i]->operators[o].time;
      early[o] = stream;
    }
  };
  if (!blocks.empty()) prefetch(0, {});
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    ends.swap(early);
    if (i + 1 < blocks.size()) prefetch(i + 1, block_end);
    const auto& ops = blocks[i]->block->operators;
    for (std::size_t o = 0; o < ops.size(); ++o) {
      const auto& op = ops[o];
      if (op.prefetch) continue;
      const OperatorPrice& price = blocks[i]->operators[o];
      Time& stream = free[static_cast<std::size_t>(op.stream)];
      Time ready = stream;
      std::size_t cause = o;
      for (const std::uint16_t a : op.after) {
        if (ends[a] > ready) {
          ready = ends[a];
          cause = a;
        }
      }
      if (op.stream == Stream::compute) {
        if (cause != o) {
          account.waited(ready - stream, ops[cause].stream,
                         blocks[i]->operators[cause].provenance);
        }
        account.busy(price);
      }
      stream = ready + price.time;
      ends[o] = stream;
    }
    block_end = free[kCompute];
  }
  std::size_t last = kCompute;
  for (std::size_t s = 0; s < free.size(); ++s) {
    if (free[s] > free[last]) last = s;
  }
  if (free[last] > free[kCompute]) {
    account.waited(free[last] - free[kCompute], static_cast<Stream>(last),
                   profiles::Provenance::roofline);
  }
  return free[last];
}

}  // namespace troupe::sim
