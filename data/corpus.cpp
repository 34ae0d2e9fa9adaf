#include "data/corpus.h"

#include <fmt/format.h>

#include "base/file.h"

namespace troupe::data {
namespace {

constexpr Bytes kMostText{std::int64_t{1} << 30};

constexpr std::string_view kSample = R"(A pipeline is a chain of stages.
Each stage holds some layers and hands its results to the next.

A bubble is the time in which a stage has nothing to do.

When devices are unequal, the slow one gets fewer layers, or fewer
micro-batches, or both; what matters is that all finish together.

Gradients are summed over every replica before the optimizer takes a step.

Tensor parallelism cuts matrices, data parallelism cuts batches, context
parallelism cuts sequences, and pipeline parallelism cuts the model itself.

To be.

A schedule says what every device does and in which order. A simulator asks
how long it takes, an emulator asks whether the numbers are right, and the
machine itself answers both.

Short lines and long lines share a sequence, yet no line reads its neighbour.

Recomputation trades time for memory. Sharding trades messages for memory.
Neither changes a single sum.

The quick brown fox jumps over the lazy dog; 0123456789.

One device alone would have needed a month.
)";

/// Calls `use` with every document and the line on which it begins.
template <typename Use>
Result<void> each_document(std::string_view text, const Use& use) {
  std::string document;
  std::int64_t first = 1;
  std::int64_t line_number = 0;
  const auto end = [&]() -> Result<void> {
    if (document.empty()) return {};
    TRY_DO(use(document, first));
    document.clear();
    return {};
  };
  while (!text.empty()) {
    const std::size_t line_end = text.find('\n');
    const std::string_view line = text.substr(0, line_end);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
      TRY_DO(end());
      continue;
    }
    if (document.empty()) first = line_number;
    document += line;
    document += '\n';
  }
  return end();
}

}  // namespace

std::int64_t token_count(const Corpus& corpus) {
  std::int64_t out = 0;
  for (const auto& document : corpus.documents) out += std::ssize(document);
  return out;
}

Result<Corpus> make_corpus(std::string_view text, const std::string& name,
                           const Tokenizer& tokenizer) {
  Corpus corpus{.documents = {}, .vocabulary = tokenizer.vocabulary};
  const auto add = [&](std::string_view document,
                       std::int64_t line) -> Result<void> {
    auto& tokens = corpus.documents.emplace_back();
    const Result<void> encoded = tokenizer.encode(document, tokens);
    if (!encoded) {
      return fail(encoded.error().fault,
                  fmt::format("{}: the document of line {}: {}", name, line,
                              encoded.error().message));
    }
    tokens.push_back(tokenizer.end);
    return {};
  };
  TRY_DO(each_document(text, add));
  if (corpus.documents.empty()) {
    return fail(Fault::input,
                fmt::format("{}: no text; expected documents with empty lines "
                            "between them",
                            name));
  }
  return corpus;
}

Result<Corpus> byte_corpus(std::string_view text, const std::string& name) {
  return make_corpus(text, name, {});
}

Result<std::string> read_text(const std::filesystem::path& path) {
  return read_file(path, kMostText);
}

std::string_view sample_text() { return kSample; }

const Corpus& sample_corpus() {
  static const Corpus corpus = byte_corpus(kSample, "sample").value();
  return corpus;
}

}  // namespace troupe::data
