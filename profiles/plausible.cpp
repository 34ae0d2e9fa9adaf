#include "profiles/plausible.h"

#include <fmt/format.h>

#include <algorithm>

namespace troupe::profiles {
namespace {

using clusters::DeviceKind;
using kernels::DType;
using kernels::OpKind;

constexpr double kMargin = 1.25;
/// Twice the largest last-level cache of a GPU, 256 MB. Source: AMD, CDNA 3
/// white paper (MI300X).
constexpr double kMostCached = 512e6;
/// Traffic this many times the cache comes from memory.
constexpr double kBeyondCache = 8;

double peak_of_type(const DeviceKind& kind, DType type) {
  const auto at = kind.peak.find(type);
  return at == kind.peak.end() ? 0 : at->second.v;
}

/// The fastest units that a program may have meant by a number format: fp32
/// products run as TF32 where that is switched on; GeForce cards sum fp16
/// products in fp16 at twice the rate of fp32 sums (NVIDIA, Ampere GA102 white
/// paper), which is what the kinds give.
double most_of(const DeviceKind& kind, DType dtype) {
  switch (dtype) {
    case DType::fp32:
    case DType::tf32:
      return std::max(peak_of_type(kind, DType::fp32),
                      peak_of_type(kind, DType::tf32));
    case DType::bf16:
      return std::max(peak_of_type(kind, DType::bf16),
                      peak_of_type(kind, DType::fp16));
    case DType::fp16:
      return peak_of_type(kind, DType::fp16) *
             (kind.name.starts_with("rtx-") ? 2 : 1);
    case DType::fp8:
    case DType::fp64:
    case DType::int32:
    case DType::int64:
      break;
  }
  return peak_of_type(kind, dtype);
}

std::optional<std::string> problem_of_rate(double flops, double seconds,
                                           const DeviceKind& kind,
                                           DType dtype) {
  const double most = kMargin * most_of(kind, dtype);
  const double rate = flops / seconds;
  if (most <= 0 || rate <= most) return {};
  return fmt::format(
      "{:.3g} TFLOP/s are more than a {} has: {:.3g} dense in {}, with a "
      "margin of {}",
      rate / 1e12, kind.name, most / kMargin / 1e12, name_of(dtype), kMargin);
}

/// Operators whose traffic no kernel can do without.
bool streams(OpKind kind) {
  return kind == OpKind::gemm || kind == OpKind::copy || kind == OpKind::cast ||
         kind == OpKind::add;
}

}  // namespace

std::optional<std::string> problem_on(const OperatorRow& row,
                                      const DeviceKind& kind) {
  if (kernels::uses_matrix_units(row.op.kind)) {
    if (auto p = problem_of_rate(kernels::flops(row.op).v, row.time_s, kind,
                                 row.op.dtype)) {
      return p;
    }
  }
  const auto bytes = static_cast<double>(kernels::traffic(row.op).v);
  const double most = kMargin * kind.memory_bandwidth.v;
  if (!streams(row.op.kind) || bytes < kBeyondCache * kMostCached ||
      most <= 0 || (bytes - 2 * kMostCached) / row.time_s <= most) {
    return {};
  }
  return fmt::format(
      "{:.3g} GB/s are more than the memory of a {} gives: {:.3g}, with a "
      "margin of {}; no cache holds {:.3g} GB",
      bytes / row.time_s / 1e9, kind.name, most / kMargin / 1e9, kMargin,
      bytes / 1e9);
}

std::optional<std::string> problem_on(const LayerRow& row,
                                      const DeviceKind& kind) {
  const LayerKey& k = row.key;
  const double hidden = k.hidden;
  double weights = 0;
  if (k.part == Part::layer) {
    const double heads = 2.0 * k.heads * k.head_dim;
    const double kv_heads = 2.0 * k.kv_heads * k.head_dim;
    weights = hidden * (heads + kv_heads + (k.gated ? 3.0 : 2.0) * k.ffn);
  } else if (k.part == Part::head) {
    weights = hidden * k.vocab;
  }
  const double tokens = static_cast<double>(k.micro_batch) * k.seq_len;
  const double flops = (k.backward ? 4 : 2) * weights * tokens / k.tp;
  return problem_of_rate(flops, row.time_s, kind, k.dtype);
}

}  // namespace troupe::profiles
