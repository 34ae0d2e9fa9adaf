// Runs a grid on the CPU: the threads of a block are fibres that switch at
// barriers and at what a warp does together; blocks run one after another.
// One grid at a time per process.
//
// Found and reported as an error: a barrier or a warp instruction that not
// all of its threads reach, lanes that do not exist, misaligned matrix rows
// and copies. Shared memory starts as NaN in every block and is allocated
// exactly, so that AddressSanitizer sees a step outside. Threads run in an
// order that a test can choose: a missing barrier shows as a result that
// depends on it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>

#include "base/result.h"
#include "kernels/cuda/device.h"

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)
      : x(x_), y(y_), z(z_) {}
};

namespace troupe::on_host {

/// threadIdx and its kin, of the thread that is running.
struct Where {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern Where where;

/// The order in which the threads of a block get their turn.
enum class Order : std::uint8_t { forward, backward, shuffled };
void set_order(Order order, std::uint64_t seed = 0);

/// Blocks, threads and switches since the start, to see what tests cost.
struct Counts {
  std::int64_t grids = 0, blocks = 0, switches = 0;
};
Counts counts();

Result<void> run_grid(dim3 grid, dim3 block, std::size_t shared,
                      std::size_t shared_limit, void (*entry)(void*),
                      void* arguments);

/// Ends the grid with an error; called by a running thread only.
[[noreturn]] void stop(const char* what);

/// Waits for the whole block; returns how many gave `vote`.
int barrier(bool vote = false);

/// What the lanes of `mask` do together: each gives `size` bytes, `finish`
/// turns all of them into what each gets.
struct Lanes {
  static constexpr std::size_t kBytes = 64;
  std::uint32_t mask = 0;
  std::array<std::array<unsigned char, kBytes>, 32> in{}, out{};
};
using Finish = void (*)(Lanes&);
void together(std::uint32_t mask, const void* in, std::size_t in_size,
              void* out, std::size_t out_size, Finish finish);

/// This thread's lane, 0 to 31.
int lane();

/// Memory of the block, the same for every thread that asks at one site.
void* static_shared(const void* site, std::size_t bytes);
void* dynamic_shared();

/// Background copies of this thread; done when waited for, not before.
void copy_async(void* shared, const void* global, bool valid);
void copy_async_commit();
void copy_async_wait(int newest);

template <typename... P, typename... A>
Result<void> start(void (*kernel)(P...), dim3 grid, dim3 block,
                   std::size_t shared, const kernels::cuda::Device& device,
                   A... arguments) {
  struct Packed {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
  } packed{kernel, {static_cast<P>(arguments)...}};
  return run_grid(
      grid, block, shared, device.shared_limit,
      [](void* all) {
        auto* p = static_cast<Packed*>(all);
        std::apply(p->kernel, p->arguments);
      },
      &packed);
}

}  // namespace troupe::on_host
