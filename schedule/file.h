// The schedule as a versioned file with a content hash.
#pragma once

#include <filesystem>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "schedule/schedule.h"

namespace troupe::schedule {

/// Hash of everything in the schedule; equal schedules have equal hashes on
/// every machine.
std::string content_hash(const Schedule& schedule);

/// The file's object: `format`, `hash`, and the schedule (FORMAT.md).
Json to_json(const Schedule& schedule);

/// Errors: input, for another format or version, a wrong hash, an index out
///         of range or a value of the wrong type, with its JSON path.
Result<Schedule> schedule_from_json(const Json& json, const std::string& name);

Result<Schedule> read_schedule(const std::filesystem::path& path);
Result<void> write_schedule(const std::filesystem::path& path,
                            const Schedule& schedule);

}  // namespace troupe::schedule
