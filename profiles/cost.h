// What something costs on a device, and how we know.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "clusters/cluster.h"
#include "clusters/collective.h"
#include "kernels/operator.h"

namespace troupe::profiles {

/// How a cost is known, best first.
enum class Provenance : std::uint8_t {
  measured,      ///< this very shape on this device
  interpolated,  ///< between measured shapes of this device
  derived,       ///< from a coarser measurement (layer or stage)
  roofline,      ///< from peaks and an efficiency curve
};
inline constexpr int kProvenances = 4;
std::string_view name_of(Provenance provenance);

struct Cost {
  Time time;
  double spread = 0;  ///< relative standard deviation; 0 when unknown
  Provenance provenance = Provenance::roofline;
  /// Not zero where `time` is only the most it can be, scaled from a smaller
  /// measurement: what a host needs to launch it does not grow with the work,
  /// so `least` is the unscaled time, and a roofline decides between.
  Time least = {};
};

/// Which part of a model a coarse measurement covers.
enum class Part : std::uint8_t { layer, embedding, head };

/// A layer (or embedding, or head) under tensor parallelism: the key of
/// measurements coarser than an operator. TP collectives are inside.
struct LayerKey {
  Part part = Part::layer;
  bool backward = false;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int ffn = 0;
  bool gated = false;
  int vocab = 0;  ///< embedding and head only
  int tp = 1;
  int micro_batch = 1;
  int seq_len = 0;
  kernels::DType dtype = kernels::DType::bf16;
  bool cross = false;  ///< a decoder layer that also attends to an encoder
  int window = 0;      ///< tokens a local layer attends to; 0: all

  auto operator<=>(const LayerKey&) const = default;
};

/// Between which memories one copy goes. How two GPUs of a node reach each
/// other is told by what their driver says.
enum class CopyRoute : std::uint8_t {
  device,          ///< within a device's memory
  host_to_device,  ///< from pinned host memory
  device_to_host,
  peer_nvlink,  ///< to another GPU, directly, atomics included
  peer_pcie,    ///< to another GPU, directly, without them
  peer_host,    ///< to another GPU through the host's memory
};
inline constexpr int kCopyRoutes = 6;
std::string_view name_of(CopyRoute route);
std::optional<CopyRoute> parse_copy_route(std::string_view name);

/// Achieved share of a link class's nominal bandwidth for large messages,
/// and the latency added per step of a collective.
struct LinkEfficiency {
  double fraction = 1.0;
  Time latency;
  std::string source;
};

/// Costs of everything a schedule is made of, for the device kinds of one
/// cluster. Loaded once; lookups are pure and thread-safe.
class CostModel {
 public:
  virtual ~CostModel() = default;

  /// Always answers: measured, interpolated between measured sizes (monotone
  /// in every size, never negative), else roofline with the kind's
  /// efficiency curve.
  virtual Cost operator_cost(const kernels::OpShape& op,
                             const clusters::DeviceKind& kind) const = 0;

  /// A layer-level measurement, or one derived from stage-level ones; nothing
  /// when the database holds none for this shape and device.
  virtual std::optional<Cost> layer_cost(
      const LayerKey& key, const clusters::DeviceKind& kind) const = 0;

  virtual LinkEfficiency link_efficiency(
      clusters::LinkClass link_class) const = 0;

  /// A measured collective among `ranks` devices of one kind, `per_node` of
  /// them in each node; nothing when there is no measurement.
  virtual std::optional<Cost> collective_cost(
      clusters::Collective collective, int ranks, int per_node, Bytes bytes,
      const clusters::DeviceKind& kind) const = 0;

  /// A measured copy; nothing when there is no measurement of that route.
  virtual std::optional<Cost> copy_cost(
      CopyRoute /*route*/, Bytes /*bytes*/,
      const clusters::DeviceKind& /*kind*/) const {
    return {};
  }

  /// Hash of the rows the model was built from.
  virtual std::string content_hash() const = 0;
};

}  // namespace troupe::profiles
