// The vocabulary, merges and added tokens of a tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "data/bpe.h"

namespace troupe::data {

struct TokenizerModel {
  std::unordered_map<std::string, std::int32_t> tokens;  ///< as spelt, all
  std::int32_t vocabulary = 0;  ///< tokens are below it
  BpeModel bpe;
  /// Added tokens that are found before and after text is normalized.
  std::vector<std::pair<std::string, std::int32_t>> raw, normal;
};

/// `model` and `added_tokens` of the file; what is wrong or not supported
/// becomes a finding.
TokenizerModel read_model(JsonObject& root);

}  // namespace troupe::data
