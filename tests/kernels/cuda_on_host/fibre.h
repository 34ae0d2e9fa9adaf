// Stacks that can be left and entered again, without system calls on x86-64.
#pragma once

#include <cstddef>
#include <memory>

namespace troupe::on_host {

/// A stack running `main(argument)`, which must never return. `enter` goes
/// there until it calls `leave`. Known to AddressSanitizer.
class Fibre {
 public:
  Fibre(void (*main)(void*), void* argument);
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  void enter();
  void leave();
  /// Forgets what ran; the next `enter` starts `main` anew.
  void reset();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe::on_host
