#include "data/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/normal_form.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer_model.h"

namespace troupe::data {
namespace {

class JsonEncoder : public Encoder {
 public:
  JsonEncoder(AddedTokens raw, AddedTokens normal,
              std::vector<NormalForm> forms, PreTokenizer words, Bpe bpe)
      : raw_(std::move(raw)),
        normal_(std::move(normal)),
        forms_(std::move(forms)),
        words_(std::move(words)),
        bpe_(std::move(bpe)) {}

  Result<void> encode(std::string_view text,
                      std::vector<std::int32_t>& out) override {
    return between(raw_, text, out, [&](std::string_view part) {
      return encode_part(part, out);
    });
  }

 private:
  /// Tokens of `added` as they are found, `use` for what is between them.
  template <typename Use>
  static Result<void> between(const AddedTokens& added, std::string_view text,
                              std::vector<std::int32_t>& out, const Use& use) {
    std::size_t at = 0;
    while (const auto found = added.find(text, at)) {
      TRY_DO(use(text.substr(at, found->first - at)));
      out.push_back(found->token);
      at = found->first + found->size;
    }
    return use(text.substr(at));
  }

  Result<void> encode_part(std::string_view part,
                           std::vector<std::int32_t>& out) {
    std::string normal;
    for (const NormalForm form : forms_) {
      TRY(normal, normalized(part, form));
      part = normal;
    }
    const auto word = [&](std::string_view w) { return bpe_.encode(w, out); };
    return between(normal_, part, out, [&](std::string_view piece) {
      return words_.cut(piece, word);
    });
  }

