// Switch plans kept in files, so that a second run does not plan again. One
// file for each plan, named by the hash of everything the plan follows from.
// Several processes may use a folder: files are written whole or not at all.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "reshard/switch.h"

namespace troupe::reshard {

/// Goes up when `plan_switch` answers otherwise than before or the file
/// changes, so that old files are not found any more.
inline constexpr int kPlanVersion = 1;

/// Hash of what a switch plan follows from: layouts, shape and type of every
/// tensor in order, the cluster's devices, links and rates, the options, and
/// kPlanVersion. Names of tensors and of the cluster do not matter.
std::string switch_key(std::span<const TensorChange> changes,
                       const Routes& routes, const SwitchOptions& options);

/// Where a plan came from.
enum class Origin : std::uint8_t {
  planned,    ///< made now; without a cache nothing is kept
  cached,     ///< read from its file
  replanned,  ///< its file was damaged, and is replaced
};
std::string_view name_of(Origin origin);

struct CachedPlan {
  SwitchPlan plan;
  std::string key;
  Origin origin = Origin::planned;
};

/// What a file says of itself in its first line, which is JSON.
struct PlanFile {
  std::string key;
  Json head;            ///< tensors, bytes, buckets, predicted time, ...
  std::string problem;  ///< what is wrong with it; empty when it is sound
};

/// A folder of plans. Copies share the folder.
class PlanCache {
 public:
  /// Nothing is read or made yet.
  explicit PlanCache(std::filesystem::path folder)
      : folder_(std::move(folder)) {}

  /// The plan from its file, or planned and kept. A file that cannot be
  /// written costs the next run its time, not this one its answer.
  ///
  /// Errors: as `plan_switch`.
  Result<CachedPlan> switch_plan(std::span<const TensorChange> changes,
                                 const Routes& routes,
                                 const SwitchOptions& options) const;

  /// All files in the order of their names, each checked whole.
  std::vector<PlanFile> list() const;
  /// Removes all plans; returns how many there were.
  std::size_t clear() const;
  std::filesystem::path path_of(const std::string& key) const;

 private:
  std::filesystem::path folder_;
};

/// With a cache or, when it is null, without.
Result<CachedPlan> switch_plan(const PlanCache* cache,
                               std::span<const TensorChange> changes,
                               const Routes& routes,
                               const SwitchOptions& options);

/// The text of a file: a line of JSON, then numbers.
std::string pack(const SwitchPlan& plan, const std::string& key);
/// Errors: input, for anything that `pack` would not write.
Result<SwitchPlan> unpack(std::string_view text, const std::string& key);

}  // namespace troupe::reshard
