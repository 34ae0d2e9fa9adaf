#include "profiles/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/model.h"
#include "profiles/devices.h"

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;

/// Library constants of cuBLAS: tiles, their speed beside the largest, and
/// the share of the last wave's idle SMs that is really lost. Source: joint
/// fit of the shipped GEMM rows (A100 SXM, A100 PCIe, H100, B200).
struct Tile {
  double m, n, speed;
};
constexpr Tile kTiles[] = {
    {256, 128, 1}, {128, 128, 0.93}, {128, 64, 0.85}, {64, 64, 0.65}};
constexpr double kIdle = 0.5;

/// FlashAttention's query block and head padding. Source: Dao, 2307.08691.
constexpr double kQueries = 128;
constexpr std::int64_t kHeadStep = 32;

/// Shares of the dense peak, forward and backward, of fused attention kernels
/// older than those in the profiles.
///
/// Source: Dao, 2307.08691. On an A100 FlashAttention 1 reaches 30-50 %
///         forward and 25-35 % backward, FlashAttention 2 up to 73 % and 63 %;
///         on an H100, whose newer matrix instructions neither uses,
///         FlashAttention 2 reaches 335 TFLOP/s instead of 203 of an A100:
///         0.52 of the share. FlashAttention 1 is taken to lose as much.
struct KernelShare {
  double forward, backward;
};
constexpr KernelShare kFlash1 = {0.40, 0.30};
constexpr KernelShare kFlash2 = {0.70, 0.60};
constexpr double kBeforeHopper = 0.52;

/// Rows a fit looks at, evenly taken: plenty for four parameters.
constexpr std::size_t kFittedRows = 160;

double size(const OpShape& op, std::size_t i) {
  return static_cast<double>(op.dim[i]);
}

double bytes_of(const OpShape& op) {
  return static_cast<double>(kernels::traffic(op).v);
}

/// Tile area times waves over the fastest tile: the part of a product's time
/// that does not depend on its depth.
double tile_work(const OpShape& op, double sms) {
  double best = 0;
  for (const Tile& tile : kTiles) {
    for (const bool turned : {false, true}) {
      const double rows = std::ceil(size(op, turned ? 2 : 1) / tile.m);
      const double columns = std::ceil(size(op, turned ? 1 : 2) / tile.n);
      const double full = size(op, 0) * rows * columns / sms;
      const double waves =
          std::max(1.0, full + kIdle * (std::ceil(full) - full));
      const double work = waves * 2 * tile.m * tile.n / tile.speed;
      if (best == 0 || work < best) best = work;
    }
  }
  return best;
}

double fourth_power_sum(double a, double b) {
  const double largest = std::max(a, b);
  if (!(largest > 0)) return 0;
  const double share = std::min(a, b) / largest;
  const double s2 = share * share;
  return largest * std::sqrt(std::sqrt(1 + s2 * s2));
}

/// One measured product, reduced to what the fit needs.
struct Product {
  double work, depth, bytes, time;
};

double product_time(const Product& p, const GemmFit& f, double per_sm,
                    double bandwidth) {
  const double compute = p.work * (p.depth + f.k0) / (per_sm * f.efficiency);
  const double memory = p.bytes / (bandwidth * f.memory);
  return f.overhead + fourth_power_sum(compute, memory);
}

double sms_of(const clusters::DeviceKind& kind) {
  return kind.sm_count > 0 ? kind.sm_count : 100;
}

/// Work of an attention and of its longest block, in FLOPs of the tile.
struct AttentionWork {
  double total = 0;
  double longest = 0;
};
AttentionWork attention_work(const OpShape& op) {
  OpShape padded = op;
  padded.dim[5] = (op.dim[5] + kHeadStep - 1) / kHeadStep * kHeadStep;
  const double backward = op.kind == OpKind::attention_backward ? 2.5 : 1;
  return {kernels::flops(padded).v,
          backward * 4 * kQueries * size(op, 2) * size(padded, 5)};
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Multiplies one parameter after another by a shrinking step as long as the
/// mean absolute logarithmic error falls. Deterministic.
template <std::size_t N, typename Error>
void descend(std::array<double, N>& at, const std::array<double, N>& least,
             const std::array<double, N>& most, Error error) {
  double best = error(at);
  double step = 0.35;
  for (int round = 0; round < 40 && step > 0.004; ++round) {
    bool better = false;
    for (std::size_t i = 0; i < N; ++i) {
      for (const double factor : {1 + step, 1 / (1 + step)}) {
        auto tried = at;
        tried[i] = std::clamp(at[i] * factor, least[i], most[i]);
        const double e = error(tried);
        if (e < best * (1 - 1e-6)) {
          best = e;
          at = tried;
          better = true;
        }
      }
    }
    if (!better) step /= 2;
  }
}

/// At most `most` rows, evenly taken.
template <typename T>
std::vector<T> thinned(std::span<const T> rows, std::size_t most) {
  if (rows.size() <= most) return {rows.begin(), rows.end()};
  std::vector<T> kept;
  kept.reserve(most);
  for (std::size_t i = 0; i < most; ++i) {
    kept.push_back(rows[i * rows.size() / most]);
  }
  return kept;
}

double log_error(double predicted, double measured) {
  return std::abs(std::log(predicted / measured));
}

}  // namespace

