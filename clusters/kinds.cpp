#include "clusters/kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/text.h"

namespace troupe::clusters {
namespace {

constexpr RealLimits kTflops{1e-3, 1e6};
constexpr RealLimits kGbytesPerS{1e-6, 1e6};
constexpr RealLimits kMib{1, 1e9};
constexpr double kMibBytes = 1 << 20;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

/// "h100" of "h100-sxm"; "rtx-4090" of "rtx-4090-d".
std::string family(std::string_view name) {
  const std::string text = lower(name);
  const std::size_t from = text.starts_with("rtx-") ? 4 : 0;
  return text.substr(0, text.find('-', from));
}

void read_peaks(JsonObject& o, DeviceKind& kind, bool required) {
  std::optional<JsonObject> peaks = o.object("peak_tflops", !required);
  if (!peaks) return;
  using kernels::DType;
  bool any = false;
  for (const DType type :
       {DType::fp32, DType::tf32, DType::bf16, DType::fp16, DType::fp8}) {
    const std::string_view name = kernels::name_of(type);
    if (!peaks->has(name)) {
      peaks->raw(name);
      continue;
    }
    any = true;
    kind.peak[type] = {peaks->real(name, kTflops) * 1e12};
  }
  peaks->finish();
  if (!any && required) {
    o.findings().error(o.where("peak_tflops"),
                       "holds no type; give fp32, tf32, bf16, fp16 or fp8");
  }
}

void read_memory(JsonObject& o, DeviceKind& kind, bool required) {
  const bool gib = o.has("memory_gib");
  const bool mib = o.has("memory_mib");
  if (gib && mib) {
    o.findings().error(o.where("memory_mib"),
                       "memory_gib is given as well; give one of them");
  }
  double size = 0;
  if (gib)
    size = o.real("memory_gib", {kMib.least / 1024, kMib.most / 1024}) * 1024;
  if (mib || (required && !gib)) size = o.real("memory_mib", kMib);
  o.raw("memory_gib");
  o.raw("memory_mib");
  if (size > 0) kind.memory = {std::llround(size * kMibBytes)};
}

/// A rate in GB/s that keeps what is there when it is not said.
void read_rate(JsonObject& o, std::string_view key, Bandwidth& rate,
               bool required) {
  if (!required && !o.has(key)) {
    o.raw(key);
    return;
  }
  rate = {o.real(key, kGbytesPerS) * 1e9};
}

}  // namespace

const DeviceKind* KindTable::find(std::string_view name) const {
  std::string wanted = lower(name);
  for (const auto& [other, real] : aliases) {
    if (other == wanted) {
      wanted = real;
      break;
    }
  }
  for (const DeviceKind& kind : kinds) {
    if (lower(kind.name) == wanted) return &kind;
  }
  return nullptr;
}

std::vector<std::string> KindTable::names() const {
  std::vector<std::string> out;
  out.reserve(kinds.size());
  for (const DeviceKind& kind : kinds) out.push_back(kind.name);
  return out;
}

std::string unknown_kind(std::string_view name, const KindTable& table) {
  const std::vector<std::string> names = table.names();
  return fmt::format("unknown device kind '{}'{}; known: {}", excerpt(name),
                     did_you_mean(lower(name), names), join(names));
}

DeviceKind parse_kind(JsonObject& o, std::string name, const DeviceKind* base) {
  DeviceKind kind = base ? *base : DeviceKind{};
  const bool required = base == nullptr;
  kind.name = std::move(name);
  kind.full_name = o.text("full_name", required ? kind.name : kind.full_name);
  kind.source = o.text("source", kind.source);
  read_peaks(o, kind, required);
  read_memory(o, kind, required);
  read_rate(o, "memory_gbytes_per_s", kind.memory_bandwidth, required);
  read_rate(o, "nvlink_gbytes_per_s", kind.nvlink, false);
  if (required && !o.has("pcie_gbytes_per_s")) {
    kind.pcie = {31.5e9};  // PCIe 4.0 x16, nominal
  }
  read_rate(o, "pcie_gbytes_per_s", kind.pcie, false);
  kind.nvlink_bridge = o.boolean("nvlink_bridge", kind.nvlink_bridge);
  kind.sm_count = o.small("sm_count", {0, 1 << 16}, kind.sm_count);
  kind.price_per_hour = o.real("price_per_hour", {0, 1e6}, kind.price_per_hour);
  return kind;
}

Result<KindTable> shipped_kinds() {
  const auto path = data_root() / "clusters" / "devices" / "nvidia.json";
  TRY(const Json json, read_json(path));
  Findings findings;
  JsonObject file(json, path.string(), findings);
  file.text("format");
  KindTable table;
  const std::optional<JsonObject> kinds = file.object("kinds");
  file.finish();
  if (!findings.ok() || !kinds) return fail(findings.to_error());
  for (const auto& [name, value] : json["kinds"].items()) {
    JsonObject object(value, kinds->where(name), findings);
    if (const Json* others = object.raw("aliases")) {
      for (const Json& other : *others) {
        if (other.is_string()) table.aliases.emplace_back(other, name);
      }
    }
    table.kinds.push_back(parse_kind(object, name, nullptr));
    object.finish();
  }
  if (!findings.ok()) return fail(findings.to_error());
  return table;
}

Result<DeviceKind> read_kind(std::string_view name) {
  TRY(const KindTable table, shipped_kinds());
  const DeviceKind* kind = table.find(name);
  if (!kind) return fail(Fault::input, unknown_kind(name, table));
  return *kind;
}

void refuse_sparse_peaks(const DeviceKind& kind, std::string_view base,
                         const KindTable& shipped, const std::string& where,
                         Findings& findings,
                         std::vector<std::string>& warnings) {
  // Datasheets round, so twice the dense peak is met within 1%.
  constexpr double kRounding = 0.01;
  for (const auto& [type, peak] : kind.peak) {
    for (const DeviceKind& known : shipped.kinds) {
      const auto dense = known.peak.find(type);
      if (dense == known.peak.end()) continue;
      const double ratio = peak.v / (2 * dense->second.v);
      if (std::abs(ratio - 1) > kRounding) continue;
      const std::string what = fmt::format(
          "{:.6g} TFLOPS looks like the sparse figure of {}; its dense {} peak "
          "is {:.6g}, and only dense peaks are used",
          peak.v * 1e-12, known.name, kernels::name_of(type),
          dense->second.v * 1e-12);
      const std::string place =
          fmt::format("{}/peak_tflops/{}", where, kernels::name_of(type));
      if (known.name == base || family(known.name) == family(kind.name)) {
        findings.error(place, what);
        break;
      }
      // A kind of a known base or with a measured name is itself; only the
      // nameless may have taken the figure of another.
      if (base.empty() && shipped.find(kind.name) == nullptr) {
        warnings.push_back(fmt::format("{}: {}", place, what));
        break;
      }
    }
  }
}

}  // namespace troupe::clusters
