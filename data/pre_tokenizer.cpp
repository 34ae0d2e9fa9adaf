#include "data/pre_tokenizer.h"

#include <fmt/format.h>

#include <utility>

#include "base/text.h"
#include "base/utf8.h"

namespace troupe::data {
namespace {

/// Contractions; letters, digits or other signs with the blank before them;
/// white space, its last character left to a word that follows.
///
/// Source: openai/gpt-2, src/encoder.py; ByteLevel of huggingface/tokenizers
///         has the same.
constexpr std::string_view kByteLevelWords =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::size_t kMostStages = 64;

}  // namespace

PreTokenizer::PreTokenizer(const Json& json, const std::string& where,
                           Findings& findings) {
  if (json.is_object()) read(JsonObject(json, where, findings));
  if (byte_level_ || !findings.ok()) return;
  findings.error(where,
                 "no ByteLevel in it; expected byte-level BPE (as of "
                 "GPT-2, Llama 3, Qwen)");
}

void PreTokenizer::add(Stage stage, std::string_view pattern, bool literal,
                       const std::string& where, Findings& findings) {
  if (stages_.size() == kMostStages) {
    findings.error(where, fmt::format("more than {} stages", kMostStages));
    return;
  }
  if (!pattern.empty()) {
    Result<Regex> regex = Regex::compile(pattern, literal);
    if (!regex) {
      findings.error(where, regex.error().message);
      return;
    }
    stage.regex = *std::move(regex);
  }
  stages_.push_back(std::move(stage));
}

void PreTokenizer::read(JsonObject stage) {
  const std::string type = stage.text("type");
  if (!stage.findings().ok()) return;
  if (byte_level_) {
    stage.findings().error(stage.where("type"),
                           fmt::format("'{}' after ByteLevel; expected "
                                       "ByteLevel as the last one",
                                       excerpt(type)));
  } else if (type == "Sequence") {
    read_sequence(stage);
  } else if (type == "Split") {
    read_split(stage);
  } else if (type == "Digits") {
    const bool each = stage.boolean("individual_digits", false);
    stage.finish();
    add({}, each ? "\\p{N}" : "\\p{N}+", false, stage.where(),
        stage.findings());
  } else if (type == "ByteLevel") {
    read_byte_level(stage);
  } else {
    stage.findings().error(
        stage.where("type"),
        fmt::format("'{}' is not supported; expected ByteLevel, or a Sequence "
                    "of Split and Digits with ByteLevel at its end",
                    excerpt(type)));
  }
}

void PreTokenizer::read_sequence(JsonObject& sequence) {
  for (JsonObject& stage : sequence.objects("pretokenizers")) {
    read(std::move(stage));
  }
  sequence.finish();
}

void PreTokenizer::read_split(JsonObject& split) {
  const std::string behaviour = split.text("behavior");
  const bool invert = split.boolean("invert", false);
  auto pattern = split.object("pattern");
  split.finish();
  if (!pattern || !split.findings().ok()) return;
  const bool literal = pattern->has("String");
  const char* const key = literal ? "String" : "Regex";
  const std::string text = pattern->text(key);
  pattern->finish();
  if (!split.findings().ok()) return;
  const bool drops = behaviour == "Removed" && invert;
  if (behaviour != "Isolated" && !drops) {
    split.findings().error(
        split.where("behavior"),
        fmt::format("'{}'{} is not supported; expected Isolated, or Removed "
                    "with invert",
                    excerpt(behaviour), invert ? " with invert" : ""));
    return;
  }
  if (text.empty()) {
    split.findings().error(pattern->where(key), "empty; expected a pattern");
    return;
  }
  add({.gaps = !drops}, text, literal, pattern->where(key), split.findings());
}

void PreTokenizer::read_byte_level(JsonObject& byte_level) {
  const bool blank = byte_level.boolean("add_prefix_space", true);
  const bool regex = byte_level.boolean("use_regex", true);
  byte_level.boolean("trim_offsets", true);
  byte_level.finish();
  byte_level_ = true;
  add({.begins_blank = blank}, regex ? kByteLevelWords : std::string_view{},
      false, byte_level.where(), byte_level.findings());
}

Result<void> PreTokenizer::cut(std::size_t stage, std::string_view text,
                               const Use& use) {
  if (text.empty()) return {};
  if (stage == stages_.size()) return use(text);
  Stage& s = stages_[stage];
  std::string longer;
  if (s.begins_blank && text.front() != ' ') {
    longer = fmt::format(" {}", text);
    text = longer;
  }
  if (!s.regex) return cut(stage + 1, text, use);
  std::size_t done = 0;
  for (std::size_t from = 0; from < text.size();) {
    TRY(const auto match, s.regex->find(text, from));
    if (!match) break;
    if (match->first == match->last) {
      if (match->last == text.size()) break;
      from = match->last + character_size(text.substr(match->last));
      continue;
    }
    if (s.gaps) {
      TRY_DO(cut(stage + 1, text.substr(done, match->first - done), use));
    }
    TRY_DO(cut(stage + 1, text.substr(match->first, match->last - match->first),
               use));
    done = from = match->last;
  }
  return s.gaps ? cut(stage + 1, text.substr(done), use) : Result<void>{};
}

}  // namespace troupe::data
