// CSV tables of Vidur (operators, collectives) and vTrain (NCCL all-reduce).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <unordered_map>

#include "base/text.h"
#include "base/units.h"
#include "profiles/own_format.h"
#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

/// A CSV text with a header, row by row.
class Table {
 public:
  Table(std::string_view text, const Foreign& file, Gather& gather)
      : text_(text), file_(file), gather_(gather) {
    next_line();
    split_csv(line_, cells_);
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      columns_.try_emplace(cells_[i], i);
      ++width_;
    }
  }

  bool has(const std::string& column) const {
    return columns_.contains(column);
  }

  /// The next row of the right width; others are refused.
  bool next() {
    while (next_line()) {
      if (line_.empty()) continue;
      if (split_csv(line_, cells_) && cells_.size() == width_) return true;
      gather_.reject(where(), fmt::format("{} values for {} columns",
                                          cells_.size(), width_));
    }
    return false;
  }

  /// Nothing when it is empty or no finite number.
  std::optional<double> number(const std::string& column) const {
    const auto at = columns_.find(column);
    double value = 0;
    if (at == columns_.end() || !from_text(cells_[at->second], value) ||
        !std::isfinite(value)) {
      return {};
    }
    return value;
  }
  /// Whole and within what a size may be.
  std::optional<std::int64_t> size(const std::string& column) const {
    const auto value = number(column);
    if (!value || *value < 1 || *value > 1e12 || *value != std::trunc(*value)) {
      return {};
    }
    return static_cast<std::int64_t>(*value);
  }
  std::string text(const std::string& column) const {
    const auto at = columns_.find(column);
    return at == columns_.end() ? "" : cells_[at->second];
  }
  std::string where() const {
    return fmt::format("{}:{}", file_.path, number_);
  }
  const std::vector<std::string>& cells() const { return cells_; }

 private:
  bool next_line() {
    if (text_.empty()) return false;
    ++number_;
    const auto end = text_.find('\n');
    line_ = text_.substr(0, end);
    text_.remove_prefix(end == std::string_view::npos ? text_.size() : end + 1);
    while (!line_.empty() && line_.back() == '\r') line_.remove_suffix(1);
    return true;
  }

  std::string_view text_;
  std::string_view line_;
  int number_ = 0;
  const Foreign& file_;
  Gather& gather_;
  std::map<std::string, std::size_t> columns_;
  std::size_t width_ = 0;
  std::vector<std::string> cells_;
};

/// Repeated measurements of one key become one row: the mean of the medians,
/// and the larger of their own spread and the spread within a measurement.
struct Repeats {
  double sum = 0;
  double squares = 0;
  double within = 0;
  int count = 0;
  std::string where;

  void add(double seconds, double spread, const std::string& place) {
    if (count == 0) where = place;
    sum += seconds;
    squares += seconds * seconds;
    within = std::max(within, spread);
    ++count;
  }
  double mean() const { return sum / count; }
  double spread() const {
    const double m = mean();
    const double variance = std::max(0.0, squares / count - m * m);
    return rounded(std::max(within, std::sqrt(variance) / m), 3);
  }
};

template <typename Row>
using Merged = std::map<std::string, std::pair<Row, Repeats>>;

template <typename Row>
void merge(Merged<Row>& merged, const Row& row, double seconds, double spread,
           const std::string& where) {
  std::string key;
  fields(row, [&](std::string_view, const auto& value, Need) {
    key += to_text(value) + ',';
  });
  auto& [kept, repeats] = merged.try_emplace(key, row, Repeats{}).first->second;
  repeats.add(seconds, spread, where);
}

template <typename Row>
void add_merged(Merged<Row>& merged, Gather& gather) {
  for (auto& [key, entry] : merged) {
    auto& [row, repeats] = entry;
    row.time_s = rounded(repeats.mean(), 7);
    row.spread = std::min(repeats.spread(), 1e3);
    row.samples = repeats.count;
    gather.add(std::move(row), repeats.where);
  }
}

