#include "cli/emulation_data.h"

#include <fmt/format.h>

#include "base/file.h"
#include "base/text.h"

namespace troupe::cli {
namespace {

constexpr const char* kSampleName = "sample";

/// Tokens that the model has no row for.
Result<void> check_vocabulary(const data::Tokenizer& tokenizer,
                              const std::string& model, bool shrunk,
                              DataAnswer& answer) {
  if (answer.vocabulary <= answer.model_vocabulary) return {};
  const std::string problem = fmt::format(
      "the vocabulary of {} ({}) is larger than that of {} ({})",
      tokenizer.name, answer.vocabulary, model, answer.model_vocabulary);
  if (!shrunk && tokenizer.encoder) {
    return fail(Fault::input,
                problem +
                    "; expected a tokenizer of the model, or --shrink, which "
                    "takes tokens modulo its vocabulary");
  }
  answer.warnings.push_back(problem + "; tokens are taken modulo the latter");
  return {};
}

}  // namespace

Result<EmulatedData> read_data(const DataRequest& request,
                               const std::string& model,
                               std::int32_t vocabulary, bool shrunk) {
  data::Tokenizer tokenizer;
  if (!request.tokenizer.empty()) {
    TRY(tokenizer, data::read_tokenizer(request.tokenizer, request.end_token));
  }
  EmulatedData out;
  out.answer.vocabulary = tokenizer.vocabulary;
  out.answer.model_vocabulary = vocabulary;
  TRY_DO(check_vocabulary(tokenizer, model, shrunk, out.answer));
  const std::string name = request.file.empty() ? kSampleName : request.file;
  std::string text;
  if (request.file.empty()) {
    text = data::sample_text();
  } else {
    TRY(text, data::read_text(request.file));
  }
  TRY(out.corpus, data::make_corpus(text, name, tokenizer));
  out.answer.text = {.data = name,
                     .data_hash = content_hash(text),
                     .tokenizer = tokenizer.name,
                     .tokenizer_hash = tokenizer.hash};
  out.answer.documents = std::ssize(out.corpus.documents);
  out.answer.tokens = data::token_count(out.corpus);
  return out;
}

Result<void> check_text(const emu::Checkpoint& checkpoint,
                        const std::string& name, DataAnswer& answer) {
  const emu::Text& before = checkpoint.text;
  const emu::Text& now = answer.text;
  if (before.tokenizer.empty()) return {};
  if (before.tokenizer_hash != now.tokenizer_hash) {
    return fail(
        Fault::input,
        fmt::format("{}: learnt tokens of {}; this run has those of {}{}; {}",
                    name, excerpt(before.tokenizer), now.tokenizer,
                    before.tokenizer == now.tokenizer
                        ? ", which is another file or end of documents by now"
                        : "",
                    before.tokenizer_hash.empty()
                        ? "go on without --tokenizer"
                        : "go on with the same --tokenizer and --end-token"));
  }
  if (before.data_hash != now.data_hash) {
    answer.warnings.push_back(
        fmt::format("{} learnt from {}; this run goes on with another text, {}",
                    name, excerpt(before.data), now.data));
  }
  return {};
}

Json to_json(const DataAnswer& answer) {
  return {{"file", answer.text.data},
          {"tokenizer", answer.text.tokenizer},
          {"documents", answer.documents},
          {"tokens", answer.tokens},
          {"vocabulary", answer.vocabulary},
          {"model_vocabulary", answer.model_vocabulary}};
}

std::string to_line(const DataAnswer& answer) {
  return fmt::format("data {}: {}, {}, tokens of {} (vocabulary {})",
                     answer.text.data, counted(answer.documents, "document"),
                     counted(answer.tokens, "token"), answer.text.tokenizer,
                     answer.vocabulary);
}

}  // namespace troupe::cli
