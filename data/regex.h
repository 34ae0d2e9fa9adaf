// Regular expressions with Unicode classes and look-ahead, by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace troupe::data {

/// A compiled expression. Classes such as \s and \p{L} are Unicode's.
class Regex {
 public:
  /// `literal`: the pattern is the text itself.
  ///
  /// Errors: input, with PCRE2's reason and the place in the pattern.
  static Result<Regex> compile(std::string_view pattern, bool literal = false);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  struct Match {
    std::size_t first = 0, last = 0;
  };
  /// The first match from `from` on; an empty one counts.
  ///
  /// Requires: UTF-8; `from` where a character begins.
  /// Errors:   input, when it takes more steps or memory than an expression
  ///           should that looks at each character a few times.
  Result<std::optional<Match>> find(std::string_view text, std::size_t from);

 private:
  struct State;
  explicit Regex(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe::data
