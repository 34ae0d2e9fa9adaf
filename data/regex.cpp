#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/text.h"

namespace troupe::data {
namespace {

constexpr std::size_t kLongestPattern = 1 << 16;
/// Steps of one match: some, and some for every byte that is left.
constexpr std::size_t kSteps = 20'000, kStepsPerByte = 20;
constexpr std::uint32_t kMostHeapKib = 256 << 10;
constexpr std::size_t kLeastStack = 32 << 10, kMostStack = 8 << 20;

std::string reason_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR pointer_of(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

/// Deletes what PCRE2 has made.
struct FreePcre {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, FreePcre>;

}  // namespace

struct Regex::State {
  std::string pattern;
  Owned<pcre2_code> code;
  Owned<pcre2_match_data> match;
  Owned<pcre2_jit_stack> stack;
  Owned<pcre2_match_context> context;
};

Regex::Regex(std::unique_ptr<State> state) : state_(std::move(state)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::compile(std::string_view pattern, bool literal) {
  if (pattern.size() > kLongestPattern) {
    return fail(Fault::input,
                fmt::format("an expression of {} bytes; expected at most {}",
                            pattern.size(), kLongestPattern));
  }
  auto s = std::make_unique<State>();
  s->pattern = pattern;
  const std::uint32_t options =
      PCRE2_UTF |
      (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
  int error = 0;
  PCRE2_SIZE at = 0;
  s->code.reset(pcre2_compile(pointer_of(pattern), pattern.size(), options,
                              &error, &at, nullptr));
  if (!s->code) {
    return fail(Fault::input,
                fmt::format("'{}' is not an expression that PCRE2 knows: {} "
                            "(at byte {})",
                            excerpt(pattern), reason_of(error), at));
  }
  // Without a just-in-time compiler the interpreter does the same.
  if (pcre2_jit_compile(s->code.get(), PCRE2_JIT_COMPLETE) == 0) {
    s->stack.reset(pcre2_jit_stack_create(kLeastStack, kMostStack, nullptr));
  }
  s->match.reset(pcre2_match_data_create_from_pattern(s->code.get(), nullptr));
  s->context.reset(pcre2_match_context_create(nullptr));
  if (!s->match || !s->context) {
    return fail(Fault::io, "no memory for a regular expression");
  }
  pcre2_set_heap_limit(s->context.get(), kMostHeapKib);
  if (s->stack) {
    pcre2_jit_stack_assign(s->context.get(), nullptr, s->stack.get());
  }
  return Regex(std::move(s));
}

Result<std::optional<Regex::Match>> Regex::find(std::string_view text,
                                                std::size_t from) {
  State& s = *state_;
  const std::size_t steps = kSteps + kStepsPerByte * (text.size() - from);
  pcre2_set_match_limit(s.context.get(),
                        static_cast<std::uint32_t>(std::min<std::size_t>(
                            steps, std::numeric_limits<std::uint32_t>::max())));
  const auto run = [&](std::uint32_t options) {
    return pcre2_match(s.code.get(), pointer_of(text), text.size(), from,
                       PCRE2_NO_UTF_CHECK | options, s.match.get(),
                       s.context.get());
  };
  int found = run(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = run(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  const PCRE2_SIZE* const place = pcre2_get_ovector_pointer(s.match.get());
  if (found < 0 || place[0] > place[1] || place[0] < from) {
    return fail(
        Fault::input,
        fmt::format("expression '{}' cannot be used on a text of {} bytes: {}",
                    excerpt(s.pattern), text.size(),
                    found < 0 ? reason_of(found)
                              : "a match ends before it "
                                "begins"));
  }
  return Match{place[0], place[1]};
}

}  // namespace troupe::data
