// Runs made up for tests: realistic in shape, arithmetic small enough to
// follow.
#pragma once

#include <string>

#include "results/run.h"

namespace troupe::results {

struct SampleShape {
  int pipelines = 16;
  int stages = 8;
  int micro_batches = 64;
  int tp = 8;
  /// Odd pipelines on the slower kind, with other layer counts.
  bool mixed = false;
  int drawn_pipelines = 3;
};

/// A 1F1B step whose forward takes 10 ms and backward 20 ms per stage, with
/// 1 ms hand-overs that delay nobody, 100 ms of gradient sync and 20 ms of
/// optimizer.
RunResult sample_run(const SampleShape& shape = {});

/// A folder of its own under the system's temporary one, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace troupe::results