AttentionFit kernel_fit(const AttentionFit& tuned, const OpShape& op,
                        std::string_view device) {
  if (op.attention == kernels::AttentionKernel::tuned) return tuned;
  const KernelShare share =
      op.attention == kernels::AttentionKernel::flash1 ? kFlash1 : kFlash2;
  const std::string_view family = architecture_of(device);
  const bool newer = family == "hopper" || family == "blackwell";
  AttentionFit fit = tuned;
  const double own =
      op.kind == OpKind::attention_forward ? share.forward : share.backward;
  // Never better than what the device was measured to do.
  fit.efficiency =
      std::min(tuned.efficiency, own * (newer ? kBeforeHopper : 1));
  return fit;
}

double peak_of(const clusters::DeviceKind& kind, DType dtype) {
  const auto find = [&](DType type) {
    const auto at = kind.peak.find(type);
    return at == kind.peak.end() ? 0.0 : at->second.v;
  };
  static constexpr DType kInstead[][4] = {
      {DType::fp32, DType::tf32, DType::fp16, DType::bf16},
      {DType::tf32, DType::fp32, DType::fp16, DType::bf16},
      {DType::bf16, DType::fp16, DType::fp32, DType::tf32},
      {DType::fp16, DType::bf16, DType::fp32, DType::tf32},
      {DType::fp8, DType::bf16, DType::fp16, DType::fp32}};
  const auto row = std::min<std::size_t>(static_cast<std::size_t>(dtype), 4);
  for (const DType type : kInstead[dtype > DType::fp8 ? 0 : row]) {
    if (const double peak = find(type); peak > 0) return peak;
  }
  return 1e12;
}

double roofline(const OpShape& op, const clusters::DeviceKind& kind,
                const Curves& curves) {
  for (int i = 0; i < kernels::dimensions(op.kind); ++i) {
    if (op.dim[static_cast<std::size_t>(i)] <= 0) return 0;
  }
  const double bandwidth = std::max(1.0, kind.memory_bandwidth.v);
  const double peak = peak_of(kind, op.dtype);
  const double sms = sms_of(kind);
  if (op.kind == OpKind::gemm) {
    const Product product{tile_work(op, sms), size(op, 3), bytes_of(op), 0};
    return product_time(product, curves.gemm, peak / sms, bandwidth);
  }
  if (kernels::uses_matrix_units(op.kind)) {
    const AttentionFit fit = kernel_fit(
        op.kind == OpKind::attention_forward ? curves.forward : curves.backward,
        op, kind.name);
    const AttentionWork work = attention_work(op);
    const double compute = (work.total + fit.latency * work.longest * sms) /
                           (peak * fit.efficiency);
    const double memory = bytes_of(op) / (bandwidth * curves.gemm.memory);
    return curves.gemm.overhead + fourth_power_sum(compute, memory);
  }
  const StreamFit& fit = curves.stream[static_cast<std::size_t>(op.kind)];
  return fit.overhead + bytes_of(op) / (bandwidth * fit.memory);
}

double roofline_error(const OpShape& op, const Curves& curves) {
  if (op.kind == OpKind::gemm) return curves.gemm.error;
  if (op.kind == OpKind::attention_forward) return curves.forward.error;
  if (op.kind == OpKind::attention_backward) return curves.backward.error;
  return curves.stream[static_cast<std::size_t>(op.kind)].error;
}

