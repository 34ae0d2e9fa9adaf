// Writes timelines in the Chrome trace format, which Perfetto
// (ui.perfetto.dev) and chrome://tracing open. Streams, so that the size of
// a trace is bounded by the disk; the file appears only when it is complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "base/units.h"
#include "results/run.h"

namespace troupe::results {

/// A detail of a slice, shown when it is selected.
struct TraceArg {
  std::string_view key;
  std::variant<std::int64_t, double, std::string_view> value;
};

/// Something that lasts. Slices of one track must not overlap unless one lies
/// within the other.
struct Slice {
  int process = 0;  ///< a rank or a pipeline
  int track = 0;    ///< a stream within it
  std::string_view name = {};
  std::string_view category = {};
  Time start = {};
  Time end = {};
  std::span<const TraceArg> args = {};
};

struct TraceOptions {
  /// Slices beyond are left out, and the trace says so. Perfetto's JSON
  /// reader becomes slow near this many.
  std::int64_t most_slices = 5'000'000;
};

/// One trace being written. Errors of the disk surface in `finish` (and stop
/// the writing); without `finish` no file is left behind.
class TraceWriter {
 public:
  /// Compressed with gzip when the name ends in ".gz". A regular file is
  /// replaced when it is complete; a pipe or a device is written to as it is.
  ///
  /// Errors: io, when the file cannot be created.
  static Result<TraceWriter> open(const std::filesystem::path& path,
                                  const TraceOptions& options = {});
  TraceWriter(TraceWriter&&) noexcept;
  TraceWriter& operator=(TraceWriter&&) noexcept;
  ~TraceWriter();

  void name_process(int process, std::string_view name);
  void name_track(int process, int track, std::string_view name);
  /// Units: picoseconds become microseconds with six decimals, exactly.
  void add(const Slice& slice);
  /// A text about the whole trace, under "otherData".
  void note(std::string_view key, std::string_view text);

  /// Slices left out so far.
  std::int64_t left_out() const;

  /// Completes the file.
  ///
  /// Errors: io, with the system's reason; no file is left then.
  Result<void> finish();

 private:
  struct Output;
  static Result<void> open_target(const std::filesystem::path& path,
                                  Output& output);
  explicit TraceWriter(std::unique_ptr<Output> output);
  std::unique_ptr<Output> output_;
};

/// The bars of a run as a trace: a process per pipeline, tracks per stage.
Result<void> write_run_trace(const std::filesystem::path& path,
                             const RunResult& run,
                             const TraceOptions& options = {});

}  // namespace troupe::results
