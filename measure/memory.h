// Where the operands of one measurement after another lie: one array of the
// machine, filled there, so that gigabytes cost milliseconds on a GPU.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "measure/machine.h"
#include "measure/operands.h"

namespace troupe::measure {

/// Seconds since some moment.
using Timer = std::function<double()>;
Timer steady_timer();

/// A call with operands of its own, ready to run.
class Memory {
 public:
  explicit Memory(Machine& machine, Timer clock = steady_timer());

  /// Learns what placing takes, so that `expected_s` knows something.
  Result<void> learn();

  /// Bytes of one set of a plan's operands as they are laid out.
  static Bytes size_of(const CallPlan& plan);

  /// `sets` calls of the plan, each with operands of its own. Operands placed
  /// before are gone.
  ///
  /// Errors: unavailable when memory is short; interrupted.
  Result<std::vector<kernels::Call>> place(const CallPlan& plan, int sets);
  /// One call of each plan.
  Result<std::vector<kernels::Call>> place(const std::vector<CallPlan>& plans);

  /// Seconds that placing so many bytes will take, by what it took so far.
  double expected_s(Bytes size) const;

 private:
  Result<std::byte*> begin(Bytes size);
  Result<void> end(Bytes size);
  Result<kernels::Call> fill_set(const CallPlan& plan, std::byte* at);
  Result<void> fill(const Operand& operand, std::byte* at, int turn);
  Result<const std::byte*> pattern(Fill fill, kernels::DType dtype);
  Result<void> double_up(std::byte* at, Bytes have, Bytes size);

  Machine& machine_;
  Timer clock_;
  std::unique_ptr<Array> array_;
  Bytes room_;   ///< of the array
  Bytes fresh_;  ///< of what is being placed: never touched before
  double began_ = 0;
  /// Bytes and seconds of filling: memory known to the system, and new one.
  struct Rate {
    double bytes = 0, seconds = 0;
    double of(double size) const {
      return bytes > 0 ? size / bytes * seconds : 0;
    }
  };
  Rate filled_, touched_;
  std::map<std::pair<Fill, kernels::DType>, std::unique_ptr<Array>> patterns_;
};

}  // namespace troupe::measure
