// Where PCRE2 or utf8proc is not there.
#include <fmt/format.h>

#include "data/tokenizer_json.h"

namespace troupe::data {
namespace {

tl::unexpected<Error> unavailable(const std::string& name) {
  return fail(Fault::unavailable,
              fmt::format("{}: this build reads no tokenizer.json; install "
                          "libpcre2-dev and libutf8proc-dev and configure it "
                          "again",
                          name));
}

}  // namespace

Result<Tokenizer> parse_tokenizer_json(const Json& /*json*/,
                                       const std::string& name,
                                       const EndSource& /*end*/) {
  return unavailable(name);
}

Result<Tokenizer> read_tokenizer_json(const std::filesystem::path& path,
                                      std::string_view /*content*/,
                                      const std::string& /*end_token*/) {
  return unavailable(path.string());
}

}  // namespace troupe::data
