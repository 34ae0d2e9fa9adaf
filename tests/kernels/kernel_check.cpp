// kernel_check [--seed N] [--only TEXT] [--device N] [--offset BYTES] [--json]
// Runs every operator on a GPU against the CPU's body and prints a table, or
// JSON. Needs no test framework. Exit codes: 0 all right, 1 cannot run,
// 3 a kernel is wrong.
#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>

#include "tests/kernels/cuda_perform.h"

namespace troupe::kernels {
namespace {

struct Options {
  std::uint64_t seed = std::random_device{}();
  std::string only;
  int device = 0;
  std::int64_t offset = 0;
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
    const bool ok = (name == "--seed" && number(value, o.seed)) ||
                    (name == "--device" && number(value, o.device)) ||
                    (name == "--offset" && number(value, o.offset)) ||
                    (name == "--only" && !(o.only = value).empty());
    if (!ok) {
      return fail(Fault::input,
                  fmt::format("{} {}: want --seed N, --only TEXT, --device N, "
                              "--offset BYTES or --json",
                              name, value));
    }
  }
  return o;
}

std::vector<testing::Case> cases_of(const Options& options) {
  std::vector<testing::Case> all;
  for (auto* make : {&testing::operator_cases, &testing::gemm_cases,
                     &testing::attention_cases}) {
    for (auto& one : make(options.seed)) {
      if (one.name.find(options.only) != std::string::npos) {
        all.push_back(std::move(one));
      }
    }
  }
  return all;
}

nlohmann::json to_json(const testing::Outcome& outcome) {
  return {{"case", outcome.name},   {"dtype", name_of(outcome.dtype)},
          {"error", outcome.error}, {"tolerance", outcome.tolerance},
          {"ok", outcome.ok()},     {"note", outcome.note}};
}

Result<int> check_all(const Options& options) {
  TRY(const auto info, cuda::device_info(options.device));
  TRY(auto context, cuda::Context::create(options.device));
  const auto perform = testing::perform_on(context, options.offset);
  if (!options.json) {
    fmt::print("{}\nseed {}\n", cuda::describe(info), options.seed);
  }
  auto rows = nlohmann::json::array();
  int wrong = 0;
  for (const auto& one : cases_of(options)) {
    for (const DType dtype : {DType::fp32, DType::bf16}) {
      TRY(const auto outcome, testing::compare(one, dtype, perform));
      wrong += outcome.ok() ? 0 : 1;
      rows.push_back(to_json(outcome));
      if (options.json) continue;
      fmt::print("{:<52} {:<5} {:.2e} of {:.2e} {}\n", outcome.name,
                 name_of(dtype), outcome.error, outcome.tolerance,
                 outcome.ok() ? "ok" : outcome.note);
    }
  }
  if (options.json) {
    const nlohmann::json all{{"gpu", cuda::describe(info)},
                             {"seed", options.seed},
                             {"offset", options.offset},
                             {"wrong", wrong},
                             {"cases", rows}};
    fmt::print("{}\n", all.dump(1));
  } else {
    fmt::print("{} of {} wrong\n", wrong, rows.size());
  }
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
