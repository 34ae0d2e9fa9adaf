#include "profiles/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "profiles/cost_model.h"
#include "profiles/devices.h"

namespace troupe::profiles {
namespace {

using clusters::DeviceKind;
using kernels::OpKind;

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// Every field of several fits is their median.
GemmFit pooled(const std::vector<GemmFit>& fits) {
  const auto of = [&](double GemmFit::* field) {
    std::vector<double> values;
    for (const GemmFit& fit : fits) values.push_back(fit.*field);
    return median(std::move(values));
  };
  return {of(&GemmFit::efficiency), of(&GemmFit::k0), of(&GemmFit::overhead),
          of(&GemmFit::memory), of(&GemmFit::error)};
}
AttentionFit pooled(const std::vector<AttentionFit>& fits) {
  const auto of = [&](double AttentionFit::* field) {
    std::vector<double> values;
    for (const AttentionFit& fit : fits) values.push_back(fit.*field);
    return median(std::move(values));
  };
  return {of(&AttentionFit::efficiency), of(&AttentionFit::latency),
          of(&AttentionFit::error)};
}
StreamFit pooled(const std::vector<StreamFit>& fits) {
  const auto of = [&](double StreamFit::* field) {
    std::vector<double> values;
    for (const StreamFit& fit : fits) values.push_back(fit.*field);
    return median(std::move(values));
  };
  return {of(&StreamFit::overhead), of(&StreamFit::memory),
          of(&StreamFit::error)};
}

}  // namespace

void Fitter::know(const DeviceKind& kind,
                  const std::vector<OperatorRow>& operators) {
  kinds_[kind.name] = kind;
  for (const OperatorRow& row : operators) {
    rows_[{kind.name, row.op.kind}].push_back(row);
  }
}

Result<void> Fitter::prepare() {
  if (prepared_) return {};
  TRY(const std::vector<OperatorCount> counts, database_.operator_counts());
  for (const OperatorCount& c : counts) {
    if (c.rows >= static_cast<std::int64_t>(kLeastRows)) {
      counts_[{c.device, c.op}] = c.rows;
    }
  }
  prepared_ = true;
  return {};
}

bool Fitter::has(const std::string& device, OpKind op) const {
  return counts_.contains({device, op});
}

std::vector<std::string> Fitter::lenders(const std::string& name,
                                         OpKind op) const {
  if (has(name, op)) return {name};
  std::vector<std::string> board, architecture, all;
  const auto family = architecture_of(name);
  for (const auto& [key, count] : counts_) {
    if (key.second != op) continue;
    all.push_back(key.first);
    if (!family.empty() && family == architecture_of(key.first)) {
      architecture.push_back(key.first);
    }
    if (board_of(key.first) == board_of(name)) board.push_back(key.first);
  }
  if (!board.empty()) return board;
  return architecture.empty() ? all : architecture;
}

Result<const DeviceKind*> Fitter::kind_named(const std::string& name) {
  if (const auto at = kinds_.find(name); at != kinds_.end()) {
    return &at->second;
  }
  if (!shipped_) {
    TRY(clusters::KindTable table, clusters::shipped_kinds());
    shipped_ = std::move(table);
  }
  return shipped_->find(name);
}

template <typename Fit, typename Function>
Result<Fit> Fitter::fit(const std::string& name, OpKind op, Fit fallback,
                        Function function, Cache<Fit>& cache) {
  std::vector<Fit> fits;
  for (const std::string& device : lenders(name, op)) {
    const auto [at, is_new] = cache.try_emplace({device, op}, fallback);
    if (is_new) {
      TRY(const DeviceKind* kind, kind_named(device));
      if (kind == nullptr) {  // a kind without peaks says nothing
        cache.erase(at);
        continue;
      }
      std::vector<OperatorRow>& rows = rows_[{device, op}];
      if (rows.empty()) {
        TRY(rows, database_.operators_of(device, op));
      }
      at->second = function(rows, *kind);
    }
    fits.push_back(at->second);
    if (device != name) borrowed_[op].push_back(device);
  }
  if (fits.empty()) {
    borrowed_[op].push_back("no device");
    return fallback;
  }
  return fits.size() == 1 ? fits.front() : pooled(fits);
}

Result<void> Fitter::streams(const std::string& name, Curves& curves) {
  std::map<OpKind, StreamFit> found;
  for (int i = 0; i < kernels::kOpKinds; ++i) {
    const auto op = static_cast<OpKind>(i);
    if (kernels::uses_matrix_units(op)) continue;
    const OpKind like = has(name, op) ? op : stream_like(op);
    if (!found.contains(like)) {
      TRY(found[like], fit(name, like, StreamFit{}, fit_stream, streams_));
    }
    curves.stream[static_cast<std::size_t>(i)] = found[like];
  }
  return {};
}

void Fitter::note_borrowed(const std::string& name, Curves& curves) {
  std::map<std::string, std::vector<std::string>> by_lender;
  for (const auto& [op, devices] : borrowed_) {
    by_lender[join(devices)].emplace_back(name_of(op));
  }
  for (const auto& [lender, ops] : by_lender) {
    curves.notes.push_back(
        fmt::format("{}: {} as on {}", name, join(ops), lender));
  }
  borrowed_.clear();
}

Result<Curves> Fitter::curves(const DeviceKind& kind,
                              const std::vector<StageRow>& stages) {
  TRY_DO(prepare());
  kinds_[kind.name] = kind;
  Curves curves;
  TRY(curves.gemm, fit(kind.name, OpKind::gemm, curves.gemm, fit_gemm, gemms_));
  TRY(curves.forward, fit(kind.name, OpKind::attention_forward, curves.forward,
                          fit_attention, attentions_));
  TRY(curves.backward, fit(kind.name, OpKind::attention_backward,
                           curves.backward, fit_attention, attentions_));
  TRY_DO(streams(kind.name, curves));
  note_borrowed(kind.name, curves);
  if (!has(kind.name, OpKind::gemm)) {
    scale_to_stages(stages, kind, curves);
    limit_power(kind, curves);
  }
  return curves;
}

Result<Curves> curves_of(const Database& database, const DeviceKind& kind) {
  TRY(const std::vector<Stored<StageRow>> stored,
      database.select<StageRow>(kind.name, ""));
  std::vector<StageRow> stages;
  for (const Stored<StageRow>& s : stored) stages.push_back(s.row);
  return Fitter(database).curves(kind, stages);
}

}  // namespace troupe::profiles
