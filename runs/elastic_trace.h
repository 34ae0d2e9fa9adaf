// An elastic run as a person writes it: a cluster, what happens to it and
// when, and the strategies there are (FORMAT.md, "troupe.trace/1").
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "clusters/cluster.h"
#include "models/model.h"
#include "strategy/strategy.h"

namespace troupe::runs {

using clusters::DeviceId;
using clusters::LinkId;

/// A strategy that may apply: one phase, with the trace's device numbers.
struct Candidate {
  std::string name;
  strategy::Strategy strategy;    ///< with exactly one phase
  std::vector<DeviceId> devices;  ///< that it uses, ascending
  const strategy::Phase& phase() const { return strategy.phases.front(); }
};

enum class EventKind : std::uint8_t { lost, slowed, back };
std::string_view name_of(EventKind kind);

/// Something that happens to devices or links, or to both.
struct Event {
  Time at;
  std::string name;  ///< of the user, or empty
  EventKind kind = EventKind::lost;
  std::vector<DeviceId> devices;  ///< also those of nodes, ascending
  std::vector<LinkId> links;
  double factor = 1;      ///< slowed: of its first speed, 1 is healthy
  int strategy = -1;      ///< that applies from now on; -1: by the rule
  std::string where;      ///< in the file, for messages
  std::string what = {};  ///< "device 31", "node3/nic0", for people
};

struct CheckpointOptions {
  std::int64_t every_steps = 0;
  Bandwidth write, read;  ///< of the whole storage
  Time latency;           ///< of one save or one load
};

/// How the strategy after an event is chosen when it names none.
enum class Choose : std::uint8_t {
  fastest,  ///< most tokens a second by simulation, of those that fit
  first,    ///< the first of the list that fits
};

/// What a run assumes beside its events. The defaults of the times are
/// assumptions, not measurements; FORMAT.md says where they come from.
struct Options {
  Time detection = seconds(10);
  Time regroup = seconds(20);   ///< processes stay: new groups and kernels
  Time restart = seconds(180);  ///< everything is started again
  std::optional<CheckpointOptions> checkpoint;
  int peers = 0;  ///< copies of every state on devices of other nodes
  Bytes bucket;   ///< most that a device packs at a time; 0: no limit
  Choose choose = Choose::fastest;
  /// Besides the trace's strategies, every way of equal pipelines on the
  /// devices there are may be chosen.
  bool equal_pipelines = false;
};

struct Trace {
  std::string name, source;
  models::Model model;
  clusters::Cluster cluster;
  std::vector<Candidate> strategies;
  std::vector<DeviceId> absent;  ///< that come later, ascending
  int start = -1;                ///< first strategy; -1: by the rule
  std::vector<Event> events;     ///< ascending in time
  Time until;
  Options options;
  std::vector<std::string> warnings;
};

/// Longest run; far below where picoseconds overflow.
inline constexpr double kMostSeconds = 30.0 * 86400;

/// Fields set before anything is read: {"options.peers", "1"}.
using Overrides = std::vector<std::pair<std::string, std::string>>;

/// Whether a file, or a shipped one of that name, says that it is a trace.
bool is_trace(std::string_view path_or_name);

/// Reads a trace by path or the name of a shipped one (examples/elastic).
///
/// Errors: input, all problems together: of the file, of its strategies, and
///         events that cannot happen (a device that is lost twice, a strategy
///         whose device is not there, times that do not increase).
[[nodiscard]] Result<Trace> load_trace(std::string_view path_or_name,
                                       const Overrides& set = {});

/// The same for a text; `name` stands for the file in messages, and its
/// folder is where relative paths begin.
[[nodiscard]] Result<Trace> load_trace_text(std::string_view text,
                                            const std::string& name,
                                            const Overrides& set = {});

}  // namespace troupe::runs
