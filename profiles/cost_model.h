// The cost model of a cluster's device kinds, made from a database.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "profiles/calibration.h"
#include "profiles/cost.h"
#include "profiles/database.h"

namespace troupe::profiles {

/// Reads the rows of `kinds` and fits their curves.
///
/// Model:  An operator is measured (by the newest source that measured it),
///         else interpolated along one size (between rows of the newest
///         source that covers it; sources are not mixed), else from the
///         nearest measured end it goes on in proportion to the roofline,
///         else roofline alone. A kind without rows of an operator
///         class takes the curve of its board, else of its architecture,
///         else the median of all; `notes` says so.
/// Errors: io or input from the database.
Result<std::unique_ptr<CostModel>> load_cost_model(
    const Database& database, std::span<const clusters::DeviceKind> kinds);

/// The curves of a kind, for reports: fitted or borrowed as above.
Result<Curves> curves_of(const Database& database,
                         const clusters::DeviceKind& kind);

}  // namespace troupe::profiles
