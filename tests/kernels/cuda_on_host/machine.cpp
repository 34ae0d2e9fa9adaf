#include "tests/kernels/cuda_on_host/machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/cuda_on_host/fibre.h"

namespace troupe::on_host {

Where where;

namespace {

constexpr unsigned kMostThreads = 1024;
// As CUDA's: what a block may use without asking for more.
constexpr std::size_t kStaticLimit = 48 << 10;
constexpr unsigned char kPoison = 0xFF;  // a NaN in every float type

enum class State : std::uint8_t { ready, at_barrier, in_warp, finished };

struct Copy {
  void* to = nullptr;
  const void* from = nullptr;
  bool valid = false;
};

struct Thread {
  std::unique_ptr<Fibre> fibre;
  State state = State::finished;
  uint3 index;
  std::vector<std::vector<Copy>> groups;  // the last one is open
};

struct Meeting {
  Finish finish = nullptr;
  std::uint32_t mask = 0, arrived = 0;
};

struct Warp {
  Lanes lanes;
  std::vector<Meeting> meetings;
};

struct Memory {
  const void* site = nullptr;
  std::size_t bytes = 0;
  void* at = nullptr;
};

struct Machine {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::vector<Memory> shared;
  Memory dynamic;
  void (*entry)(void*) = nullptr;
  void* arguments = nullptr;
  unsigned count = 0, running = 0, waiting = 0;
  int votes = 0, last_votes = 0;
  std::string fault;
  Order order = Order::forward;
  std::mt19937_64 random;
  Counts counts;
};

Machine& machine() {
  static Machine instance;
  return instance;
}

Thread& current() { return *machine().threads[machine().running]; }

// Runs the kernel once for every block that this thread is part of.
void thread_main(void* self) {
  auto& thread = *static_cast<Thread*>(self);
  for (;;) {
    machine().entry(machine().arguments);
    thread.state = State::finished;
    thread.fibre->leave();
  }
}

void wait() { current().fibre->leave(); }

Memory allocate(const void* site, std::size_t bytes) {
  Memory memory{site, bytes, nullptr};
  if (posix_memalign(&memory.at, 128, std::max<std::size_t>(bytes, 1)) != 0) {
    std::abort();
  }
  std::memset(memory.at, kPoison, bytes);
  return memory;
}

void set_up(dim3 block) {
  Machine& m = machine();
  m.count = block.x * block.y * block.z;
  while (m.threads.size() < m.count) {
    m.threads.push_back(std::make_unique<Thread>());
    Thread* thread = m.threads.back().get();
    thread->fibre = std::make_unique<Fibre>(&thread_main, thread);
  }
  m.warps.assign((m.count + 31) / 32, Warp{});
  for (unsigned t = 0; t < m.count; ++t) {
    m.threads[t]->index = {t % block.x, t / block.x % block.y,
                           t / (block.x * block.y)};
  }
}

std::string deadlock() {
  const Machine& m = machine();
  std::array<int, 4> in{};
  std::array<unsigned, 4> first{};
  for (unsigned t = 0; t < m.count; ++t) {
    const auto s = static_cast<std::size_t>(m.threads[t]->state);
    if (in[s]++ == 0) first[s] = t;
  }
  const auto part = [&](State state, const char* what) {
    const auto s = static_cast<std::size_t>(state);
    if (in[s] == 0) return std::string();
    return " " + std::to_string(in[s]) + " threads " + what + " (first " +
           std::to_string(first[s]) + ")";
  };
  return "deadlock:" + part(State::at_barrier, "at a barrier") +
         part(State::in_warp, "in a warp instruction") +
         part(State::finished, "finished");
}

// Every thread until all have finished; false on a fault.
bool run_block() {
  Machine& m = machine();
  std::vector<unsigned> turn(m.count);
  for (unsigned t = 0; t < m.count; ++t) {
    turn[t] = m.order == Order::backward ? m.count - 1 - t : t;
    m.threads[t]->state = State::ready;
    m.threads[t]->groups.assign(1, {});
  }
  m.waiting = 0;
  m.votes = 0;
  for (bool any = true; any;) {
    any = false;
    if (m.order == Order::shuffled) {
      std::shuffle(turn.begin(), turn.end(), m.random);
    }
    for (const unsigned t : turn) {
      if (m.threads[t]->state != State::ready) continue;
      any = true;
      m.running = t;
      where.thread = m.threads[t]->index;
      ++m.counts.switches;
      m.threads[t]->fibre->enter();
      if (!m.fault.empty()) return false;
    }
  }
  for (unsigned t = 0; t < m.count; ++t) {
    if (m.threads[t]->state == State::finished) continue;
    m.fault = deadlock();
    return false;
  }
  return true;
}

void free_shared() {
  Machine& m = machine();
  for (const Memory& memory : m.shared) std::free(memory.at);
  m.shared.clear();
  std::free(m.dynamic.at);
  m.dynamic = {};
}

Result<void> sizes_ok(dim3 grid, dim3 block, std::size_t shared,
                      std::size_t limit) {
  const auto threads = static_cast<std::uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || block.z > 64) {
    return fail(Fault::input, "a block of " + std::to_string(threads) +
                                  " threads does not exist");
  }
  if (grid.y > 65535 || grid.z > 65535 || grid.x > 0x7FFFFFFFU) {
    return fail(Fault::input, "grid beyond the limits of CUDA");
  }
  if (shared > limit) {
    return fail(Fault::input, std::to_string(shared) +
                                  " bytes of shared memory are over " +
                                  std::to_string(limit));
  }
  return {};
}

}  // namespace

