// Where SentencePiece is not there.
#include <fmt/format.h>

#include "data/sentencepiece.h"

namespace troupe::data {

Result<Tokenizer> read_sentencepiece(const std::filesystem::path& path,
                                     std::string_view /*content*/,
                                     const std::string& /*end_token*/) {
  return fail(Fault::unavailable,
              fmt::format("{}: this build reads no SentencePiece models; "
                          "install libsentencepiece-dev and configure it again",
                          path.string()));
}

}  // namespace troupe::data
