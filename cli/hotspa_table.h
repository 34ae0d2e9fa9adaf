// What `troupe hotspa` prints.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "runs/hotspa.h"
#include "runs/switch_gain.h"

namespace troupe::cli {

/// One experiment, done or failed.
struct HotRow {
  const runs::HotConfiguration* configuration = nullptr;
  const runs::LengthLaw* corpus = nullptr;
  runs::HotResult result;
  std::string error;  ///< empty when it was performed
};

std::string hotspa_text(const std::vector<HotRow>& rows);
Json hotspa_json(const std::vector<HotRow>& rows);
/// A line for each experiment.
std::string hotspa_csv(const std::vector<HotRow>& rows);

std::string gain_text(const std::vector<runs::ShapeGain>& gains);
Json gain_json(const std::vector<runs::ShapeGain>& gains);
std::string gain_csv(const std::vector<runs::ShapeGain>& gains);

}  // namespace troupe::cli
