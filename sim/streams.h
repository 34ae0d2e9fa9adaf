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

/// The in-order streams of one device; each block's prefetches are issued
/// one block early.
class Streams {
 public:
  /// Issues the prefetches of the next block, not before `ready`.
  void prefetch(const BlockPrice& next, Time ready) {
    early_.assign(next.operators.size(), Time{});
    for (const std::uint16_t o : next.prefetches) {
      Time& stream = free(next.block->operators[o].stream);
      stream = std::max(stream, ready) + next.operators[o].time;
      early_[o] = stream;
    }
  }
  /// The block whose prefetches were issued last is the one that runs now.
  void take_prefetched() { ends_.swap(early_); }

  /// Runs the operators of `block` that are not prefetched.
  template <typename Account>
  void run(const BlockPrice& block, Account& account) {
    const auto& ops = block.block->operators;
    for (std::size_t o = 0; o < ops.size(); ++o) {
      const auto& op = ops[o];
      if (op.prefetch) continue;
      Time& stream = free(op.stream);
      Time ready = stream;
      std::size_t cause = o;
      for (const std::uint16_t a : op.after) {
        if (ends_[a] > ready) {
          ready = ends_[a];
          cause = a;
        }
      }
      if (op.stream == schedule::Stream::compute) {
        if (cause != o) {
          account.waited(ready - stream, ops[cause].stream,
                         block.operators[cause].provenance);
        }
        account.busy(block.operators[o]);
      }
      stream = ready + block.operators[o].time;
      ends_[o] = stream;
    }
  }

  /// When the last stream is idle; the compute stream waits for it.
  template <typename Account>
  Time drain(Account& account) const {
    auto last = static_cast<std::size_t>(schedule::Stream::compute);
    const Time computed = free_[last];
    for (std::size_t s = 0; s < free_.size(); ++s) {
      if (free_[s] > free_[last]) last = s;
    }
    if (free_[last] > computed) {
      account.waited(free_[last] - computed,
                     static_cast<schedule::Stream>(last),
                     profiles::Provenance::roofline);
    }
    return free_[last];
  }

  Time& free(schedule::Stream s) { return free_[static_cast<std::size_t>(s)]; }

 private:
  std::array<Time, schedule::kStreams> free_{};
  std::vector<Time> ends_;   ///< of the running block's operators
  std::vector<Time> early_;  ///< of the next block's prefetches
};

/// Calls `account.busy(price)` for each compute operator and
/// `account.waited(gap, stream, provenance)` for each gap of the compute
/// stream, which ends by an operator of `stream`. Returns when all streams
/// are idle again; starts at zero.
template <typename Account>
Time run_streams(const std::vector<std::pair<const BlockPrice*, int>>& runs,
                 Account& account) {
  std::vector<const BlockPrice*> blocks;
  for (const auto& [block, count] : runs) {
    blocks.insert(blocks.end(), static_cast<std::size_t>(count), block);
  }
  Streams streams;
  Time block_end;  // of the block before
  if (!blocks.empty()) streams.prefetch(*blocks[0], {});
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    streams.take_prefetched();
    if (i + 1 < blocks.size()) streams.prefetch(*blocks[i + 1], block_end);
    streams.run(*blocks[i], account);
    block_end = streams.free(schedule::Stream::compute);
  }
  return streams.drain(account);
}

}  // namespace troupe::sim
