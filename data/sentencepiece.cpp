#include "data/sentencepiece.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "base/text.h"
#include "data/sentencepiece_file.h"

namespace troupe::data {
namespace {

using sentencepiece::SentencePieceProcessor;

class SentencePieceEncoder : public Encoder {
 public:
  explicit SentencePieceEncoder(std::unique_ptr<SentencePieceProcessor> model)
      : model_(std::move(model)) {}

  Result<void> encode(std::string_view text,
                      std::vector<std::int32_t>& out) override {
    if (text.empty()) return {};
    const auto status = model_->Encode({text.data(), text.size()}, &ids_);
    if (!status.ok()) {
      return fail(Fault::input,
                  fmt::format("SentencePiece says: {}", status.ToString()));
    }
    out.insert(out.end(), ids_.begin(), ids_.end());
    return {};
  }

 private:
  std::unique_ptr<SentencePieceProcessor> model_;
  std::vector<int> ids_;
};

Result<std::int32_t> end_piece(const SentencePieceProcessor& model,
                               const std::string& name,
                               const std::string& end_token) {
  if (end_token.empty()) {
    if (model.eos_id() >= 0) return model.eos_id();
    return fail(Fault::input,
                fmt::format("{}: the model has no eos to end documents with; "
                            "name one of its pieces with --end-token",
                            name));
  }
  // What is not there is the unknown piece.
  const int id = model.PieceToId(end_token);
  if (model.IdToPiece(id) == end_token) return id;
  return fail(Fault::input, fmt::format("--end-token {}: {} has no such piece",
                                        excerpt(end_token), name));
}

}  // namespace

Result<Tokenizer> read_sentencepiece(const std::filesystem::path& path,
                                     std::string_view content,
                                     const std::string& end_token) {
  const std::string name = path.string();
  TRY_DO(check_sentencepiece(content, name));
  auto model = std::make_unique<SentencePieceProcessor>();
  const auto status =
      model->LoadFromSerializedProto({content.data(), content.size()});
  if (!status.ok()) {
    return fail(Fault::input, fmt::format("{}: not a SentencePiece model: {}",
                                          name, status.ToString()));
  }
  Tokenizer out;
  out.vocabulary = model->GetPieceSize();
  TRY(out.end, end_piece(*model, name, end_token));
  out.encoder = std::make_unique<SentencePieceEncoder>(std::move(model));
  return out;
}

}  // namespace troupe::data
