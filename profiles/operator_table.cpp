#include "profiles/operator_table.h"

#include <algorithm>
#include <map>

namespace troupe::profiles {
namespace {

using kernels::OpKind;
using kernels::OpShape;

/// The size that varies within a family.
std::size_t axis_of(OpKind kind) {
  return kind == OpKind::gemm || kind == OpKind::attention_forward ||
                 kind == OpKind::attention_backward
             ? 1
             : 0;
}

OpShape member_of(OpShape family, double x) {
  const std::size_t axis = axis_of(family.kind);
  const auto size = static_cast<std::int64_t>(x);
  family.dim[axis] = size;
  if (axis == 1 && family.kind != OpKind::gemm && family.dim[2] == 0) {
    family.dim[2] = size;
  }
  return family;
}

}  // namespace

OpShape family_of(OpShape op) {
  const std::size_t axis = axis_of(op.kind);
  const bool attention = axis == 1 && op.kind != OpKind::gemm;
  if (attention && op.dim[1] == op.dim[2]) op.dim[2] = 0;
  op.dim[axis] = 0;
  return op;
}

double along(const OpShape& op) {
  return static_cast<double>(op.dim[axis_of(op.kind)]);
}

OperatorTable::OperatorTable(const std::vector<Stored<OperatorRow>>& rows) {
  std::map<OpShape, PointsBySource> families;
  for (const auto& [source, row] : rows) {
    add_point(families[family_of(row.op)], source,
              {along(row.op), row.time_s, row.spread, false});
  }
  families_.reserve(families.size());
  for (auto& [family, points] : families) {
    families_.emplace_back(family, SourcedCurve(std::move(points)));
  }
}

const SourcedCurve* OperatorTable::curve(const OpShape& family) const {
  const auto at = std::ranges::lower_bound(
      families_, family, {}, [](const auto& entry) { return entry.first; });
  if (at == families_.end() || at->first != family) return nullptr;
  return &at->second;
}

std::optional<OperatorFound> OperatorTable::find(const OpShape& op) const {
  const SourcedCurve* found = curve(family_of(op));
  if (found == nullptr) return {};
  const auto point = found->at(along(op));
  if (!point) return {};
  return OperatorFound{point->time, point->spread, point->exact};
}

std::optional<OperatorAnchor> OperatorTable::anchor(const OpShape& op) const {
  const OpShape family = family_of(op);
  const SourcedCurve* found = curve(family);
  if (found == nullptr) return {};
  const auto end = found->nearest_end(along(op));
  if (!end) return {};
  return OperatorAnchor{member_of(family, end->x), end->time};
}

}  // namespace troupe::profiles
