#include <algorithm>
#include <string>
#include <string_view>

#include "kernels/checker.h"

namespace troupe::kernels {
namespace {

void check_starts(Checker& checker, std::string_view name,
                  const std::int32_t* starts, const AttentionSizes& s,
                  std::int64_t tokens, std::int64_t longest) {
  checker.pointers(s.sequences > 0, {{name, starts}});
  if (s.sequences == 0 || !checker.good() || !checker.on_host()) return;
  if (starts[0] < 0) {
    checker.complain(name, std::to_string(starts[0]),
                     "it must not be negative");
  }
  for (std::int64_t i = 0; i < s.sequences; ++i) {
    const std::int64_t length = std::int64_t{starts[i + 1]} - starts[i];
    if (length < 0 || length > longest) {
      checker.complain(std::string(name) + "[" + std::to_string(i + 1) + "]",
                       std::to_string(starts[i + 1]),
                       "the sequence would have " + std::to_string(length) +
                           " tokens, the longest has " +
                           std::to_string(longest));
      return;
    }
    if (s.uniform && (starts[0] != 0 || length != longest)) {
      checker.complain("uniform", "true",
                       "sequence " + std::to_string(i) + " of " +
                           std::string(name) + " has " +
                           std::to_string(length) + " tokens, not " +
                           std::to_string(longest));
      return;
    }
  }
  if (starts[s.sequences] > tokens) {
    checker.complain(std::string(name) + "[sequences]",
                     std::to_string(starts[s.sequences]),
                     "there are " + std::to_string(tokens) + " tokens");
  }
}

void check_sizes(Checker& checker, const AttentionSizes& s) {
  checker.sizes({{"sequences", s.sequences},
                 {"q_tokens", s.q_tokens},
                 {"kv_tokens", s.kv_tokens},
                 {"max_q", s.max_q},
                 {"max_kv", s.max_kv}});
  checker.sizes(
      {{"heads", s.heads}, {"kv_heads", s.kv_heads}, {"head_dim", s.head_dim}},
      1);
  checker.volume({{"q_tokens", std::max<std::int64_t>(s.q_tokens, 1)},
                  {"heads", s.heads},
                  {"head_dim", s.head_dim}});
  checker.volume({{"kv_tokens", std::max<std::int64_t>(s.kv_tokens, 1)},
                  {"kv_heads", s.kv_heads},
                  {"head_dim", s.head_dim}});
  if (!checker.good()) return;
  if (s.heads % s.kv_heads != 0) {
    checker.complain(
        "heads", std::to_string(s.heads),
        "it must be a multiple of kv_heads, " + std::to_string(s.kv_heads));
  }
  checker.stride("q_ld", s.q_ld, s.heads * s.head_dim);
  checker.stride("kv_ld", s.kv_ld, s.kv_heads * s.head_dim);
  checker.stride("out_ld", s.out_ld, s.heads * s.head_dim);
  checker.volume({{"q_tokens", s.q_tokens}, {"q_ld", s.q_ld}});
  checker.volume({{"kv_tokens", s.kv_tokens}, {"kv_ld", s.kv_ld}});
  checker.volume({{"q_tokens", s.q_tokens}, {"out_ld", s.out_ld}});
  checker.sizes({{"window", s.window}});
  if (s.window > 0 && !s.causal) {
    checker.complain("window", std::to_string(s.window),
                     "only a causal call has a window");
  }
  checker.finite("scale", s.scale);
  if (!checker.good()) return;
  check_starts(checker, "q_starts", s.q_starts, s, s.q_tokens, s.max_q);
  check_starts(checker, "kv_starts", s.kv_starts, s, s.kv_tokens, s.max_kv);
}

}  // namespace

Result<void> check(const AttentionForward& c, Side side) {
  Checker checker("attention_forward", side);
  checker.type("dtype", c.dtype);
  check_sizes(checker, c.sizes);
  const bool some = c.sizes.sequences > 0;
  checker.pointers(some && c.sizes.q_tokens > 0,
                   {{"q", c.q}, {"out", c.out}, {"lse", c.lse}});
  checker.pointers(some && c.sizes.kv_tokens > 0, {{"k", c.k}, {"v", c.v}});
  return checker.done();
}

Result<void> check(const AttentionBackward& c, Side side) {
  Checker checker("attention_backward", side);
  checker.type("dtype", c.dtype);
  check_sizes(checker, c.sizes);
  const bool some = c.sizes.sequences > 0;
  checker.pointers(some && c.sizes.q_tokens > 0, {{"q", c.q},
                                                  {"out", c.out},
                                                  {"lse", c.lse},
                                                  {"d_out", c.d_out},
                                                  {"dq", c.dq}});
  checker.pointers(some && c.sizes.kv_tokens > 0,
                   {{"k", c.k}, {"v", c.v}, {"dk", c.dk}, {"dv", c.dv}});
  checker.scratch(c);
  return checker.done();
}

Result<void> check(const AttentionMerge& c, Side side) {
  Checker checker("attention_merge", side);
  checker.type("dtype", c.dtype);
  checker.sizes(
      {{"tokens", c.tokens}, {"heads", c.heads}, {"head_dim", c.head_dim}});
  checker.volume(
      {{"tokens", c.tokens}, {"heads", c.heads}, {"head_dim", c.head_dim}});
  const bool some = c.tokens > 0 && c.heads > 0;
  checker.pointers(some, {{"out_lse", c.out_lse}, {"lse", c.lse}});
  checker.pointers(some && c.head_dim > 0, {{"out", c.out}, {"sum", c.sum}});
  return checker.done();
}

}  // namespace troupe::kernels
