// Matrix products: which algorithm, and remembering it.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "kernels/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/state.h"

namespace troupe::kernels::cuda {
namespace {

Result<double> time_of(const Gemm& call, const LtAlgorithm& algorithm,
                       Context& context) {
  auto& state = context.state();
  return time_of_runs(
      [&] {
        return state.lt->multiply(call, algorithm, state.workspace.data(),
                                  context.stream());
      },
      context);
}

// The fastest of the candidates, run on the call's own operands but into
// memory of its own; without room for that, the first one untimed.
Result<LtAlgorithm> fastest(const Gemm& call, std::vector<LtAlgorithm> all,
                            Context& context) {
  Gemm trial = call;
  const std::int64_t ldc = key_of(call).ldc;
  const Bytes size{size_of(call.out).v * call.batch * call.m * ldc};
  const auto own = context.allocate(size);
  if (!own) return all.front();
  TRY_DO(context.fill(own->data(), 0, size));
  trial.c = own->data();
  LtAlgorithm best = all.front();
  for (LtAlgorithm& one : all) {
    const auto seconds = time_of(trial, one, context);
    if (!seconds) continue;  // a suggestion that does not run is no candidate
    one.seconds = *seconds;
    if (best.seconds == 0 || one.seconds < best.seconds) best = one;
  }
  best.runs = best.seconds > 0;
  return best;
}

Result<void> open(Context& context) {
  auto& state = context.state();
  if (state.lt != nullptr) return {};
  TRY(auto lt, Lt::open());
  TRY(state.workspace, context.allocate(state.choice.workspace));
  state.lt = std::move(lt);
  return {};
}

// Nothing where the library has no way that runs.
Result<const LtAlgorithm*> algorithm_for(const Gemm& call, Context& context) {
  auto& state = context.state();
  const GemmKey key = key_of(call);
  if (const auto at = state.algorithms.find(key);
      at != state.algorithms.end()) {
    return at->second.runs ? &at->second : nullptr;
  }
  TRY(auto all,
      state.lt->suggest(call, state.choice.candidates, state.choice.workspace));
  if (all.empty()) return nullptr;
  LtAlgorithm chosen = all.front();
  if (state.choice.candidates > 1) {
    TRY(chosen, fastest(call, std::move(all), context));
  }
  const LtAlgorithm& kept = state.algorithms.emplace(key, chosen).first->second;
  return kept.runs ? &kept : nullptr;
}

bool by_library(const Gemm& call) {
  const bool types = call.dtype == DType::bf16 || call.dtype == DType::fp32 ||
                     call.dtype == DType::tf32;
  // The library has no product of bf16 into fp32 with a bf16 bias.
  return types && call.k > 0 &&
         (call.bias == nullptr || call.out == call.dtype);
}

}  // namespace

Result<void> run_gemm(const Gemm& call, Context& context) {
  if (call.m == 0 || call.n == 0 || call.batch == 0) return {};
  auto& state = context.state();
  if (state.choice.own_kernel || !by_library(call)) {
    return launch(call, context.device());
  }
  TRY_DO(open(context));
  TRY(const LtAlgorithm* algorithm, algorithm_for(call, context));
  if (algorithm == nullptr) return launch(call, context.device());
  return state.lt->multiply(call, *algorithm, state.workspace.data(),
                            context.stream());
}

// A line: "gemm-choice 1; GPU; version; key; workspace; seconds; algorithm".
std::string Context::choices() const {
  std::string out = attention_choices(*state_);
  if (state_->lt == nullptr) return out;
  for (const auto& [key, chosen] : state_->algorithms) {
    if (chosen.seconds == 0) continue;
    out += fmt::format("gemm-choice 1;{};{};{};{};{:.9g};", state_->gpu,
                       state_->lt->version(), to_string(key), chosen.workspace,
                       chosen.seconds);
    for (const std::uint64_t word : chosen.algorithm.data) {
      out += fmt::format("{:016x}", word);
    }
    out += '\n';
  }
  return out;
}

namespace {

// Nothing for a line that is not of this GPU and library, or is damaged.
std::optional<std::pair<GemmKey, LtAlgorithm>> parse_choice(
    const std::string& line, const std::string& start, Bytes most) {
  if (!line.starts_with(start)) return std::nullopt;
  std::istringstream in(line.substr(start.size()));
  std::string key_text, workspace, seconds, words;
  std::getline(in, key_text, ';');
  std::getline(in, workspace, ';');
  std::getline(in, seconds, ';');
  std::getline(in, words);
  const auto key = parse_gemm_key(key_text);
  LtAlgorithm algorithm;
  if (!key || words.size() != 16 * std::size(algorithm.algorithm.data) ||
      std::sscanf(workspace.c_str(), "%zu", &algorithm.workspace) != 1 ||
      std::sscanf(seconds.c_str(), "%lf", &algorithm.seconds) != 1 ||
      algorithm.workspace > static_cast<std::size_t>(most.v) ||
      !(algorithm.seconds > 0)) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < std::size(algorithm.algorithm.data); ++i) {
    unsigned long long word = 0;
    if (std::sscanf(words.substr(16 * i, 16).c_str(), "%16llx", &word) != 1) {
      return std::nullopt;
    }
    algorithm.algorithm.data[i] = word;
  }
  return std::pair(*key, algorithm);
}

}  // namespace

Result<void> Context::load_choices(std::string_view text) {
  TRY_DO(open(*this));
  (void)open_attention(*this);  // where it is absent there are no such lines
  const std::string start =
      fmt::format("gemm-choice 1;{};{};", state_->gpu, state_->lt->version());
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const auto choice = parse_choice(line, start, state_->choice.workspace);
    if (choice) state_->algorithms.insert(*choice);
    load_attention_choice(line, *state_);
  }
  return {};
}

}  // namespace troupe::kernels::cuda
