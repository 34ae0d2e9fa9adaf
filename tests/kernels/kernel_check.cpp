// kernel_check [--seed N] [--only TEXT] [--device N] [--offset BYTES] [--json]
// Runs every operator on a GPU against the CPU's body and prints a table; with
// --json one object a line as they come, so that a hang loses no result: each
// case is announced by {"begin": NAME}. --only ^TEXT: names that begin so.
// kernel_check --gemm-best SECONDS [--device N]
// Products as chosen against the best of cuBLASLt, one JSON object a line.
// kernel_check --attention-bodies SECONDS [--device N]
// Attention by the own kernels and by cuDNN, one JSON object a line.
// Needs no test framework. Exit codes: 0 all right, 1 cannot run, 3 a kernel
// is wrong or failed.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>

#include "tests/kernels/attention_bodies.h"
#include "tests/kernels/cuda_perform.h"
#include "tests/kernels/gemm_best.h"

namespace troupe::kernels {
namespace {

struct Options {
  std::uint64_t seed = std::random_device{}();
  std::string only;
  int device = 0;
  std::int64_t offset = 0;
  double gemm_best = 0;         ///< seconds
  double attention_bodies = 0;  ///< seconds
  bool json = false;
};

template <typename N>
bool number(std::string_view text, N& out) {
  const auto end = text.data() + text.size();
  return std::from_chars(text.data(), end, out) ==
         std::from_chars_result{end, std::errc{}};
}

Result<Options> parse(std::span<char* const> arguments) {
  Options o;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view name = arguments[i];
    if (name == "--json") {
      o.json = true;
      continue;
    }
    const std::string_view value =
        i + 1 < arguments.size() ? arguments[++i] : "";
    const bool ok =
        (name == "--seed" && number(value, o.seed)) ||
        (name == "--device" && number(value, o.device)) ||
        (name == "--offset" && number(value, o.offset)) ||
        (name == "--gemm-best" && number(value, o.gemm_best) &&
         o.gemm_best > 0) ||
        (name == "--attention-bodies" && number(value, o.attention_bodies) &&
         o.attention_bodies > 0) ||
        (name == "--only" && !(o.only = value).empty());
    if (!ok) {
      return fail(Fault::input,
                  fmt::format("{} {}: want --seed N, --only TEXT, --device N, "
                              "--offset BYTES, --gemm-best SECONDS, "
                              "--attention-bodies SECONDS or --json",
                              name, value));
    }
  }
  return o;
}

bool wanted(const Options& options, std::string_view name) {
  if (options.only.starts_with('^')) {
    return name.starts_with(std::string_view(options.only).substr(1));
  }
  return name.find(options.only) != std::string_view::npos;
}

std::vector<testing::Case> cases_of(const Options& options) {
  std::vector<testing::Case> all;
  for (auto* make : {&testing::operator_cases, &testing::gemm_cases,
                     &testing::attention_cases}) {
    for (auto& one : make(options.seed)) {
      if (wanted(options, one.name)) all.push_back(std::move(one));
    }
  }
  return all;
}

nlohmann::json to_json(const testing::Outcome& outcome) {
  return {{"case", outcome.name},   {"dtype", name_of(outcome.dtype)},
          {"error", outcome.error}, {"tolerance", outcome.tolerance},
          {"ok", outcome.ok()},     {"note", outcome.note}};
}

/// A result as a JSON object, or nothing of the kind for people.
void print_line(const Options& options, const nlohmann::json& line) {
  if (!options.json) return;
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

/// A case that could not be run is wrong, with the reason in its note.
testing::Outcome outcome_of(const testing::Case& one, DType dtype,
                            const testing::Perform& perform) {
  const auto compared = testing::compare(one, dtype, perform);
  if (compared) return *compared;
  return {.name = one.name, .dtype = dtype, .note = compared.error().message};
}

Result<int> check_all(const Options& options) {
  if (options.gemm_best > 0) {
    TRY_DO(
        testing::print_gemms_against_best(options.device, options.gemm_best));
    return 0;
  }
  if (options.attention_bodies > 0) {
    TRY_DO(testing::print_attention_bodies(options.device,
                                           options.attention_bodies));
    return 0;
  }
  TRY(const auto info, cuda::device_info(options.device));
  cuda::AttentionChoice attention;
  TRY(attention.body, cuda::attention_body_from_environment());
  TRY(auto context, cuda::Context::create(options.device, {}, attention));
  const auto perform = testing::perform_on(context, options.offset);
  if (!options.json) {
    fmt::print("{}\nseed {}\n", cuda::describe(info), options.seed);
  }
  print_line(options, {{"gpu", cuda::describe(info)},
                       {"seed", options.seed},
                       {"offset", options.offset}});
  int wrong = 0, count = 0;
  for (const auto& one : cases_of(options)) {
    for (const DType dtype : {DType::fp32, DType::bf16}) {
      print_line(options, {{"begin", one.name}});
      const auto outcome = outcome_of(one, dtype, perform);
      ++count;
      wrong += outcome.ok() ? 0 : 1;
      print_line(options, to_json(outcome));
      if (options.json) continue;
      fmt::print("{:<52} {:<5} {:.2e} of {:.2e} {}\n", outcome.name,
                 name_of(dtype), outcome.error, outcome.tolerance,
                 outcome.ok() ? "ok" : outcome.note);
    }
  }
  if (!options.json) fmt::print("{} of {} wrong\n", wrong, count);
  print_line(options, {{"wrong", wrong}, {"count", count}});
  return wrong == 0 ? 0 : 3;
}

}  // namespace
}  // namespace troupe::kernels

int main(int count, char** arguments) {
  using namespace troupe;
  const auto code = kernels::parse({arguments, static_cast<std::size_t>(count)})
                        .and_then(kernels::check_all);
  if (code) return *code;
  fmt::print(stderr, "kernel_check: {}\n", code.error().message);
  return 1;
}
