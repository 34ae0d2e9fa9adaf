// Any bytes as a tokenizer file, which then cuts a text: JSON after a first
// '{', else a SentencePiece model.
#include <cstddef>
#include <cstdint>

#include "data/sentencepiece.h"
#include "data/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using troupe::data::Tokenizer;
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  const auto read = [&]() -> troupe::Result<Tokenizer> {
    if (!content.starts_with('{')) {
      return troupe::data::read_sentencepiece("fuzz.model", content, "");
    }
    TRY(const troupe::Json json, troupe::parse_json(content, "fuzz"));
    return troupe::data::parse_tokenizer_json(json, "fuzz", {});
  };
  const auto tokenizer = read();
  if (!tokenizer) return 0;
  std::vector<std::int32_t> tokens;
  (void)tokenizer->encode(
      "It's 1234 caf\xC3\xA9s,  \xEF\xBC\xA1\n\n aaaa bbbb<|endoftext|>",
      tokens);
  return 0;
}
