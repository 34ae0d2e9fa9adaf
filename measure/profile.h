// The profiler: measures what a range of models needs into the database,
// within a time budget, and goes on where an earlier run stopped.
#pragma once

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
  double budget_s = 480;    ///< of wall time, measured from the call
  double accuracy = 0.02;   ///< operators expected to be this well known rest
  std::string source = {};  ///< of the rows; else made from the machine
  bool operators = true;    ///< and ceilings and layers
  bool layers = true;
  bool copies = true;            ///< in memory, with the host, between devices
  LinkMachine* links = nullptr;  ///< null: one device
};

struct MeasuredOperator {
  Wanted wanted;
  OperatorTiming timing;
  double matrix_share = 0;  ///< achieved of the matrix ceiling, 0 to 1
  double memory_share = 0;  ///< achieved of the copy bandwidth
};

/// A layer run as a whole beside the sum of its operators.
struct MeasuredLayer {
  std::string model;
  profiles::LayerKey key;
  Timing whole;
  double cold_sum_s = 0;  ///< of operators whose operands come from memory
  double warm_sum_s = 0;
  int guessed = 0;  ///< operators in the sums that were not measured
};

struct ProfileReport {
  MachineInfo machine;
  std::string source;
  std::optional<Ceilings> ceilings;         ///< with operators
  std::vector<MeasuredOperator> operators;  ///< in the order of measuring
  std::vector<MeasuredLayer> layers;
  LinkReport links;
  int remembered = 0;  ///< operators that the database knew from this source
  int skipped = 0;     ///< too large for this machine
  std::size_t left = 0;
  double expected_error = 0;  ///< of the whole range's time
  double elapsed_s = 0;
  bool interrupted = false;
  std::vector<std::string> notes;
};

/// Measures ceilings, copies and links, operators (worst known first) and
/// whole layers.
/// Rows are stored in batches of a few seconds, each in one transaction.
///
/// Errors: from the machine and the database; what was stored stays.
Result<ProfileReport> profile(Machine& machine, profiles::Database& database,
                              const ProfileOptions& options,
                              const Watch& watch = {});

/// The two ceilings of a machine, from large products and large copies.
Result<Ceilings> measure_ceilings(Machine& machine, kernels::DType dtype);

}  // namespace troupe::measure