void set_order(Order order, std::uint64_t seed) {
  machine().order = order;
  machine().random.seed(seed);
}

Counts counts() { return machine().counts; }

Result<void> run_grid(dim3 grid, dim3 block, std::size_t shared,
                      std::size_t shared_limit, void (*entry)(void*),
                      void* arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  TRY_DO(sizes_ok(grid, block, shared, shared_limit));
  Machine& m = machine();
  m.entry = entry;
  m.arguments = arguments;
  m.fault.clear();
  set_up(block);
  where.block_size = block;
  where.grid_size = grid;
  ++m.counts.grids;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        where.block = {x, y, z};
        ++m.counts.blocks;
        m.dynamic = allocate(nullptr, shared);
        const bool ok = run_block();
        free_shared();
        if (ok) continue;
        for (auto& thread : m.threads) thread->fibre->reset();
        return fail(Fault::input, "block " + std::to_string(x) + "," +
                                      std::to_string(y) + "," +
                                      std::to_string(z) + ": " + m.fault);
      }
    }
  }
  return {};
}

void stop(const char* what) {
  Machine& m = machine();
  m.fault = "thread " + std::to_string(m.running) + ": " + what;
  wait();
  std::abort();
}

int barrier(bool vote) {
  Machine& m = machine();
  m.votes += vote ? 1 : 0;
  current().state = State::at_barrier;
  if (++m.waiting == m.count) {
    for (unsigned t = 0; t < m.count; ++t) m.threads[t]->state = State::ready;
    m.waiting = 0;
    m.last_votes = m.votes;
    m.votes = 0;
  }
  wait();
  return m.last_votes;
}

int lane() { return static_cast<int>(machine().running % 32); }

void together(std::uint32_t mask, const void* in, std::size_t in_size,
              void* out, std::size_t out_size, Finish finish) {
  Machine& m = machine();
  const unsigned me = m.running % 32, first = m.running - me;
  Warp& warp = m.warps[m.running / 32];
  if ((mask >> me & 1U) == 0) stop("a lane is not in the mask it gives");
  if (m.count - first < 32 && mask >> (m.count - first) != 0) {
    stop("a mask names lanes that do not exist");
  }
  std::memcpy(warp.lanes.in[me].data(), in, in_size);
  auto meeting = std::find_if(
      warp.meetings.begin(), warp.meetings.end(), [&](const Meeting& other) {
        return other.mask == mask && other.finish == finish;
      });
  if (meeting == warp.meetings.end()) {
    warp.meetings.push_back({finish, mask, 0});
    meeting = warp.meetings.end() - 1;
  }
  meeting->arrived |= 1U << me;
  current().state = State::in_warp;
  if (meeting->arrived == mask) {
    warp.meetings.erase(meeting);
    warp.lanes.mask = mask;
    finish(warp.lanes);
    for (unsigned l = 0; l < 32; ++l) {
      if ((mask >> l & 1U) != 0) m.threads[first + l]->state = State::ready;
    }
    // The last to arrive goes on at once, as long as its turn lasts.
  } else {
    wait();
  }
  current().state = State::ready;
  std::memcpy(out, warp.lanes.out[me].data(), out_size);
}

void* static_shared(const void* site, std::size_t bytes) {
  Machine& m = machine();
  std::size_t sum = bytes;
  for (const Memory& memory : m.shared) {
    if (memory.site == site) return memory.at;
    sum += memory.bytes;
  }
  if (sum > kStaticLimit) stop("over 48 KiB of shared arrays");
  m.shared.push_back(allocate(site, bytes));
  return m.shared.back().at;
}

void* dynamic_shared() { return machine().dynamic.at; }

void copy_async(void* shared, const void* global, bool valid) {
  const auto bits = reinterpret_cast<std::uintptr_t>(shared) |
                    (valid ? reinterpret_cast<std::uintptr_t>(global) : 0);
  if (bits % 16 != 0) stop("a background copy is not aligned to 16 bytes");
  std::memset(shared, kPoison, 16);  // nobody may read it yet
  current().groups.back().push_back({shared, global, valid});
}

void copy_async_commit() { current().groups.emplace_back(); }

void copy_async_wait(int newest) {
  auto& groups = current().groups;
  const std::size_t keep = static_cast<std::size_t>(newest) + 1;
  if (groups.size() <= keep) return;
  const auto done = static_cast<std::ptrdiff_t>(groups.size() - keep);
  for (auto group = groups.begin(); group != groups.begin() + done; ++group) {
    for (const Copy& copy : *group) {
      if (copy.valid) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
  }
  groups.erase(groups.begin(), groups.begin() + done);
}

}  // namespace troupe::on_host
