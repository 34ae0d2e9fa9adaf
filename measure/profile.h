// The profiler: measures what a range of models needs into the database,
// within a time budget, and goes on where an earlier run stopped.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "measure/links.h"
#include "measure/sampler.h"
#include "measure/timing.h"
#include "profiles/database.h"

namespace troupe::measure {

struct ProfileOptions {
  Range range;
  /// Of wall time, measured from the call. Nothing is begun that is not
  /// expected to end within.
  double budget_s = 480;
  double accuracy = 0.02;   ///< operators expected to be this well known rest
  std::string source = {};  ///< of the rows; else made from the machine
  bool operators = true;    ///< and ceilings and layers
  bool layers = true;
  bool copies = true;            ///< in memory, with the host, between devices
  LinkMachine* links = nullptr;  ///< null: one device
  std::filesystem::path choices = {};  ///< file; empty: not kept
  Timer clock = {};                    ///< empty: the machine's steady clock
};

struct MeasuredOperator {
  Wanted wanted;  ///< without a name where this range does not want it
  OperatorTiming timing;
  bool known = false;  ///< read back: an earlier run of this source did it
  /// Achieved of the ceilings, 0 to 1. Of bandwidth only where the operands
  /// come from memory.
  std::optional<double> matrix_share = {}, memory_share = {};
};

/// A layer run as a whole beside the sum of its operators.
struct MeasuredLayer {
  std::string model;
  profiles::LayerKey key;
  Timing whole;
  bool known = false;     ///< an earlier run of this source did it
  double cold_sum_s = 0;  ///< of operators whose operands come from memory
  std::optional<double> warm_sum_s = {};  ///< where all are known warm
  int guessed = 0;  ///< operators in the sums that were not measured
};

/// An operator that cannot be measured here.
struct Refusal {
  std::string what, reason;
};

struct ProfileReport {
  MachineInfo machine;
  std::string source;
  /// The best that was seen, operators included.
  std::optional<Ceilings> ceilings;
  Clocks clocks;
  /// Those read back, then the others in the order of measuring.
  std::vector<MeasuredOperator> operators;
  std::vector<MeasuredLayer> layers;  ///< likewise
  LinkReport links;

  // What became of the operators of the range; the sum is `wanted`.
  std::size_t wanted = 0;
  std::size_t measured = 0;         ///< in this run
  std::size_t remembered = 0;       ///< in earlier runs of this source
  std::size_t within_accuracy = 0;  ///< well enough known without
  std::size_t too_large = 0;        ///< for this machine's memory
  std::size_t not_reached = 0;      ///< no time: the next run goes on there
  std::vector<Refusal> refused;

  std::size_t layers_left = 0;  ///< of the range, not measured
  /// Of the whole range's time, relative: of all that is wanted, measured or
  /// not.
  double expected_error = 0;
  double elapsed_s = 0;
  bool interrupted = false;
  std::string failure;  ///< of the machine, which ended the run; else empty
  std::vector<std::string> notes;
};

/// Measures ceilings, copies and links, operators (those first by which most
/// is learned in a second) and whole layers.
/// Rows are stored in batches of a few seconds, each in one transaction.
/// An interruption or a machine that breaks ends it early: what was measured
/// is stored and reported.
///
/// Errors: from the database, or when not even ceilings can be measured.
Result<ProfileReport> profile(Machine& machine, profiles::Database& database,
                              const ProfileOptions& options,
                              const Watch& watch = {});

}  // namespace troupe::measure