  AddedTokens raw_, normal_;
  std::vector<NormalForm> forms_;
  PreTokenizer words_;
  Bpe bpe_;
};

/// Unicode's normal forms, one or several.
void read_normalizer(const Json& json, const std::string& where,
                     Findings& findings, std::vector<NormalForm>& out) {
  if (json.is_null()) return;
  JsonObject normalizer(json, where, findings);
  const std::string type = normalizer.text("type");
  constexpr std::array kForms{
      std::pair{"NFC", NormalForm::nfc}, std::pair{"NFD", NormalForm::nfd},
      std::pair{"NFKC", NormalForm::nfkc}, std::pair{"NFKD", NormalForm::nfkd}};
  if (type == "Sequence") {
    const Json* const parts = normalizer.raw("normalizers");
    if (parts == nullptr || !parts->is_array()) {
      findings.error(normalizer.where("normalizers"), "expected a list");
      return;
    }
    for (std::size_t i = 0; i < parts->size(); ++i) {
      read_normalizer((*parts)[i], fmt::format("{}/normalizers/{}", where, i),
                      findings, out);
    }
    normalizer.finish();
    return;
  }
  normalizer.finish();
  for (const auto& [name, form] : kForms) {
    if (type == name) out.push_back(form);
  }
  const bool known = std::ranges::any_of(
      kForms, [&](const auto& form) { return type == form.first; });
  if (known || !findings.ok()) return;
  findings.error(normalizer.where("type"),
                 fmt::format("'{}' is not supported; expected null, NFC, NFD, "
                             "NFKC or NFKD. A tokenizer of SentencePiece's "
                             "kind: give its tokenizer.model",
                             excerpt(type)));
}

/// Names under which tokenizers have their end of text.
constexpr std::array kKnownEnds{"<|endoftext|>", "<|end_of_text|>",
                                "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                                "</s>", "<eos>"};

/// The special token that a post-processor puts after a text, or empty.
std::string end_by_post_processor(const Json& json) {
  const auto member = [](const Json& of, const char* key) -> const Json* {
    const auto it = of.is_object() ? of.find(key) : of.end();
    return it == of.end() ? nullptr : &*it;
  };
  if (const Json* parts = member(json, "processors"); parts != nullptr) {
    for (const Json& part : *parts) {
      std::string end = end_by_post_processor(part);
      if (!end.empty()) return end;
    }
  }
  const Json* const single = member(json, "single");
  if (single == nullptr || !single->is_array()) return {};
  bool after = false;
  for (const Json& piece : *single) {
    if (member(piece, "Sequence") != nullptr) after = true;
    const Json* const special = member(piece, "SpecialToken");
    const Json* const id = special ? member(*special, "id") : nullptr;
    if (after && id && id->is_string()) return id->get<std::string>();
  }
  return {};
}

Result<std::int32_t> end_of(const TokenizerModel& model,
                            const Json& post_processor, const std::string& name,
                            const EndSource& source) {
  const auto named = [&](const std::string& token,
                         const std::string& where) -> Result<std::int32_t> {
    const auto it = model.tokens.find(token);
    if (it != model.tokens.end()) return it->second;
    return fail(Fault::input, fmt::format("{} '{}': {} has no such token",
                                          where, excerpt(token), name));
  };
  if (!source.asked.empty()) return named(source.asked, "--end-token");
  if (!source.configured.empty()) {
    return named(source.configured, source.file + ": /eos_token");
  }
  const std::string end = end_by_post_processor(post_processor);
  if (!end.empty()) return named(end, name + ": /post_processor");
  for (const char* const known : kKnownEnds) {
    const auto it = model.tokens.find(known);
    if (it != model.tokens.end()) return it->second;
  }
  return fail(
      Fault::input,
      fmt::format("{}: nothing says which token ends a document (no eos_token "
                  "in a tokenizer_config.json beside it, none after the text "
                  "in /post_processor, none called {}); name it with "
                  "--end-token",
                  name, fmt::join(kKnownEnds, ", ")));
}

/// `eos_token` of a tokenizer_config.json, or empty.
Result<std::string> configured_end(const std::filesystem::path& config) {
  std::error_code ignored;
  if (!std::filesystem::exists(config, ignored)) return std::string{};
  TRY(const Json json, read_json(config));
  if (!json.is_object() || !json.contains("eos_token")) return std::string{};
  const Json& end = json["eos_token"];
  if (end.is_null()) return std::string{};
  if (end.is_string()) return end.get<std::string>();
  if (end.is_object() && end.contains("content") &&
      end["content"].is_string()) {
    return end["content"].get<std::string>();
  }
  return fail(Fault::input,
              fmt::format("{}: /eos_token: expected a text, an object with "
                          "content, or null",
                          config.string()));
}

}  // namespace

Result<Tokenizer> parse_tokenizer_json(const Json& json,
                                       const std::string& name,
                                       const EndSource& end) {
  Findings findings;
  JsonObject root(json, name, findings);
  if (!findings.ok()) return fail(findings.to_error());
  const Json none;
  const auto part = [&](const char* key) -> const Json& {
    const Json* const found = root.raw(key);
    return found ? *found : none;
  };
  // They are for the prompts of a server: they cut, pad or add a beginning.
  for (const char* const key :
       {"version", "truncation", "padding", "decoder"}) {
    root.raw(key);
  }
  const Json& post_processor = part("post_processor");
  std::vector<NormalForm> forms;
  TokenizerModel model = read_model(root);
  read_normalizer(part("normalizer"), root.where("normalizer"), findings,
                  forms);
  if (!findings.ok()) return fail(findings.to_error());
  PreTokenizer words(part("pre_tokenizer"), root.where("pre_tokenizer"),
                     findings);
  root.finish();
  if (!findings.ok()) return fail(findings.to_error());
  Tokenizer out;
  TRY(out.end, end_of(model, post_processor, name, end));
  out.name = name;
  out.vocabulary = model.vocabulary;
  out.encoder = std::make_unique<JsonEncoder>(
      AddedTokens(std::move(model.raw)), AddedTokens(std::move(model.normal)),
      std::move(forms), std::move(words), Bpe(std::move(model.bpe)));
  return out;
}

Result<Tokenizer> read_tokenizer_json(const std::filesystem::path& path,
                                      std::string_view content,
                                      const std::string& end_token) {
  EndSource end{.asked = end_token};
  if (end_token.empty()) {
    const auto config = path.parent_path() / "tokenizer_config.json";
    end.file = config.string();
    TRY(end.configured, configured_end(config));
  }
  TRY(const Json json, parse_json(content, path.string()));
  return parse_tokenizer_json(json, path.string(), end);
}

}  // namespace troupe::data
