// What the tests of profiles share: scratch folders, shared data, sections.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "clusters/kinds.h"
#include "profiles/database.h"
#include "profiles/ingest.h"

namespace troupe::profiles {

/// A file of another tool, cut down.
inline std::filesystem::path sample(std::string_view name) {
  return std::filesystem::path(TROUPE_SOURCE_DIR "/tests/profiles/samples") /
         name;
}

/// A folder of this test's own, removed at its end.
class Scratch {
 public:
  Scratch() {
    std::string name =
        (std::filesystem::temp_directory_path() / "troupe-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }
  std::filesystem::path write(std::string_view name,
                              std::string_view text) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return file;
  }

 private:
  std::filesystem::path path_;
};

/// Files of the reference systems, where they are at hand.
inline std::filesystem::path shared(std::string_view name) {
  const char* root = std::getenv("TROUPE_SHARED");
  return std::filesystem::path(
             root != nullptr ? root : TROUPE_SOURCE_DIR "/../shared") /
         name;
}

#define SKIP_WITHOUT(file)                               \
  if (!std::filesystem::exists(file)) {                  \
    GTEST_SKIP() << (file) << " is not on this machine"; \
  }

template <typename T>
T value_of(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return *std::move(result);
}

inline Database empty_database() {
  return value_of(open_or_create(":memory:"));
}

/// A database with all shipped measurements, made once.
inline const Database& shipped_database() {
  static const Database database = [] {
    Database made = empty_database();
    value_of(ingest_shipped(made));
    return made;
  }();
  return database;
}

inline clusters::DeviceKind kind(std::string_view name) {
  return value_of(clusters::read_kind(name));
}

inline OperatorRow gemm_row(std::string device, std::int64_t m, std::int64_t n,
                            std::int64_t k, double time_s) {
  return {.device = std::move(device),
          .op = kernels::gemm(m, n, k, kernels::DType::bf16),
          .time_s = time_s};
}

inline Section section(std::string name, std::string date = "2024") {
  Section made;
  made.source.name = std::move(name);
  made.source.date = std::move(date);
  return made;
}

}  // namespace troupe::profiles
