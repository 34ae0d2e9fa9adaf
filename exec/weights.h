// A rank's parameters, their gradients and their optimizer state.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "exec/program.h"

namespace troupe::exec {

/// What AdamW is told.
struct Training {
  double rate = 1e-3, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, decay = 0.1;
  double clip = 1.0;  ///< largest norm of all gradients; 0: none
  bool operator==(const Training&) const = default;
};

/// Initial value of an element of a parameter, a function of seed, name and
/// index alone: every layout starts from the same numbers.
///
/// Model: matrices and tables are normal with deviation 1 / (2 sqrt(columns)),
///        scales 1, biases 0.
double initial_value(const models::Parameter& parameter, std::int64_t index,
                     std::uint64_t seed);

/// What is kept of a parameter between steps.
enum class State : std::uint8_t { master, m, v };
inline constexpr std::array kStates{State::master, State::m, State::v};

/// Where a run begins: the value of an element of a parameter's state. Called
/// by several threads at a time.
using Values = std::function<double(const models::Parameter& parameter,
                                    State state, std::int64_t index)>;
/// The start of training from a seed: `initial_value`, and moments of zero.
Values initial_values(std::uint64_t seed);

/// Writes a state's values into all of a storage, rounded as the optimizer
/// rounds: first to its own type, then to the storage's.
Result<void> fill_storage(Device& device, const models::Parameter& parameter,
                          State state, const Values& values, const Storage& to);

/// Gradients on their way to sums that are kept here. This rank's own are added
/// as they are made; the others' apart, in an order that the schedule alone
/// decides, so that every run has the same bits.
struct Arrivals {
  std::vector<int> expected;  ///< in a step, by peer of `Sharing::takes`
  std::vector<int> taken;
  OwnedStorage others;  ///< their sum, while a step runs
};

/// A parameter of which this rank holds something.
struct HeldWeight {
  const Weight* weight = nullptr;
  Tag tag = 0;
  /// Inside the blocks' tensors; nothing while it is gathered (scattered).
  Storage compute, gradient;
  OwnedStorage master, m, v, sum, copy;  ///< in the optimizer layout
  const Share* share = nullptr;
  Arrivals arrivals;

  /// The parameter in its own type, as it is between steps.
  Storage& resident() { return weight->gathered ? copy.storage : compute; }
  const Storage& state(State which) const;
  Storage& state(State which) {
    return const_cast<Storage&>(std::as_const(*this).state(which));
  }
};

class Weights {
 public:
  Weights(const Program& program, RankId rank, Device& device)
      : program_(program), rank_(rank), device_(device) {}

  /// Makes all memory and fills parameters and their states.
  Result<void> initialise(const Values& values);

  /// A block's parameter or gradient; null when the rank has no such.
  std::byte* parameter(int layer, const std::string& name) const;
  std::byte* gradient(int layer, const std::string& name) const;

  /// ZeRO 3: a block's tensor, brought together from those who keep it.
  Result<Buffer> gathered(const schedule::Tensor& tensor, int layer,
                          Communicator& communicator);
  /// ZeRO 2 and 3: sends a block's gradients to those who keep their sums, and
  /// adds what has come in of the same parameters.
  Result<void> give(const schedule::Tensor& tensor, int layer,
                    std::byte* gradient, Communicator& communicator);
  /// Before the first gather or gift of a step: nothing has come yet.
  Result<void> begin_sharing();
  /// What others may read, by name.
  std::vector<std::pair<Tag, std::span<const std::byte>>> shelf() const;

  /// Sums gradients over all ranks into the optimizer layout, then zeroes the
  /// blocks' gradients; waits for those that are still on their way.
  Result<void> reduce(Communicator& communicator);
  /// Sum of squares of the gradients that this rank counts.
  Result<double> square_sum();
  /// One AdamW step with gradients scaled by `factor`; `step` counts from 1.
  Result<void> update(const Training& training, double factor,
                      std::int64_t step);
  /// New parameters from the optimizer layout to the compute layout.
  Result<void> gather(Communicator& communicator);
  /// Rounds master parameters, so that they can be gathered.
  Result<void> round_masters();
  /// Makes the summed gradients zero.
  Result<void> clear_sums();
  /// Gathers after master parameters were replaced: rounds them first.
  Result<void> publish(Communicator& communicator);

  /// What this rank holds of parameter number `index` of the program; null
  /// when nothing.
  HeldWeight* find(std::size_t index);
  std::vector<HeldWeight>& held() { return held_; }
  const std::vector<HeldWeight>& held() const { return held_; }
  reshard::DeviceId device_id() const {
    return program_.schedule.rank(rank_).device;
  }

 private:
  using Key = std::pair<int, std::string>;
  Result<void> make_tensor(const schedule::Tensor& tensor, int layer);
  Result<void> make_states();
  Result<void> fill(const HeldWeight& held, const Values& values);
  HeldWeight& held_of(const std::string& name);
  void expect_arrivals();
  /// Where a block's tensor holds which of its parameters' boxes.
  struct TensorPart {
    HeldWeight* held = nullptr;
    Storage storage;
  };
  Result<std::vector<TensorPart>> lay_out(const schedule::Tensor& tensor,
                                          int layer, std::byte* at);
  Result<void> read_shards(const HeldWeight& held, const Storage& to,
                           Communicator& communicator);
  Result<void> send_gradients(HeldWeight& held, const Storage& gradient,
                              Communicator& communicator);
  std::size_t own_giver(const HeldWeight& held) const;
  Result<void> add_boxes(const Peer& peer, const Buffer& packed,
                         const Storage& to);
  Result<void> take(HeldWeight& held, bool waits, Communicator& communicator);
  Result<bool> take_one(HeldWeight& held, std::size_t giver, bool waits,
                        Communicator& communicator);
  Result<void> take_rest(HeldWeight& held, Communicator& communicator);

  const Program& program_;
  RankId rank_;
  Device& device_;
  std::map<Key, Buffer> parameters_, gradients_;
  std::map<std::string, std::size_t> index_;  ///< in program_.weights
  std::map<std::string, std::size_t> held_index_;
  std::vector<HeldWeight> held_;
};

}  // namespace troupe::exec
