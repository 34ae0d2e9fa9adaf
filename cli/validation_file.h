// Cases of published measurements: bench/validation/README.md describes the
// files. A case is read here and simulated by the validate command.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "strategy/load.h"

namespace troupe::cli {

/// One measured step.
struct ValidationCase {
  std::string file;
  std::string id;
  std::string source;  ///< the file's, or the case's own
  std::string quality;
  std::string note;
  std::string library;            ///< the source's software, in libraries.json
  std::string attention;          ///< sets flash_attention or attention_kernel
  Json strategy;                  ///< with model and cluster inside
  std::optional<double> seconds;  ///< per step; nothing when the run failed
  double memory_gib = 0;          ///< peak of one device; 0 when not measured
  bool held_out = false;          ///< kept out of every fit
  std::string error;              ///< why it cannot be read; empty when it can
};

/// The files that are named, and those (*.json) of the folders that are.
///
/// Errors: input, for one that does not exist or a folder without any.
Result<std::vector<std::filesystem::path>> validation_files(
    const std::vector<std::string>& paths);

/// All cases of a file. What is wrong with a case is in its `error`; a file
/// that cannot be read at all is one such case, named after it.
std::vector<ValidationCase> read_validation_file(
    const std::filesystem::path& path);

/// Host time to launch an operator, by library.
///
/// Errors: input, for a file that cannot be read.
Result<std::map<std::string, Time>> read_libraries(
    const std::filesystem::path& path);

/// The strategy of a case with its model and cluster.
Result<strategy::Plan> load_case(const ValidationCase& one);

}  // namespace troupe::cli