GemmFit fit_gemm(std::span<const OperatorRow> rows,
                 const clusters::DeviceKind& kind) {
  GemmFit fit;
  if (rows.size() < kLeastRows) return fit;
  const double sms = sms_of(kind);
  const double bandwidth = std::max(1.0, kind.memory_bandwidth.v);
  std::vector<Product> products;
  products.reserve(rows.size());
  for (const OperatorRow& row : rows) {
    // Peaks differ by type: the work is counted in units of bf16.
    const double type =
        peak_of(kind, DType::bf16) / peak_of(kind, row.op.dtype);
    products.push_back({tile_work(row.op, sms) * type, size(row.op, 3),
                        bytes_of(row.op), row.time_s});
  }
  const double per_sm = peak_of(kind, DType::bf16) / sms;
  const auto used = thinned<Product>(products, kFittedRows);
  const auto fit_of = [](const std::array<double, 4>& p) {
    return GemmFit{p[0], p[1], p[2], p[3], 0};
  };
  const auto error = [&](const std::array<double, 4>& p) {
    double sum = 0;
    for (const Product& one : used) {
      sum +=
          log_error(product_time(one, fit_of(p), per_sm, bandwidth), one.time);
    }
    return sum / static_cast<double>(used.size());
  };
  std::array<double, 4> at = {fit.efficiency, fit.k0, fit.overhead, fit.memory};
  descend<4>(at, {0.05, 1, 1e-6, 0.5}, {1, 1024, 2e-5, 1}, error);
  fit = fit_of(at);
  std::vector<double> errors;
  for (const Product& one : products) {
    const double t = product_time(one, fit, per_sm, bandwidth);
    errors.push_back(std::abs(t / one.time - 1));
  }
  fit.error = median(std::move(errors));
  return fit;
}

AttentionFit fit_attention(std::span<const OperatorRow> rows,
                           const clusters::DeviceKind& kind) {
  AttentionFit fit;
  if (rows.size() < kLeastRows) return fit;
  const double sms = sms_of(kind);
  const GemmFit base;
  const auto time = [&](const OperatorRow& row, double efficiency,
                        double latency) {
    const AttentionWork work = attention_work(row.op);
    return base.overhead + (work.total + latency * work.longest * sms) /
                               (peak_of(kind, row.op.dtype) * efficiency);
  };
  const auto used = thinned<OperatorRow>(rows, kFittedRows);
  std::array<double, 2> at = {fit.efficiency, fit.latency};
  descend<2>(at, {0.02, 0.05}, {1, 8}, [&](const std::array<double, 2>& p) {
    double sum = 0;
    for (const OperatorRow& row : rows) {
      sum += log_error(time(row, p[0], p[1]), row.time_s);
    }
    return sum / static_cast<double>(rows.size());
  });
  fit.efficiency = at[0];
  fit.latency = at[1];
  std::vector<double> errors;
  for (const OperatorRow& row : rows) {
    errors.push_back(std::abs(time(row, at[0], at[1]) / row.time_s - 1));
  }
  fit.error = median(std::move(errors));
  return fit;
}

StreamFit fit_stream(std::span<const OperatorRow> rows,
                     const clusters::DeviceKind& kind) {
  StreamFit fit;
  if (rows.size() < kLeastRows) return fit;
  const double bandwidth = std::max(1.0, kind.memory_bandwidth.v);
  const auto time = [&](const OperatorRow& row, double overhead,
                        double memory) {
    return overhead + bytes_of(row.op) / (bandwidth * memory);
  };
  const auto used = thinned<OperatorRow>(rows, kFittedRows);
  std::array<double, 2> at = {fit.overhead, fit.memory};
  descend<2>(at, {5e-7, 0.05}, {2e-5, 1}, [&](const std::array<double, 2>& p) {
    double sum = 0;
    for (const OperatorRow& row : rows) {
      sum += log_error(time(row, p[0], p[1]), row.time_s);
    }
    return sum / static_cast<double>(rows.size());
  });
  fit.overhead = at[0];
  fit.memory = at[1];
  std::vector<double> errors;
  for (const OperatorRow& row : rows) {
    errors.push_back(std::abs(time(row, at[0], at[1]) / row.time_s - 1));
  }
  fit.error = median(std::move(errors));
  return fit;
}

OpKind stream_like(OpKind kind) {
  switch (kind) {
    case OpKind::norm_backward:
      return OpKind::norm_forward;
    case OpKind::activation_backward:
      return OpKind::activation_forward;
    case OpKind::embedding_backward:
      return OpKind::embedding_forward;
    case OpKind::cross_entropy_forward:
    case OpKind::cross_entropy_backward:
    case OpKind::gradient_accumulate:
    case OpKind::gradient_norm:
    case OpKind::optimizer:
    case OpKind::cast:
    case OpKind::copy:
      return OpKind::add;
    case OpKind::gemm:
    case OpKind::attention_forward:
    case OpKind::attention_backward:
    case OpKind::norm_forward:
    case OpKind::rotary:
    case OpKind::activation_forward:
    case OpKind::add:
    case OpKind::embedding_forward:
      return kind;
  }
  return kind;
}

}  // namespace troupe::profiles