/// Sizes of one row of a Vidur compute table.
struct Sizes {
  std::int64_t tokens, tp, heads, kv_heads, hidden, ffn, vocab, head_dim;
  bool gated;
};

std::optional<Sizes> sizes_of(const Table& t) {
  const auto tokens = t.size("num_tokens");
  const auto tp = t.size("num_tensor_parallel_workers");
  const auto heads = t.size("n_head");
  const auto kv = t.size("n_kv_head");
  const auto hidden = t.size("n_embd");
  const auto ffn = t.size("n_expanded_embd");
  const auto vocab = t.size("vocab_size");
  if (!tokens || !tp || !heads || !kv || !hidden || !ffn || !vocab) return {};
  if (*hidden % *heads != 0 || *heads % *tp != 0) return {};
  return Sizes{*tokens,
               *tp,
               *heads,
               *kv,
               *hidden,
               *ffn,
               *vocab,
               *hidden / *heads,
               t.text("use_gated_mlp") == "True"};
}

using kernels::DType;
using kernels::OpKind;

/// The operators of a Vidur row: its column name, and our shape. Key and
/// value heads that cannot be split are repeated on every worker.
std::vector<std::pair<const char*, kernels::OpShape>> operators_of(
    const Sizes& s) {
  const auto rows = [&](OpKind kind, std::int64_t columns) {
    return kernels::rows_by_columns(kind, s.tokens, columns, DType::fp16);
  };
  const std::int64_t q = s.heads / s.tp * s.head_dim;
  const std::int64_t kv =
      std::max<std::int64_t>(1, s.kv_heads / s.tp) * s.head_dim;
  const std::int64_t ffn = s.ffn / s.tp;
  kernels::OpShape embedding = rows(OpKind::embedding_forward, s.hidden);
  embedding.dim[2] = ceil_div(s.vocab, s.tp);
  kernels::OpShape activation = rows(OpKind::activation_forward, ffn);
  activation.gated = s.gated;
  return {
      {"emb", embedding},
      {"input_layernorm", rows(OpKind::norm_forward, s.hidden)},
      {"post_attention_layernorm", rows(OpKind::norm_forward, s.hidden)},
      {"attn_pre_proj",
       kernels::gemm(s.tokens, q + 2 * kv, s.hidden, DType::fp16)},
      {"attn_rope", rows(OpKind::rotary, q + kv)},
      {"attn_post_proj", kernels::gemm(s.tokens, s.hidden, q, DType::fp16)},
      {"mlp_up_proj",
       kernels::gemm(s.tokens, (s.gated ? 2 : 1) * ffn, s.hidden, DType::fp16)},
      {"mlp_act", activation},
      {"mlp_down_proj", kernels::gemm(s.tokens, s.hidden, ffn, DType::fp16)},
      {"add", rows(OpKind::add, s.hidden)}};
}

std::string before(std::string_view text, std::string_view mark) {
  return std::string(text.substr(0, text.find(mark)));
}

}  // namespace

Result<void> read_vidur_compute(std::string_view text, const Foreign& file,
                                Gather& gather) {
  const std::string foreign = before(file.name(), "_");
  TRY(const std::string device,
      file.device(foreign == "a100" ? "a100-80" : foreign));
  Source source = file.source("vidur");
  source.kind = "measured";
  source.licence = "MIT (c) Microsoft Corporation";
  source.citation = "https://github.com/microsoft/vidur";
  source.note = "kernel times, fp16, forward";
  gather.begin(std::move(source));
  Table table(text, file, gather);
  Merged<OperatorRow> merged;
  while (table.next()) {
    const auto sizes = sizes_of(table);
    if (!sizes) {
      gather.reject(table.where(), "a size is missing, zero or not whole");
      continue;
    }
    for (const auto& [name, op] : operators_of(*sizes)) {
      const std::string prefix = fmt::format("time_stats.{}.", name);
      if (table.text(prefix + "median").empty()) continue;  // not measured
      const double ms = table.number(prefix + "median").value_or(std::nan(""));
      const double std_ms = table.number(prefix + "std").value_or(0);
      OperatorRow row{.device = device, .op = op, .time_s = ms * 1e-3};
      if (problem_of(row)) {
        gather.add(row, table.where());  // refused with its reason
        continue;
      }
      row.time_s = 0;
      merge(merged, row, ms * 1e-3, std::max(0.0, std_ms / ms), table.where());
    }
  }
  add_merged(merged, gather);
  return {};
}

