#include <fmt/format.h>

#include <cmath>
#include <map>

#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

/// "b=1, m=4096, layout=TN" as a map.
std::map<std::string, std::string> words_of(std::string_view text) {
  std::map<std::string, std::string> words;
  while (!text.empty()) {
    const auto end = text.find(", ");
    const std::string_view word = text.substr(0, end);
    const auto equals = word.find('=');
    if (equals != std::string_view::npos) {
      words[std::string(word.substr(0, equals))] = word.substr(equals + 1);
    }
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 2);
  }
  return words;
}

class SimuMax {
 public:
  SimuMax(const Foreign& file, std::string device, Gather& gather)
      : file_(file), device_(std::move(device)), gather_(gather) {}

  /// All shapes of one operator kind; `read` turns words into a shape.
  void kind(const Json& ops, const char* name) {
    const auto at = ops.find(name);
    if (at == ops.end() || !at->is_object()) return;
    const auto tflops = at->find("tflops");
    const auto table = at->find("accurate_efficient_factor");
    if (tflops == at->end() || table == at->end() || !table->is_object()) {
      return;
    }
    const double peak = tflops->is_number() ? tflops->get<double>() : 0;
    for (const auto& [shape, factor] : table->items()) {
      one(name, shape, factor.is_number() ? factor.get<double>() : 0, peak);
    }
  }

 private:
  void one(std::string_view kind, const std::string& text, double factor,
           double peak) {
    const std::string where =
        fmt::format("{}: /accelerator/op/{}/{}", file_.path, kind, text);
    const auto words = words_of(text);
    if (!(factor > 0) || !(peak > 0)) {
      return gather_.reject(where, "efficiency or peak is not positive");
    }
    kernels::OpShape op;
    std::string problem;
    if (kind == "matmul") {
      problem = read_gemm(words, op);
    } else {
      op.kind = kind == "sdp_fwd" ? kernels::OpKind::attention_forward
                                  : kernels::OpKind::attention_backward;
      problem = read_attention(words, op);
    }
    if (!problem.empty()) return gather_.reject(where, problem);
    // Attention efficiencies count the full square of a causal kernel.
    const double counted = kernels::flops(op).v * (op.causal ? 2 : 1);
    const double seconds = counted / (peak * 1e12 * factor);
    gather_.add(
        OperatorRow{.device = device_, .op = op, .time_s = rounded(seconds, 6)},
        where);
  }

  static std::int64_t size(const std::map<std::string, std::string>& words,
                           const char* name) {
    const auto at = words.find(name);
    std::int64_t value = 0;
    if (at == words.end() || !from_text(at->second, value) || value < 1) {
      return 0;
    }
    return std::min(value, std::int64_t{1} << 40);
  }

  static std::string read_gemm(const std::map<std::string, std::string>& words,
                               kernels::OpShape& op) {
    if (const auto at = words.find("accumulate");
        at != words.end() && at->second != "False") {
      return "adds into an accumulator: another operator than the product";
    }
    op = kernels::gemm(size(words, "m"), size(words, "n"), size(words, "k"),
                       kernels::DType::bf16, size(words, "b"));
    if (op.dim[0] * op.dim[1] * op.dim[2] * op.dim[3] == 0) {
      return "a size is missing";
    }
    // Several layouts of one shape are several measurements of it.
    return {};
  }

  static std::string read_attention(
      const std::map<std::string, std::string>& words, kernels::OpShape& op) {
    const auto head = size(words, "qk_head_dim");
    if (head != size(words, "v_head_dim")) {
      return "heads of Q and V differ in size: no such operator here";
    }
    if (const auto at = words.find("qkv_contiguous");
        at != words.end() && at->second != "True") {
      return "strided input; the contiguous measurement is used";
    }
    const auto length = size(words, "seq_len");
    op.causal = true;
    op.dim = {
        size(words, "batch"),       length, length, size(words, "head_num"),
        size(words, "kv_head_num"), head};
    for (const auto d : op.dim) {
      if (d == 0) return "a size is missing";
    }
    return {};
  }

  const Foreign& file_;
  std::string device_;
  Gather& gather_;
};

}  // namespace

Result<void> read_simumax(const Json& json, const Foreign& file,
                          Gather& gather) {
  const Json* named = member(&json, "sys_name");
  const std::string system = named != nullptr && named->is_string()
                                 ? named->get<std::string>()
                                 : file.name();
  TRY(std::string device,
      file.device(system.starts_with("a100_pcie")
                      ? "a100_pcie"
                      : system.substr(0, system.find('_'))));
  Source source = file.source("simumax");
  source.kind = "measured";
  source.licence = "Apache-2.0 (c) 2023-2024 Moore Threads";
  source.citation = "https://github.com/MooreThreads/SimuMax";
  source.note = "from efficiencies: FLOPs / (peak x efficiency)";
  gather.begin(std::move(source));
  const Json* ops = member(member(&json, "accelerator"), "op");
  if (ops == nullptr || !ops->is_object()) {
    return fail(Fault::input, file.path +
                                  ": /accelerator/op: expected an "
                                  "object");
  }
  SimuMax reader(file, std::move(device), gather);
  for (const char* kind : {"matmul", "sdp_fwd", "sdp_bwd"}) {
    reader.kind(*ops, kind);
  }
  return {};
}

}  // namespace troupe::profiles
