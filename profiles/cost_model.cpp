#include "profiles/cost_model.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "base/file.h"
#include "profiles/devices.h"
#include "profiles/fit.h"
#include "profiles/layer_table.h"
#include "profiles/operator_table.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;
using clusters::DeviceKind;
using kernels::DType;
using kernels::OpShape;

struct CollectiveKey {
  Collective collective{};
  int ranks = 0;
  int per_node = 0;
  auto operator<=>(const CollectiveKey&) const = default;
};

/// What the kind itself, or another kind of its board, measured.
struct LentCurve {
  bool own = true;
  SourcedCurve curve;
};

/// Everything known of one kind. Collectives come from the kind itself, then
/// from the other kinds of its board.
struct KindCosts {
  Curves curves;
  OperatorTable operators;
  LayerTable layers;
  std::map<CollectiveKey, std::vector<LentCurve>> collectives;
  std::map<CopyRoute, SourcedCurve> copies;  ///< of the kind itself
};

std::optional<DType> twin(DType type) {
  if (type == DType::bf16) return DType::fp16;
  if (type == DType::fp16) return DType::bf16;
  return {};
}

class Model final : public CostModel {
 public:
  Cost operator_cost(const OpShape& op, const DeviceKind& kind) const override {
    const auto at = kinds.find(kind.name);
    if (at == kinds.end()) return estimate(op, kind, Curves{});
    const KindCosts& costs = at->second;
    if (const auto found = costs.operators.find(op)) {
      return {seconds(found->time), found->spread,
              found->exact ? Provenance::measured : Provenance::interpolated};
    }
    if (const auto other = twin(op.dtype)) {
      OpShape same = op;
      same.dtype = *other;
      if (const auto found = costs.operators.find(same)) {
        return {seconds(found->time), found->spread, Provenance::interpolated};
      }
      if (!costs.operators.anchor(op)) {
        return beyond(same, kind, costs);
      }
    }
    return beyond(op, kind, costs);
  }

  std::optional<Cost> layer_cost(const LayerKey& key,
                                 const DeviceKind& kind) const override {
    const auto at = kinds.find(kind.name);
    if (at == kinds.end()) return {};
    return at->second.layers.find(key);
  }

  LinkEfficiency link_efficiency(
      clusters::LinkClass link_class) const override {
    if (link_class == clusters::LinkClass::nvlink) return nvlink;
    return default_link(link_class);
  }

  std::optional<Cost> collective_cost(Collective collective, int ranks,
                                      int per_node, Bytes bytes,
                                      const DeviceKind& kind) const override {
    const auto at = kinds.find(kind.name);
    if (at == kinds.end()) return {};
    const auto curves =
        at->second.collectives.find({collective, ranks, per_node});
    if (curves == at->second.collectives.end()) return {};
    for (const LentCurve& lent : curves->second) {
      const auto found = lent.curve.at(static_cast<double>(bytes.v));
      if (!found) continue;
      return Cost{seconds(found->time), found->spread,
                  found->exact && lent.own ? Provenance::measured
                                           : Provenance::interpolated};
    }
    return {};
  }

  std::optional<Cost> copy_cost(CopyRoute route, Bytes bytes,
                                const DeviceKind& kind) const override {
    const auto at = kinds.find(kind.name);
    if (at == kinds.end()) return {};
    const auto curve = at->second.copies.find(route);
    if (curve == at->second.copies.end()) return {};
    const auto found = curve->second.at(static_cast<double>(bytes.v));
    if (!found) return {};
    return Cost{seconds(found->time), found->spread,
                found->exact ? Provenance::measured : Provenance::interpolated};
  }

  std::string content_hash() const override { return hash; }

  std::map<std::string, KindCosts> kinds;
  LinkEfficiency nvlink;
  std::string hash;

 private:
  static Cost estimate(const OpShape& op, const DeviceKind& kind,
                       const Curves& curves) {
    return {seconds(roofline(op, kind, curves)), roofline_error(op, curves),
            Provenance::roofline};
  }

  /// Beyond the end of a measured curve the roofline goes on from there.
  static Cost beyond(const OpShape& op, const DeviceKind& kind,
                     const KindCosts& costs) {
    Cost cost = estimate(op, kind, costs.curves);
    const auto anchor = costs.operators.anchor(op);
    if (!anchor || cost.time.v <= 0) return cost;
    const double at_anchor = roofline(anchor->op, kind, costs.curves);
    cost.time = seconds(anchor->time * to_seconds(cost.time) / at_anchor);
    return cost;
  }
};

/// The bytes that make the content hash.
class Digest {
 public:
  template <typename Row>
  void add(const Row& row) {
    fields(row, [&](std::string_view, const auto& value, Need) { put(value); });
  }
  /// Curves may be fitted to rows of other kinds.
  void add(const Curves& curves) {
    put(curves.gemm);
    put(curves.forward);
    put(curves.backward);
    put(curves.stream);
  }
  std::string hash() const { return content_hash(bytes_); }

 private:
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  void put(const T& value) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void put(const std::string& value) { bytes_ += value + '\n'; }
  void put(bool value) { bytes_ += value ? '1' : '0'; }

  std::string bytes_;
};

class Loader {
 public:
  explicit Loader(const Database& database)
      : database_(database), fitter_(database) {}

  Result<std::unique_ptr<CostModel>> load(std::span<const DeviceKind> kinds) {
    TRY_DO(rank_sources());
    TRY(collective_devices_, database_.measured<CollectiveRow>());
    auto model = std::make_unique<Model>();
    for (const DeviceKind& kind : kinds) {
      if (model->kinds.contains(kind.name)) continue;
      TRY(model->kinds[kind.name], load_kind(kind));
    }
    TRY(model->nvlink, nvlink(kinds));
    model->hash = digest_.hash();
    return model;
  }

