// tokenizer.json of Hugging Face: byte-level BPE.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/json.h"
#include "data/tokenizer.h"

namespace troupe::data {

/// What may say which token ends a document.
struct EndSource {
  std::string asked = {};       ///< by the user, or empty
  std::string configured = {};  ///< `eos_token` of the file below, or empty
  std::string file = {};        ///< tokenizer_config.json
};

/// Errors: as read_tokenizer. `name` stands for the file in messages.
Result<Tokenizer> parse_tokenizer_json(const Json& json,
                                       const std::string& name,
                                       const EndSource& end);

/// The same of `path` with its content; a tokenizer_config.json beside it may
/// say what ends a document.
Result<Tokenizer> read_tokenizer_json(const std::filesystem::path& path,
                                      std::string_view content,
                                      const std::string& end_token);

}  // namespace troupe::data
