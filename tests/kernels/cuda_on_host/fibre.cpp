#include "tests/kernels/cuda_on_host/fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#include "base/fibre_switch.h"
#include "base/sanitizers.h"

#if defined(TROUPE_ASAN)
#include <sanitizer/asan_interface.h>
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace troupe::on_host {
namespace {

constexpr std::size_t kStack = (128U << 10) * kFrameGrowth;

}  // namespace

#if defined(__x86_64__)
// Saves what a call must preserve on the stack, and swaps stacks.
extern "C" void troupe_switch_stack(void** save, void* load);
asm(R"(
.text
.globl troupe_switch_stack
.type troupe_switch_stack, @function
troupe_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size troupe_switch_stack, .-troupe_switch_stack
)");
#endif

struct Fibre::State {
  void (*main)(void*) = nullptr;
  void* argument = nullptr;
  unsigned char* stack = nullptr;
#if defined(__x86_64__)
  void* inside = nullptr;
  void* outside = nullptr;
#else
  ucontext_t inside{}, outside{};
#endif
  FibreSwitch switched;
  bool started = false;

  static State* starting;
  static void begin() {
    State* self = starting;
    self->switched.entered();
    self->main(self->argument);
    std::abort();
  }
};

Fibre::State* Fibre::State::starting = nullptr;

Fibre::Fibre(void (*main)(void*), void* argument)
    : state_(std::make_unique<State>()) {
  state_->main = main;
  state_->argument = argument;
  void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  state_->stack = static_cast<unsigned char*>(memory);
  reset();
}

Fibre::~Fibre() {
#if defined(TROUPE_ASAN)
  __asan_unpoison_memory_region(state_->stack, kStack);
#endif
  munmap(state_->stack, kStack);
}

void Fibre::reset() {
  State& s = *state_;
  s.started = false;
  s.switched = FibreSwitch(s.stack, kStack);
#if defined(TROUPE_ASAN)
  __asan_unpoison_memory_region(s.stack, kStack);
#endif
#if defined(__x86_64__)
  // Six saved registers, the address to return to, and one word so that the
  // stack is aligned as after a call.
  auto** top = reinterpret_cast<void**>(s.stack + kStack) - 8;
  for (int i = 0; i < 8; ++i) top[i] = nullptr;
  top[6] = reinterpret_cast<void*>(&State::begin);
  s.inside = top;
#else
  getcontext(&s.inside);
  s.inside.uc_stack.ss_sp = s.stack;
  s.inside.uc_stack.ss_size = kStack;
  s.inside.uc_link = nullptr;
  makecontext(&s.inside, &State::begin, 0);
#endif
}

void Fibre::enter() {
  State& s = *state_;
  if (!s.started) {
    s.started = true;
    State::starting = &s;
  }
  s.switched.entering();
#if defined(__x86_64__)
  troupe_switch_stack(&s.outside, s.inside);
#else
  swapcontext(&s.outside, &s.inside);
#endif
  s.switched.left();
}

void Fibre::leave() {
  State& s = *state_;
  s.switched.leaving();
#if defined(__x86_64__)
  troupe_switch_stack(&s.inside, s.outside);
#else
  swapcontext(&s.inside, &s.outside);
#endif
  s.switched.entered();
}

}  // namespace troupe::on_host
