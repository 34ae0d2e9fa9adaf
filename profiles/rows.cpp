#include "profiles/rows.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace troupe::profiles {
namespace {

/// Sizes above this are not of a real operator, model or cluster.
constexpr std::int64_t kMostElements = std::int64_t{1} << 40;
constexpr int kMostDegree = 1 << 20;
constexpr int kMostSequence = 1 << 27;
/// One operator, layer or stage of over a day is a wrong unit.
constexpr double kMostSeconds = 86400;
constexpr double kLeastSeconds = 1e-9;
/// No device reaches 20 PFLOP/s (dense) or 100 TB/s: such a time is a wrong
/// unit.
constexpr double kMostFlopRate = 2e16;
constexpr double kMostByteRate = 1e14;
/// A layer is several kernels; none is launched and done in half a
/// microsecond.
constexpr double kLeastLayerSeconds = 5e-7;

std::optional<std::string> problem_of_time(double time_s, double spread,
                                           int samples) {
  if (!std::isfinite(time_s)) return "time_s is not a finite number";
  if (time_s <= 0) return fmt::format("time_s is {}, not positive", time_s);
  if (time_s < kLeastSeconds) {
    return fmt::format("time_s is {:g}: under a nanosecond", time_s);
  }
  if (time_s > kMostSeconds) {
    return fmt::format("time_s is {:g}: over a day (seconds are expected)",
                       time_s);
  }
  if (!std::isfinite(spread) || spread < 0 || spread > 1e3) {
    return fmt::format("spread is {}, not in 0..1000", spread);
  }
  if (samples < 0) return fmt::format("samples is {}, negative", samples);
  return {};
}

std::optional<std::string> problem_of_size(std::string_view name,
                                           std::int64_t value,
                                           std::int64_t least,
                                           std::int64_t most) {
  if (value >= least && value <= most) return {};
  return fmt::format("{} is {}, not in {}..{}", name, value, least, most);
}

/// The first problem of several sizes.
struct Size {
  std::string_view name;
  std::int64_t value;
  std::int64_t least;
  std::int64_t most;
};
std::optional<std::string> problem_of_sizes(std::initializer_list<Size> sizes) {
  for (const Size& s : sizes) {
    if (auto p = problem_of_size(s.name, s.value, s.least, s.most)) return p;
  }
  return {};
}

std::optional<std::string> problem_of_window(const kernels::OpShape& op) {
  if (op.window == 0) return {};
  const bool attention = op.kind == kernels::OpKind::attention_forward ||
                         op.kind == kernels::OpKind::attention_backward;
  if (attention && op.causal && op.window > 0 && op.window < op.dim[2]) {
    return {};
  }
  return fmt::format(
      "window {}: only causal attention over more keys than that has one",
      op.window);
}

template <typename T>
bool read_number(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

template <typename T>
bool take(std::optional<T> parsed, T& value) {
  if (parsed) value = *parsed;
  return parsed.has_value();
}

}  // namespace

std::optional<std::string> problem_of(const OperatorRow& row) {
  if (auto p = problem_of_time(row.time_s, row.spread, row.samples)) return p;
  const int count = kernels::dimensions(row.op.kind);
  for (int i = 0; i < 6; ++i) {
    const std::int64_t d = row.op.dim[static_cast<std::size_t>(i)];
    if (i >= count && d != 0) {
      return fmt::format("{} has {} sizes, more are given",
                         name_of(row.op.kind), count);
    }
    if (i < count && (d < 1 || d > kMostElements)) {
      return fmt::format("size {} of {} is {}, not in 1..{}", i + 1,
                         name_of(row.op.kind), d, kMostElements);
    }
  }
  if (auto p = problem_of_window(row.op)) return p;
  const double rate = kernels::flops(row.op).v / row.time_s;
  const double bytes =
      static_cast<double>(kernels::traffic(row.op).v) / row.time_s;
  if (rate > kMostFlopRate) {
    return fmt::format("{:.3g} FLOP/s is more than any device has", rate);
  }
  if (bytes > kMostByteRate) {
    return fmt::format("{:.3g} bytes/s is more than any device has", bytes);
  }
  return {};
}

std::optional<std::string> problem_of(const LayerRow& row) {
  if (auto p = problem_of_time(row.time_s, row.spread, row.samples)) return p;
  const LayerKey& k = row.key;
  const bool layer = k.part == Part::layer;
  const int most = 1 << 24;
  if (auto p = problem_of_sizes({{"hidden", k.hidden, 1, most},
                                 {"heads", k.heads, layer ? 1 : 0, most},
                                 {"kv_heads", k.kv_heads, layer ? 1 : 0, most},
                                 {"head_dim", k.head_dim, layer ? 1 : 0, most},
                                 {"ffn", k.ffn, layer ? 1 : 0, most},
                                 {"vocab", k.vocab, layer ? 0 : 1, 1 << 30},
                                 {"tp", k.tp, 1, kMostDegree},
                                 {"micro_batch", k.micro_batch, 1, kMostDegree},
                                 {"seq_len", k.seq_len, 1, kMostSequence}})) {
    return p;
  }
  if (row.time_s < kLeastLayerSeconds) {
    return fmt::format("{:.3g} s is shorter than any kernel takes", row.time_s);
  }
  return {};
}

std::optional<std::string> problem_of(const StageRow& row) {
  const int most = 1 << 24;
  if (auto p =
          problem_of_sizes({{"hidden", row.hidden, 1, most},
                            {"layers", row.layers, 1, 1 << 16},
                            {"vocab", row.vocab, 0, 1 << 30},
                            {"heads", row.heads, 1, most},
                            {"kv_heads", row.kv_heads, 1, most},
                            {"head_dim", row.head_dim, 1, most},
                            {"ffn", row.ffn, 1, most},
                            {"tp", row.tp, 1, kMostDegree},
                            {"pp", row.pp, 1, row.layers},
                            {"micro_batch", row.micro_batch, 1, kMostDegree},
                            {"seq_len", row.seq_len, 0, kMostSequence},
                            {"max_seq", row.max_seq, 0, kMostSequence},
                            {"min_seq", row.min_seq, 0, row.max_seq}})) {
    return p;
  }
  if (row.seq_len > 0) return problem_of_time(row.time_s, 0, 0);
  if (row.max_seq < 1) return "neither seq_len nor max_seq is given";
  for (const double v : {row.a, row.b, row.c}) {
    if (!std::isfinite(v) || v < 0) {
      return fmt::format("coefficient {} is not a number of at least 0", v);
    }
  }
  if (!(row.a + row.b > 0)) return "the fit does not grow with the length";
  const double s = row.max_seq;
  return problem_of_time(row.a * s * s + row.b * s + row.c, 0, 0);
}

std::optional<std::string> problem_of(const CollectiveRow& row) {
  if (auto p = problem_of_time(row.time_s, row.spread, row.samples)) return p;
  if (auto p = problem_of_sizes({{"ranks", row.ranks, 2, kMostDegree},
                                 {"per_node", row.per_node, 1, row.ranks},
                                 {"bytes", row.bytes, 1, kMostElements}})) {
    return p;
  }
  const double rate = static_cast<double>(row.bytes) / row.time_s;
  if (rate > kMostByteRate) {
    return fmt::format("{:.3g} bytes/s is more than any link has", rate);
  }
  return {};
}

std::optional<std::string> problem_of(const CopyRow& row) {
  if (auto p = problem_of_time(row.time_s, row.spread, row.samples)) return p;
  if (auto p = problem_of_sizes({{"bytes", row.bytes, 1, kMostElements}})) {
    return p;
  }
  const double rate = static_cast<double>(row.bytes) / row.time_s;
  if (rate > kMostByteRate) {
    return fmt::format("{:.3g} bytes/s is more than any memory has", rate);
  }
  return {};
}

bool lists(std::string_view all, std::string_view one) {
  while (!one.empty() && !all.empty()) {
    const auto end = all.find("; ");
    if (all.substr(0, end) == one) return true;
    all.remove_prefix(end == std::string_view::npos ? all.size() : end + 2);
  }
  return false;
}

std::string_view name_of(Part part) {
  switch (part) {
    case Part::layer:
      return "layer";
    case Part::embedding:
      return "embedding";
    case Part::head:
      return "head";
  }
  return "?";
}

std::optional<Part> parse_part(std::string_view name) {
  for (const Part part : {Part::layer, Part::embedding, Part::head}) {
    if (name_of(part) == name) return part;
  }
  return {};
}

double rounded(double value, int digits) {
  double result = value;
  from_text(fmt::format("{:.{}g}", value, digits), result);
  return result;
}

std::string to_text(const std::string& value) { return value; }
std::string to_text(bool value) { return value ? "1" : "0"; }
std::string to_text(int value) { return std::to_string(value); }
std::string to_text(std::int64_t value) { return std::to_string(value); }
std::string to_text(double value) { return fmt::format("{}", value); }
std::string to_text(kernels::DType value) {
  return std::string(kernels::name_of(value));
}
std::string to_text(kernels::OpKind value) {
  return std::string(kernels::name_of(value));
}
std::string to_text(clusters::Collective value) {
  return std::string(clusters::name_of(value));
}
std::string to_text(Part value) { return std::string(name_of(value)); }
std::string to_text(CopyRoute value) { return std::string(name_of(value)); }
std::string to_text(const std::array<std::int64_t, 6>& value) {
  std::string text;
  for (const std::int64_t d : value) {
    if (d == 0) break;
    if (!text.empty()) text += 'x';
    text += std::to_string(d);
  }
  return text;
}

bool from_text(std::string_view text, std::string& value) {
  value = text;
  return true;
}
bool from_text(std::string_view text, bool& value) {
  value = text == "1" || text == "true";
  return value || text == "0" || text == "false";
}
bool from_text(std::string_view text, int& value) {
  return read_number(text, value);
}
bool from_text(std::string_view text, std::int64_t& value) {
  return read_number(text, value);
}
bool from_text(std::string_view text, double& value) {
  return read_number(text, value);
}
bool from_text(std::string_view text, kernels::DType& value) {
  return take(kernels::parse_dtype(text), value);
}
bool from_text(std::string_view text, kernels::OpKind& value) {
  return take(kernels::parse_op_kind(text), value);
}
bool from_text(std::string_view text, clusters::Collective& value) {
  return take(clusters::parse_collective(text), value);
}
bool from_text(std::string_view text, Part& value) {
  return take(parse_part(text), value);
}
bool from_text(std::string_view text, CopyRoute& value) {
  return take(parse_copy_route(text), value);
}
bool from_text(std::string_view text, std::array<std::int64_t, 6>& value) {
  value.fill(0);
  std::size_t i = 0;
  while (true) {
    const std::size_t cut = text.find('x');
    if (i == value.size() || !read_number(text.substr(0, cut), value[i]) ||
        value[i] < 1) {
      return false;
    }
    ++i;
    if (cut == std::string_view::npos) return true;
    text.remove_prefix(cut + 1);
  }
}

}  // namespace troupe::profiles