 private:
  /// The newest source first; equal dates by name.
  Result<void> rank_sources() {
    TRY(const std::vector<StoredSource> sources, database_.sources());
    for (std::size_t i = 0; i < sources.size(); ++i) {
      rank_[sources[i].id] = i;
    }
    return {};
  }

  /// Rows of a device, those of the newest source first.
  template <typename Row>
  Result<std::vector<Stored<Row>>> stored_of(const std::string& device) {
    TRY(std::vector<Stored<Row>> stored, database_.select<Row>(device, ""));
    std::ranges::stable_sort(stored, {}, [&](const Stored<Row>& s) {
      const auto at = rank_.find(s.source);
      return at == rank_.end() ? rank_.size() : at->second;
    });
    for (const Stored<Row>& s : stored) digest_.add(s.row);
    return stored;
  }

  template <typename Row>
  static std::vector<Row> rows_in(const std::vector<Stored<Row>>& stored) {
    std::vector<Row> rows;
    rows.reserve(stored.size());
    for (const Stored<Row>& s : stored) rows.push_back(s.row);
    return rows;
  }

  Result<KindCosts> load_kind(const DeviceKind& kind) {
    KindCosts costs;
    TRY(const auto operators, stored_of<OperatorRow>(kind.name));
    costs.operators = OperatorTable(operators);
    TRY(const auto layers, stored_of<LayerRow>(kind.name));
    TRY(auto stages, stored_of<StageRow>(kind.name));
    fitter_.know(kind, rows_in(operators));
    TRY(costs.curves, fitter_.curves(kind, rows_in(stages)));
    digest_.add(costs.curves);
    costs.layers = LayerTable(layers, std::move(stages));
    for (const std::string& device : board_mates(kind.name)) {
      TRY(const auto rows, stored_of<CollectiveRow>(device));
      add_collectives(rows, device == kind.name, costs.collectives);
    }
    TRY(const auto copies, stored_of<CopyRow>(kind.name));
    std::map<CopyRoute, PointsBySource> points;
    for (const auto& [source, row] : copies) {
      add_point(
          points[row.route], source,
          {static_cast<double>(row.bytes), row.time_s, row.spread, false});
    }
    for (auto& [route, list] : points) {
      costs.copies[route] = SourcedCurve(std::move(list), Scale::logarithmic);
    }
    return costs;
  }

  /// Devices of the same board with collectives, the kind itself first.
  std::vector<std::string> board_mates(const std::string& name) const {
    std::vector<std::string> mates;
    for (const std::string& device : collective_devices_) {
      if (device == name) {
        mates.insert(mates.begin(), device);
      } else if (board_of(device) == board_of(name)) {
        mates.push_back(device);
      }
    }
    return mates;
  }

  static void add_collectives(
      const std::vector<Stored<CollectiveRow>>& rows, bool own,
      std::map<CollectiveKey, std::vector<LentCurve>>& curves) {
    std::map<CollectiveKey, PointsBySource> points;
    for (const auto& [source, row] : rows) {
      add_point(
          points[{row.collective, row.ranks, row.per_node}], source,
          {static_cast<double>(row.bytes), row.time_s, row.spread, false});
    }
    for (auto& [key, list] : points) {
      curves[key].push_back(
          {own, SourcedCurve(std::move(list), Scale::logarithmic)});
    }
  }

  /// From the boards of these kinds, else from all; the mean of several.
  Result<LinkEfficiency> nvlink(std::span<const DeviceKind> kinds) {
    std::map<std::string, std::vector<std::string>> boards;
    for (const std::string& device : collective_devices_) {
      if (nvlink_of(device) <= 0) continue;
      boards[std::string(board_of(device))].push_back(device);
    }
    std::vector<LinkEfficiency> links;
    for (const bool own : {true, false}) {
      for (const auto& [board, devices] : boards) {
        const bool used = std::ranges::any_of(kinds, [&](const auto& kind) {
          return board_of(kind.name) == board;
        });
        if (own && !used) continue;
        TRY(const LinkEfficiency link, board_link(devices));
        links.push_back(link);
      }
      if (!links.empty()) break;
    }
    if (links.empty()) return default_link(clusters::LinkClass::nvlink);
    return mean(links);
  }

  Result<LinkEfficiency> board_link(const std::vector<std::string>& devices) {
    std::vector<CollectiveRow> rows;
    for (const std::string& device : devices) {
      TRY(const auto more, stored_of<CollectiveRow>(device));
      for (const auto& stored : more) rows.push_back(stored.row);
    }
    return fit_nvlink(rows);
  }

  static LinkEfficiency mean(const std::vector<LinkEfficiency>& links) {
    LinkEfficiency result{0, Time{}, ""};
    double latency = 0;
    const auto count = static_cast<double>(links.size());
    for (const LinkEfficiency& link : links) {
      result.fraction += link.fraction / count;
      latency += to_seconds(link.latency) / count;
      if (!result.source.empty()) result.source += "; ";
      result.source += link.source;
    }
    result.latency = seconds(latency);
    return result;
  }

  const Database& database_;
  Fitter fitter_;
  std::map<std::int64_t, std::size_t> rank_;
  std::vector<std::string> collective_devices_;
  Digest digest_;
};

}  // namespace

Result<std::unique_ptr<CostModel>> load_cost_model(
    const Database& database, std::span<const DeviceKind> kinds) {
  return Loader(database).load(kinds);
}

}  // namespace troupe::profiles
