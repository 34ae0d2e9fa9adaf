// Calibration from what is coarser than an operator: whole pipeline stages,
// and collectives for the links.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "profiles/calibration.h"
#include "profiles/devices.h"

namespace troupe::profiles {
namespace {

using kernels::DType;
using kernels::OpKind;
using kernels::OpShape;

/// No GEMM library gets past this share of the peak over a whole stage.
constexpr double kMostEfficiency = 0.97;

/// NVLink bytes per second and direction. Source: NVIDIA datasheets.
constexpr std::pair<std::string_view, double> kNvlink[] = {
    {"v100-sxm", 150e9}, {"a100-sxm", 300e9}, {"a800-sxm", 200e9},
    {"h100-sxm", 450e9}, {"h800-sxm", 200e9}, {"h200", 450e9},
    {"h20", 450e9},      {"gh200", 450e9},    {"b200", 900e9}};

/// What a kind without measured operators sustains of its nominal peak and
/// bandwidth in training, where its clock follows a power limit.
struct PowerLimit {
  std::string_view device;
  double matrix, memory;
  std::string_view source;
};
constexpr PowerLimit kPowerLimits[] = {
    {"t4", 0.20, 0.69,
     "70 W: bandwidth of Jia et al., arXiv 1903.07486; matrix units fitted to "
     "AMP's T4 trials that are not held out"}};

/// Seconds of a stage on the matrix units and beside them.
struct Parts {
  double matrix = 0;
  double rest = 0;
};

class StageTime {
 public:
  StageTime(const StageRow& row, int tokens, const clusters::DeviceKind& kind,
            const Curves& curves)
      : row_(row), tokens_(tokens), kind_(kind), curves_(curves) {}

  Parts parts() {
    const double layers = static_cast<double>(row_.layers) / row_.pp;
    layer(layers);
    // The head is on one stage of pp; the fit describes the average one.
    product(1.0 / row_.pp, row_.vocab / row_.tp, row_.hidden);
    parts_.rest += collectives(layers);
    return parts_;
  }

 private:
  void layer(double count) {
    const std::int64_t q = row_.heads / row_.tp;
    const std::int64_t kv = std::max(1, row_.kv_heads / row_.tp);
    const std::int64_t ffn = row_.ffn / row_.tp;
    product(count, (q + 2 * kv) * row_.head_dim, row_.hidden);
    product(count, row_.hidden, q * row_.head_dim);
    product(count, (row_.gated ? 2 : 1) * ffn, row_.hidden);
    product(count, row_.hidden, ffn);
    OpShape attention{.kind = OpKind::attention_forward,
                      .dtype = row_.dtype,
                      .causal = true,
                      .dim = {1, tokens_, tokens_, q, kv, row_.head_dim}};
    add(attention, count);
    attention.kind = OpKind::attention_backward;
    add(attention, count);
    rows(OpKind::norm_forward, 2 * count, row_.hidden);
    rows(OpKind::norm_backward, 2 * count, row_.hidden);
    rows(OpKind::activation_forward, count, ffn);
    rows(OpKind::activation_backward, count, ffn);
    rows(OpKind::add, 4 * count, row_.hidden);
  }

  /// y = x w forward, and both of its backward products.
  void product(double count, std::int64_t n, std::int64_t k) {
    add(kernels::gemm(tokens_, n, k, row_.dtype), count);
    add(kernels::gemm(tokens_, k, n, row_.dtype), count);
    add(kernels::gemm(n, k, tokens_, row_.dtype), count);
  }

  void rows(OpKind op, double count, std::int64_t columns) {
    OpShape shape = kernels::rows_by_columns(op, tokens_, columns, row_.dtype);
    shape.gated = row_.gated;
    add(shape, count);
  }

  void add(const OpShape& op, double count) {
    double& part =
        kernels::uses_matrix_units(op.kind) ? parts_.matrix : parts_.rest;
    part += count * roofline(op, kind_, curves_);
  }

  /// Two all-reduces forward and two backward of the activations.
  double collectives(double layers) const {
    const double link = nvlink_of(row_.device);
    if (row_.tp == 1 || link <= 0) return 0;
    const double bytes = 2.0 * static_cast<double>(tokens_) * row_.hidden;
    const double moved = 2.0 * (row_.tp - 1) / row_.tp * bytes;
    return layers * 4 * moved / (link * 0.77);
  }

