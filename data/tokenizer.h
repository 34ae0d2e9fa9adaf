// Text as tokens: bytes, or what a tokenizer file says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace troupe::data {

/// Byte tokens: 0 to 255 are bytes, then the end of a document.
inline constexpr std::int32_t kEndOfDocument = 256;
inline constexpr std::int32_t kByteVocabulary = 257;

/// Cuts text into tokens. For one thread: words that were seen are kept.
class Encoder {
 public:
  virtual ~Encoder() = default;
  /// Appends the tokens of `text`.
  ///
  /// Requires: UTF-8.
  /// Errors:   input, for text that has no tokens, or for which an expression
  ///           of the tokenizer takes too many steps.
  virtual Result<void> encode(std::string_view text,
                              std::vector<std::int32_t>& out) = 0;
};

/// A tokenizer and what is known of it. As it is made here: bytes.
struct Tokenizer {
  std::string name = "bytes";  ///< or the file
  std::string hash = {};       ///< of the file and the end, or empty
  std::int32_t vocabulary = kByteVocabulary;  ///< tokens are below it
  std::int32_t end = kEndOfDocument;          ///< of a document
  std::unique_ptr<Encoder> encoder = {};      ///< null: a token for each byte

  /// Appends the tokens of `text`, without an end.
  ///
  /// Errors: input, as the encoder; for text that is not UTF-8 where there is
  ///         an encoder.
  Result<void> encode(std::string_view text,
                      std::vector<std::int32_t>& out) const;
};

/// A SentencePiece model, or a `tokenizer.json` with byte-level BPE: which of
/// them, the name says (.model, .json), else the first byte.
///
/// `end_token` ends documents; empty: the token which the file says does.
///
/// Errors: input, naming file, key and value, for what is malformed or not
///         supported and for an end that cannot be found; unavailable, where
///         the library is not built in.
Result<Tokenizer> read_tokenizer(const std::filesystem::path& path,
                                 const std::string& end_token = {});

}  // namespace troupe::data
