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

}  // namespace

Result<Corpus> byte_corpus(std::string_view text, const std::string& name) {
  Corpus corpus;
  std::vector<std::int32_t> document;
  const auto end = [&] {
    if (document.empty()) return;
    document.push_back(kEndOfDocument);
    corpus.documents.push_back(std::move(document));
    document.clear();
  };
  while (!text.empty()) {
    const std::size_t line_end = text.find('\n');
    const std::string_view line = text.substr(0, line_end);
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
      end();
      continue;
    }
    for (const char c : line) {
      document.push_back(static_cast<unsigned char>(c));
    }
    document.push_back('\n');
  }
  end();
  if (corpus.documents.empty()) {
    return fail(Fault::input,
                fmt::format("{}: no text; expected documents with empty lines "
                            "between them",
                            name));
  }
  return corpus;
}

Result<Corpus> read_corpus(const std::filesystem::path& path) {
  TRY(const std::string text, read_file(path, kMostText));
  return byte_corpus(text, path.string());
}

const Corpus& sample_corpus() {
  static const Corpus corpus = byte_corpus(kSample, "sample").value();
  return corpus;
}

}  // namespace troupe::data
