#include "data/tokenizer.h"

#include <fmt/format.h>

#include "base/file.h"
#include "base/utf8.h"
#include "data/sentencepiece.h"
#include "data/tokenizer_json.h"

namespace troupe::data {
namespace {

constexpr Bytes kMostTokenizer{std::int64_t{128} << 20};

bool is_json(const std::filesystem::path& path, std::string_view content) {
  if (path.extension() == ".json") return true;
  if (path.extension() == ".model") return false;
  return content.starts_with('{');
}

}  // namespace

Result<void> Tokenizer::encode(std::string_view text,
                               std::vector<std::int32_t>& out) const {
  if (!encoder) {
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
    return {};
  }
  const std::size_t at = first_invalid(text);
  if (at != std::string_view::npos) {
    return fail(
        Fault::input,
        fmt::format("byte 0x{:02X} (number {}) is not UTF-8, which "
                    "tokenizer {} needs; without one any bytes will do",
                    static_cast<unsigned char>(text[at]), at + 1, name));
  }
  return encoder->encode(text, out);
}

Result<Tokenizer> read_tokenizer(const std::filesystem::path& path,
                                 const std::string& end_token) {
  TRY(const std::string content, read_file(path, kMostTokenizer));
  TRY(Tokenizer out, is_json(path, content)
                         ? read_tokenizer_json(path, content, end_token)
                         : read_sentencepiece(path, content, end_token));
  out.name = path.string();
  out.hash = fmt::format("{}-{}", content_hash(content), out.end);
  return out;
}

}  // namespace troupe::data
