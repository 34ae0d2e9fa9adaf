// Documents as tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace troupe::data {

/// Byte tokens: 0 to 255 are bytes, then the end of a document.
inline constexpr std::int32_t kEndOfDocument = 256;
inline constexpr std::int32_t kByteVocabulary = 257;

/// Documents, each ended by a token of its own.
struct Corpus {
  std::vector<std::vector<std::int32_t>> documents;
  std::int32_t vocabulary = kByteVocabulary;  ///< tokens are below it
};

/// Cuts `text` into documents at empty lines, a token per byte.
///
/// Errors: input, for a text without a document.
Result<Corpus> byte_corpus(std::string_view text, const std::string& name);

/// Errors: input, as read_file (at most 1 GiB) and byte_corpus.
Result<Corpus> read_corpus(const std::filesystem::path& path);

/// A small text of our own, for runs without a file.
const Corpus& sample_corpus();

}  // namespace troupe::data
