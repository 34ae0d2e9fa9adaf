#include "data/tokenizer_model.h"

#include <fmt/format.h>

#include <limits>
#include <optional>

#include "base/text.h"
#include "data/byte_level.h"

namespace troupe::data {
namespace {

/// Far over every tokenizer there is.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
constexpr std::size_t kLongestAdded = 1024;

std::string shown(const Json& value) {
  return excerpt(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// Adds tokens, each number once.
class Numbers {
 public:
  Numbers(TokenizerModel& out, Findings& findings)
      : out_(&out), findings_(&findings) {}

  bool add(const std::string& text, const Json& number,
           const std::string& where) {
    const auto id = whole_number(number);
    if (!id || *id < 0 || *id >= kMostTokens) {
      findings_->error(where,
                       fmt::format("expected a whole number from 0 to {}, "
                                   "found {}",
                                   kMostTokens - 1, shown(number)));
      return false;
    }
    const auto at = static_cast<std::size_t>(*id);
    if (used_.size() <= at) used_.resize(at + 1);
    if (used_[at]) {
      findings_->error(where,
                       fmt::format("number {} is another token's too", *id));
      return false;
    }
    used_[at] = true;
    out_->tokens.emplace(text, static_cast<std::int32_t>(*id));
    out_->vocabulary = static_cast<std::int32_t>(used_.size());
    return true;
  }

 private:
  TokenizerModel* out_;
  Findings* findings_;
  std::vector<bool> used_;
};

/// What byte-level BPE does not have; SentencePiece's BPE has some of it.
void check_kind(JsonObject& model) {
  Findings& findings = model.findings();
  const auto refuse = [&](const char* key, const std::string& found,
                          const char* expected) {
    findings.error(
        model.where(key),
        fmt::format("{} is not supported; expected {}", found, expected));
  };
  const std::string type = model.text("type", "BPE");
  if (type != "BPE") refuse("type", fmt::format("'{}'", excerpt(type)), "BPE");
  const auto is_nothing = [](const Json* value) {
    return value == nullptr || value->is_null() || *value == "" ||
           (value->is_number() && *value == 0);
  };
  for (const char* const key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json* const value = model.raw(key);
    if (!is_nothing(value)) refuse(key, shown(*value), "null");
  }
  if (model.boolean("byte_fallback", false)) {
    refuse("byte_fallback", "true",
           "false. Such tokenizers are SentencePiece's: give the "
           "tokenizer.model that is beside this file");
  }
  if (model.boolean("fuse_unk", false)) refuse("fuse_unk", "true", "false");
}

void read_vocabulary(JsonObject& model, Numbers& numbers) {
  const Json* const vocab = model.raw("vocab");
  if (vocab == nullptr || !vocab->is_object() || vocab->empty()) {
    model.findings().error(model.where("vocab"),
                           "expected an object of tokens and their numbers");
    return;
  }
  for (const auto& [text, number] : vocab->items()) {
    numbers.add(text, number,
                fmt::format("{}/{}", model.where("vocab"), excerpt(text)));
  }
}

/// The two halves of "a b" or ["a", "b"].
std::optional<std::pair<std::string, std::string>> halves(const Json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
      merge[1].is_string()) {
    return std::pair{merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (!merge.is_string()) return {};
  const std::string text = merge.get<std::string>();
  const std::size_t blank = text.find(' ');
  if (blank == std::string::npos || text.find(' ', blank + 1) != text.npos) {
    return {};
  }
  return std::pair{text.substr(0, blank), text.substr(blank + 1)};
}

void read_merges(JsonObject& model, TokenizerModel& out) {
  Findings& findings = model.findings();
  const Json* const merges = model.raw("merges");
  if (merges == nullptr || !merges->is_array() ||
      merges->size() > std::numeric_limits<std::int32_t>::max()) {
    findings.error(model.where("merges"), "expected a list of pairs");
    return;
  }
  for (std::size_t rank = 0; rank < merges->size(); ++rank) {
    const Json& merge = (*merges)[rank];
    const auto where = [&] {
      return fmt::format("{}/{}", model.where("merges"), rank);
    };
    const auto pair = halves(merge);
    if (!pair) {
      findings.error(where(), fmt::format("expected \"a b\" or [\"a\", \"b\"], "
                                          "found {}",
                                          shown(merge)));
      continue;
    }
    std::array<std::int32_t, 3> tokens{};  // left, right, both
    const std::array texts{pair->first, pair->second,
                           pair->first + pair->second};
    bool known = true;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto it = out.tokens.find(texts[i]);
      if (it == out.tokens.end()) {
        findings.error(where(), fmt::format("'{}' is not in /model/vocab",
                                            excerpt(texts[i])));
        known = false;
        break;
      }
      tokens[i] = it->second;
    }
    // Of a pair that is there twice the last one counts, as elsewhere.
    if (known) {
      out.bpe.merges.insert_or_assign(
          BpeModel::pair_of(tokens[0], tokens[1]),
          BpeModel::Merge{static_cast<std::int32_t>(rank), tokens[2]});
    }
  }
}

void read_unknown(JsonObject& model, TokenizerModel& out) {
  const Json* const unknown = model.raw("unk_token");
  if (unknown == nullptr || unknown->is_null()) return;
  const auto it = unknown->is_string()
                      ? out.tokens.find(unknown->get<std::string>())
                      : out.tokens.end();
  if (it == out.tokens.end()) {
    model.findings().error(
        model.where("unk_token"),
        fmt::format("{} is not in /model/vocab", shown(*unknown)));
    return;
  }
  out.bpe.unknown = it->second;
}

/// Tokens of single bytes, and with `whole` of everything.
void set_bytes(TokenizerModel& out, bool whole) {
  for (std::size_t byte = 0; byte < out.bpe.bytes.size(); ++byte) {
    const auto it =
        out.tokens.find(spelling_of(static_cast<unsigned char>(byte)));
    out.bpe.bytes[byte] = it == out.tokens.end() ? -1 : it->second;
  }
  if (!whole) return;
  for (const auto& [text, token] : out.tokens) {
    if (auto bytes = bytes_of(text)) {
      out.bpe.whole.emplace(*std::move(bytes), token);
    }
  }
}

void read_added(JsonObject token, Numbers& numbers, TokenizerModel& out) {
  Findings& findings = token.findings();
  const std::string text = token.text("content");
  const Json* const id = token.raw("id");
  const bool normal = token.boolean("normalized", false);
  token.boolean("special", false);
  if (text.empty() || text.size() > kLongestAdded) {
    findings.error(
        token.where("content"),
        fmt::format("{} bytes; expected 1 to {}", text.size(), kLongestAdded));
    return;
  }
  for (const char* const key : {"single_word", "lstrip", "rstrip"}) {
    if (!token.boolean(key, false)) continue;
    findings.error(token.where(key),
                   fmt::format("true for '{}' is not supported; expected "
                               "false",
                               excerpt(text)));
  }
  token.finish();
  const auto it = out.tokens.find(text);
  if (it == out.tokens.end()) {
    if (!numbers.add(text, id ? *id : Json(), token.where("id"))) return;
  } else if (!id || *id != it->second) {
    findings.error(token.where("id"),
                   fmt::format("'{}' is {} here and {} before", excerpt(text),
                               id ? shown(*id) : "nothing", it->second));
    return;
  }
  (normal ? out.normal : out.raw).emplace_back(text, out.tokens.at(text));
}

}  // namespace

TokenizerModel read_model(JsonObject& root) {
  TokenizerModel out;
  Findings& findings = root.findings();
  auto model = root.object("model");
  auto added = root.objects("added_tokens", true);
  if (!model || !findings.ok()) return out;
  check_kind(*model);
  if (!findings.ok()) return out;
  Numbers numbers(out, findings);
  read_vocabulary(*model, numbers);
  read_merges(*model, out);
  read_unknown(*model, out);
  const bool whole = model->boolean("ignore_merges", false);
  model->finish();
  set_bytes(out, whole);
  for (JsonObject& token : added) read_added(std::move(token), numbers, out);
  return out;
}

}  // namespace troupe::data
