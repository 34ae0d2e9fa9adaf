// The parts of a trace file. Internal to this folder.
#pragma once

#include <filesystem>

#include "base/json.h"
#include "runs/elastic_trace.h"

namespace troupe::runs {

inline constexpr const char* kTraceFormat = "troupe.trace/1";

/// A model or cluster as the file refers to it: a name, a short form or an
/// object; paths already relative to the working folder.
struct Reference {
  Json json;
  /// As strategy::LoadOptions takes it.
  std::string text() const;
};

/// Makes a path in `json` relative to the working folder instead of `base`.
Reference refer(const Json& json, const std::filesystem::path& base);

struct TraceFile {
  std::filesystem::path folder;
  Reference model, cluster;
};

/// Reads one element of "strategies"; a file of several phases gives several
/// candidates. `event_of` gets the event that a phase's rule names, or empty.
void read_candidates(JsonObject& object, const TraceFile& file, Trace& trace,
                     std::vector<std::string>& event_of);

/// Reads one element of "events". Strategy names are looked up in the trace;
/// without one, a candidate whose rule names the event is taken.
Event read_event(JsonObject& object, const Trace& trace,
                 const std::vector<std::string>& event_of);

Options read_options(JsonObject& object);

/// "0-7,16" or a list, of devices that the cluster has; ascending.
std::vector<DeviceId> read_device_list(JsonObject& object,
                                       const std::string& key,
                                       const clusters::Cluster& cluster);

/// The number of the candidate called `name`; -1 and a finding at `where`
/// when there is none.
int candidate_called(const std::string& name, const Trace& trace,
                     const std::string& where, Findings& findings);

/// Plays the events: what cannot happen becomes a finding.
void check_events(const Trace& trace, Findings& findings);

}  // namespace troupe::runs
