#include "strategy/python_literal.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/text.h"

namespace troupe::strategy {
namespace {

constexpr int kDeepest = 64;

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

/// Reads left to right; after the first problem everything answers "no".
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Json value(int depth = 0) {
    skip();
    if (depth > kDeepest) {
      return problem(fmt::format("nested deeper than {} levels", kDeepest));
    }
    const char c = peek();
    if (c == '[') return list(']', depth);
    if (c == '(') return list(')', depth);
    if (c == '{') return dict(depth);
    if (c == '"' || c == '\'') return text();
    if (std::isalpha(static_cast<unsigned char>(c)) || c == '_') {
      return word();
    }
    return number();
  }

  /// Passes over `NAME =`, and an opening quote of a shell variable.
  void skip_assignment() {
    skip();
    std::size_t i = at_;
    while (i < text_.size() && is_word(text_[i])) ++i;
    const std::size_t after = text_.find_first_not_of(" \t", i);
    if (i > at_ && after != std::string_view::npos && text_[after] == '=') {
      at_ = after + 1;
      skip();
    }
    const char quote = peek();
    const std::size_t inside =
        text_.find_first_not_of(" \t\r\n", std::min(at_ + 1, text_.size()));
    if ((quote == '"' || quote == '\'') && inside != std::string_view::npos &&
        std::string_view("[({").find(text_[inside]) != std::string_view::npos) {
      quote_ = quote;
      ++at_;
    }
  }

  /// Nothing but blanks, comments and the closing quote may follow.
  void expect_end() {
    skip();
    if (quote_ && peek() == quote_) ++at_;
    skip();
    if (at_ < text_.size()) problem("expected the end");
  }

  const std::string& wrong() const { return wrong_; }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip() {
    while (at_ < text_.size()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
        ++at_;
      } else if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else {
        return;
      }
    }
  }

  Json problem(std::string_view what) {
    if (wrong_.empty()) {
      const auto before = text_.substr(0, at_);
      const auto line = std::count(before.begin(), before.end(), '\n') + 1;
      const std::size_t start = before.rfind('\n');
      const std::size_t column =
          at_ - (start == std::string_view::npos ? 0 : start + 1) + 1;
      wrong_ = fmt::format("line {}, column {}: {}, found \"{}\"", line, column,
                           what, excerpt(text_.substr(at_), 20));
      at_ = text_.size();
    }
    return nullptr;
  }

  bool separator(char close) {
    skip();
    if (peek() == ',') {
      ++at_;
      skip();
      return peek() != close;
    }
    if (peek() != close) problem(fmt::format("expected ',' or '{}'", close));
    return false;
  }

  Json list(char close, int depth) {
    ++at_;
    Json out = Json::array();
    skip();
    bool more = peek() != close;
    while (more && wrong_.empty()) {
      out.push_back(value(depth + 1));
      more = wrong_.empty() && separator(close);
    }
    ++at_;
    return out;
  }

  Json dict(int depth) {
    ++at_;
    Json out = Json::object();
    skip();
    bool more = peek() != '}';
    while (more && wrong_.empty()) {
      const Json key = value(depth + 1);
      skip();
      if (peek() != ':') return problem("expected ':'");
      ++at_;
      const std::string name =
          key.is_string() ? key.get<std::string>() : key.dump();
      if (out.contains(name)) return problem("a key appears twice");
      out[name] = value(depth + 1);
      more = wrong_.empty() && separator('}');
    }
    ++at_;
    return out;
  }

  Json text() {
    const char quote = text_[at_++];
    std::string out;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\') ++at_;
      if (at_ < text_.size()) out += text_[at_++];
    }
    if (at_ >= text_.size()) return problem("a text without end");
    ++at_;
    return out;
  }

  Json word() {
    const std::size_t start = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    const std::string_view found = text_.substr(start, at_ - start);
    if (found == "True" || found == "true") return true;
    if (found == "False" || found == "false") return false;
    if (found == "None" || found == "null") return nullptr;
    at_ = start;
    return problem("expected a literal (numbers, texts, lists, tuples)");
  }

  Json number() {
    std::size_t end = at_;
    while (end < text_.size() && (is_word(text_[end]) || text_[end] == '.' ||
                                  text_[end] == '-' || text_[end] == '+')) {
      ++end;
    }
    std::string digits;
    for (const char c : text_.substr(at_, end - at_)) {
      if (c != '_') digits += c;
    }
    const char* first = digits.data();
    const char* last = first + digits.size();
    std::int64_t whole = 0;
    double real = 0;
    Json out;
    if (const auto [p, e] = std::from_chars(first, last, whole);
        e == std::errc{} && p == last) {
      out = whole;
    } else if (const auto [q, f] = std::from_chars(first, last, real);
               f == std::errc{} && q == last && std::isfinite(real)) {
      out = real;
    } else {
      return problem("expected a number, text, list, tuple or dict");
    }
    at_ = end;
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  char quote_ = 0;
  std::string wrong_;
};

}  // namespace

Result<Json> parse_python(std::string_view text, std::string_view name) {
  Reader reader(text);
  reader.skip_assignment();
  Json out = reader.value();
  reader.expect_end();
  if (!reader.wrong().empty()) {
    return fail(Fault::input, fmt::format("{}: {}", name, reader.wrong()));
  }
  return out;
}

}  // namespace troupe::strategy