Result<void> read_vidur_network(std::string_view text, const Foreign& file,
                                Gather& gather) {
  std::string system = file.name();
  for (const char* mark : {"_all_reduce", "_send_recv"}) {
    system = before(system, mark);
  }
  TRY(const std::string device, file.device(system));
  Source source = file.source("vidur");
  source.kind = "measured";
  source.licence = "MIT (c) Microsoft Corporation";
  source.citation = "https://github.com/microsoft/vidur";
  source.note = "NCCL through PyTorch";
  gather.begin(std::move(source));
  Table table(text, file, gather);
  Merged<CollectiveRow> merged;
  while (table.next()) {
    const std::string name = table.text("collective");
    const auto collective =
        name == "send_recv" ? std::optional(clusters::Collective::send_receive)
                            : clusters::parse_collective(name);
    const auto ranks = table.size("num_workers");
    const auto per_node = table.size("devices_per_node");
    const auto bytes = table.size("size");
    const std::string prefix = fmt::format("time_stats.{}.", name);
    const auto ms = table.number(prefix + "median");
    if (!collective || !ranks || !per_node || !bytes || !ms) {
      gather.reject(table.where(),
                    "collective, size, workers or median is missing or wrong");
      continue;
    }
    CollectiveRow row{
        .device = device,
        .collective = *collective,
        .ranks = static_cast<int>(std::min<std::int64_t>(*ranks, 1 << 20)),
        .per_node = static_cast<int>(std::min(*per_node, *ranks)),
        .bytes = *bytes,
        .time_s = *ms * 1e-3};
    if (problem_of(row)) {
      gather.add(row, table.where());
      continue;
    }
    row.time_s = 0;
    merge(merged, row, *ms * 1e-3,
          std::max(0.0, table.number(prefix + "std").value_or(0) / *ms),
          table.where());
  }
  add_merged(merged, gather);
  return {};
}

Result<void> read_vtrain_allreduce(std::string_view text, const Foreign& file,
                                   Gather& gather) {
  const std::string name = file.name();
  TRY(const std::string device, file.device(before(name, "_")));
  const auto mark = name.find("gpus");
  int ranks = 0;
  if (mark == std::string::npos ||
      !from_text(before(std::string_view(name).substr(mark + 4), "."), ranks) ||
      ranks < 2 || ranks > 1024) {
    return fail(Fault::input, file.path +
                                  ": the name must end in gpusN.csv: the "
                                  "number of GPUs is not in the table");
  }
  Source source = file.source("vtrain");
  source.kind = "measured";
  source.licence = "MIT (c) 2024 VIA Research Group at KAIST";
  source.citation = "https://github.com/VIA-Research/vTrain";
  source.note = "nccl-tests all_reduce, one node, in place";
  gather.begin(std::move(source));
  Table table(text, file, gather);
  if (table.cells().size() < 6) {
    return fail(Fault::input, file.path + ":1: expected six columns or more");
  }
  while (table.next()) {
    std::int64_t bytes = 0;
    double ns = 0;
    if (!from_text(table.cells()[0], bytes) ||
        !from_text(table.cells()[5], ns)) {
      gather.reject(table.where(), "size or time is no number");
      continue;
    }
    gather.add(CollectiveRow{.device = device,
                             .ranks = ranks,
                             .per_node = ranks,
                             .bytes = bytes,
                             .time_s = ns * 1e-9},
               table.where());
  }
  return {};
}

}  // namespace troupe::profiles
