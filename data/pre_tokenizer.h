// Cuts a text into the words that byte pair encoding works on.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "data/regex.h"

namespace troupe::data {

/// The `pre_tokenizer` of a tokenizer.json: each stage cuts the pieces of the
/// one before.
class PreTokenizer {
 public:
  /// ByteLevel, also after Split and Digits in a Sequence. What is not
  /// supported becomes a finding.
  PreTokenizer(const Json& json, const std::string& where, Findings& findings);

  using Use = std::function<Result<void>(std::string_view)>;
  /// Gives every word to `use`, in order.
  ///
  /// Requires: UTF-8.
  /// Errors:   input, of the expressions; those of `use`.
  Result<void> cut(std::string_view text, const Use& use) {
    return cut(0, text, use);
  }

 private:
  struct Stage {
    std::optional<Regex> regex = {};  ///< a piece for every match
    bool gaps = true;                 ///< and for what is between them
    bool begins_blank = false;        ///< a blank before pieces without one
  };

  void read(JsonObject stage);
  void read_sequence(JsonObject& sequence);
  void read_split(JsonObject& split);
  void read_byte_level(JsonObject& byte_level);
  void add(Stage stage, std::string_view pattern, bool literal,
           const std::string& where, Findings& findings);
  Result<void> cut(std::size_t stage, std::string_view text, const Use& use);

  std::vector<Stage> stages_;
  bool byte_level_ = false;  // was read: the last one
};

}  // namespace troupe::data
