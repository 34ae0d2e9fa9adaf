// Device kinds: the shipped ones (clusters/devices/nvidia.json) and those
// that a cluster file defines or overrides. Dense peaks only.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "clusters/cluster.h"

namespace troupe::clusters {

/// Known kinds in the order of their file, with the other names they go by.
struct KindTable {
  std::vector<DeviceKind> kinds;
  std::vector<std::pair<std::string, std::string>> aliases;  ///< other, name

  /// By name or alias, letter case ignored; null when unknown.
  const DeviceKind* find(std::string_view name) const;
  std::vector<std::string> names() const;
};

/// The shipped kinds.
///
/// Errors: input, when the shipped file is missing or broken.
[[nodiscard]] Result<KindTable> shipped_kinds();

/// The shipped kind of that name ("h100-sxm", also "H100").
///
/// Errors: input, naming the closest.
[[nodiscard]] Result<DeviceKind> read_kind(std::string_view name);

/// "unknown device kind 'x' (did you mean 'y'?); known: ...".
std::string unknown_kind(std::string_view name, const KindTable& table);

/// Reads the object of one kind. `base` gives what is not said; without one
/// `peak_tflops`, memory and its bandwidth are required.
DeviceKind parse_kind(JsonObject& object, std::string name,
                      const DeviceKind* base);

/// Reports every peak that is twice the dense peak of a shipped kind: an
/// error for the kind itself, its base and its family ("h100-4" is of the
/// family of "h100-pcie"), a line in `warnings` for any other.
void refuse_sparse_peaks(const DeviceKind& kind, std::string_view base,
                         const KindTable& shipped, const std::string& where,
                         Findings& findings,
                         std::vector<std::string>& warnings);

}  // namespace troupe::clusters