  const StageRow& row_;
  std::int64_t tokens_;
  const clusters::DeviceKind& kind_;
  const Curves& curves_;
  Parts parts_;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// The ring step of an all-reduce moves bytes / ranks, 2 (ranks - 1) times.
double ring_bytes(const CollectiveRow& row) {
  return 2.0 * (row.ranks - 1) / row.ranks * static_cast<double>(row.bytes);
}

}  // namespace

void scale_to_stages(std::span<const StageRow> rows,
                     const clusters::DeviceKind& kind, Curves& curves) {
  int least_tp = 9;  // within a node
  for (const StageRow& row : rows) {
    if (row.seq_len == 0) least_tp = std::min(least_tp, row.tp);
  }
  std::vector<double> ratios;
  for (const StageRow& row : rows) {
    if (row.seq_len != 0 || row.tp != least_tp) continue;
    const int tokens = std::min(row.max_seq, 8192);
    if (tokens < 1024) continue;
    const Parts parts = StageTime(row, tokens, kind, curves).parts();
    const double s = tokens;
    const double measured = row.a * s * s + row.b * s + row.c;
    if (measured > parts.rest && parts.matrix > 0) {
      ratios.push_back((measured - parts.rest) / parts.matrix);
    }
  }
  if (ratios.empty()) return;
  const double slower = median(std::move(ratios));
  for (double* efficiency :
       {&curves.gemm.efficiency, &curves.forward.efficiency,
        &curves.backward.efficiency}) {
    *efficiency = std::min(*efficiency / slower, kMostEfficiency);
  }
  curves.notes.push_back(fmt::format(
      "matrix efficiencies of {} x {:.2f}, from its measured stages at tp {}",
      kind.name, 1 / slower, least_tp));
}

void limit_power(const clusters::DeviceKind& kind, Curves& curves) {
  for (const PowerLimit& limit : kPowerLimits) {
    if (limit.device != kind.name) continue;
    for (double* efficiency :
         {&curves.gemm.efficiency, &curves.forward.efficiency,
          &curves.backward.efficiency}) {
      *efficiency = std::min(*efficiency, limit.matrix);
    }
    curves.gemm.memory = std::min(curves.gemm.memory, limit.memory);
    for (StreamFit& stream : curves.stream) stream.memory *= limit.memory;
    curves.notes.push_back(fmt::format(
        "{}: at most {:.2f} of the peak and {:.2f} of the bandwidth, {}",
        kind.name, limit.matrix, limit.memory, limit.source));
  }
}

double nvlink_of(std::string_view device) {
  const std::string_view board = board_of(device);
  for (const auto& [name, rate] : kNvlink) {
    if (name == board) return rate;
  }
  return 0;
}

LinkEfficiency default_link(clusters::LinkClass link_class) {
  switch (link_class) {
    case clusters::LinkClass::nvlink:
      return {0.77, seconds(4e-6), "NVLink of other devices"};
    case clusters::LinkClass::pcie:
    case clusters::LinkClass::bridge:
      return {0.69, seconds(9e-6),
              "SimuMax, fitted NCCL all-reduce of 2 and 4 A100 on PCIe"};
    case clusters::LinkClass::nic:
      return {0.95, seconds(14e-6),
              "SimAI bandwidth ratios at 1 GB and more over 2 to 16 nodes; "
              "latency: small messages between nodes less those within "
              "(Vidur, A100 and H100)"};
    case clusters::LinkClass::fabric:
      return {1.0, Time{}, "losses between nodes are counted at the NIC"};
  }
  return {};
}

LinkEfficiency fit_nvlink(std::span<const CollectiveRow> rows) {
  LinkEfficiency link = default_link(clusters::LinkClass::nvlink);
  const CollectiveRow* largest = nullptr;
  const CollectiveRow* smallest = nullptr;
  int ranks = 0;
  for (const CollectiveRow& row : rows) {
    if (row.collective != clusters::Collective::all_reduce ||
        row.per_node != row.ranks || nvlink_of(row.device) <= 0) {
      continue;
    }
    ranks = std::max(ranks, row.ranks);
  }
  for (const CollectiveRow& row : rows) {
    if (row.collective != clusters::Collective::all_reduce ||
        row.per_node != row.ranks || row.ranks != ranks) {
      continue;
    }
    if (largest == nullptr || row.bytes > largest->bytes) largest = &row;
    if (smallest == nullptr || row.bytes < smallest->bytes) smallest = &row;
  }
  if (largest == nullptr || smallest == nullptr) return link;
  const double nominal = nvlink_of(largest->device);
  const double reached = ring_bytes(*largest) / largest->time_s;
  link.fraction = std::clamp(reached / nominal, 0.05, 1.0);
  const double wire = ring_bytes(*smallest) / reached;
  link.latency =
      seconds(std::max(0.0, smallest->time_s - wire) / (2.0 * (ranks - 1)));
  link.source =
      fmt::format("all-reduce of {} MB over {} {}: {:.0f} of {:.0f} GB/s",
                  largest->bytes / 1000000, ranks, largest->device,
                  reached / 1e9, nominal / 1e9);
  return link;
}

}  // namespace troupe::profiles
