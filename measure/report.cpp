#include "measure/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

namespace troupe::measure {
namespace {

/// One sample has no spread.
Json spread_json(const Timing& t) {
  return t.samples > 1 ? Json(t.spread) : Json(nullptr);
}

Json to_json(const Timing& t) {
  return {{"median_s", t.median_s},
          {"spread", spread_json(t)},
          {"samples", t.samples}};
}

template <typename T>
Json maybe(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string_view name_of(Product product) {
  switch (product) {
    case Product::forward:
      return "forward";
    case Product::input_gradient:
      return "input_gradient";
    case Product::weight_gradient:
      return "weight_gradient";
  }
  return "";
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

/// Shares of one operator kind.
struct KindShares {
  int count = 0;
  std::vector<double> matrix, memory, spread;
};

/// "12 %" of the median, "-" of nothing.
std::string percent(std::vector<double> values, int digits) {
  if (values.empty()) return "-";
  std::ranges::sort(values);
  return fmt::format("{:.{}f} %", 100 * values[values.size() / 2], digits);
}

std::map<kernels::OpKind, KindShares> by_kind(const ProfileReport& report) {
  std::map<kernels::OpKind, KindShares> kinds;
  for (const MeasuredOperator& op : report.operators) {
    KindShares& kind = kinds[op.wanted.op.kind];
    ++kind.count;
    if (op.matrix_share) kind.matrix.push_back(*op.matrix_share);
    if (op.memory_share) kind.memory.push_back(*op.memory_share);
    if (op.timing.cold.samples > 1) {
      kind.spread.push_back(op.timing.cold.spread);
    }
  }
  return kinds;
}

Json layers_json(const ProfileReport& report) {
  Json list = Json::array();
  for (const MeasuredLayer& l : report.layers) {
    list.push_back({{"model", l.model},
                    {"backward", l.key.backward},
                    {"micro_batch", l.key.micro_batch},
                    {"seq_len", l.key.seq_len},
                    {"known", l.known},
                    {"whole", to_json(l.whole)},
                    {"sum_of_operators_s", l.cold_sum_s},
                    {"sum_of_warm_operators_s", maybe(l.warm_sum_s)},
                    {"operators_guessed", l.guessed},
                    {"sum_over_whole", ratio(l.cold_sum_s, l.whole.median_s)}});
  }
  return list;
}

Json bodies_json(const std::vector<Body>& bodies) {
  Json list = Json::array();
  for (const Body& body : bodies) {
    list.push_back({{"body", body.name},
                    {"time_s", body.time_s > 0 ? Json(body.time_s) : nullptr},
                    {"chosen", body.chosen},
                    {"refusal", body.refusal}});
  }
  return list;
}

Json operators_json(const ProfileReport& report) {
  Json list = Json::array();
  for (const MeasuredOperator& op : report.operators) {
    const OperatorTiming& t = op.timing;
    Json one{{"operator", to_string(op.wanted.op)},
             {"first_use", op.wanted.name},
             {"known", op.known},
             {"time_s", t.cold.median_s},
             {"warm_s", t.warm ? Json(t.warm->median_s) : nullptr},
             {"spread", spread_json(t.cold)},
             {"samples", t.cold.samples},
             {"share_of_matrix_rate", maybe(op.matrix_share)},
             {"share_of_bandwidth", maybe(op.memory_share)}};
    if (op.wanted.op.kind == kernels::OpKind::gemm) {
      one["product"] =
          op.wanted.name.empty() ? Json(nullptr) : name_of(op.wanted.product);
    }
    if (!t.bodies.empty()) one["bodies"] = bodies_json(t.bodies);
    list.push_back(std::move(one));
  }
  return list;
}

Json refused_json(const ProfileReport& report) {
  Json list = Json::array();
  for (const Refusal& refusal : report.refused) {
    list.push_back({{"operator", refusal.what}, {"reason", refusal.reason}});
  }
  return list;
}

Json clocks_json(const ProfileReport& report) {
  const Clocks& c = report.clocks;
  if (c.samples == 0) return nullptr;
  return {
      {"least_mhz", c.least}, {"median_mhz", c.median}, {"samples", c.samples}};
}

/// Copies, or collectives.
Json links_json(const ProfileReport& report, bool collectives) {
  Json list = Json::array();
  for (const MeasuredLink& link : report.links.links) {
    const LinkSeries& s = link.series;
    if (s.collective.has_value() != collectives) continue;
    Json one{{"bytes", link.bytes.v},
             {"known", link.known},
             {"timing", to_json(link.timing)}};
    if (collectives) {
      one["collective"] = clusters::name_of(*s.collective);
      one["ranks"] = s.devices.size();
    } else {
      one["route"] = name_of(s.route);
    }
    if (!s.devices.empty()) one["devices"] = s.devices;
    list.push_back(std::move(one));
  }
  return list;
}

Json ceilings_json(const ProfileReport& report) {
  if (!report.ceilings) return nullptr;
  return {{"matrix_flops_per_s", report.ceilings->matrix_rate},
          {"copy_bytes_per_s", report.ceilings->bandwidth},
          {"launch_s", report.ceilings->launch_s}};
}

std::vector<std::string> notes_of(const ProfileReport& report) {
  std::vector<std::string> notes = report.notes;
  notes.insert(notes.end(), report.links.notes.begin(),
               report.links.notes.end());
  return notes;
}

/// One line for each curve: its smallest and its largest size.
void write_links(const ProfileReport& report, std::string& out) {
  struct Ends {
    const MeasuredLink* least = nullptr;
    const MeasuredLink* most = nullptr;
    int sizes = 0;
  };
  std::map<LinkSeries, Ends> curves;
  for (const MeasuredLink& link : report.links.links) {
    Ends& ends = curves[link.series];
    ++ends.sizes;
    if (ends.least == nullptr || link.bytes < ends.least->bytes) {
      ends.least = &link;
    }
    if (ends.most == nullptr || link.bytes > ends.most->bytes) {
      ends.most = &link;
    }
  }
  if (curves.empty()) return;
  const auto line = std::back_inserter(out);
  fmt::format_to(line, "\n{:<32}{:>7}{:>14}{:>14}\n", "link", "sizes",
                 "smallest us", "largest GB/s");
  for (const auto& [series, ends] : curves) {
    fmt::format_to(line, "{:<32}{:>7}{:>14.3g}{:>14.4g}\n", to_string(series),
                   ends.sizes, ends.least->timing.median_s * 1e6,
                   static_cast<double>(ends.most->bytes.v) /
                       ends.most->timing.median_s * 1e-9);
  }
}

/// What became of the operators, and how the run ended.
void write_end(const ProfileReport& report, const std::string& database,
               std::string& out) {
  const auto line = std::back_inserter(out);
  constexpr std::size_t kShown = 5;
  for (std::size_t i = 0; i < report.refused.size(); ++i) {
    if (i == kShown) {
      fmt::format_to(line, "refused: {} more\n", report.refused.size() - i);
      break;
    }
    fmt::format_to(line, "refused: {}: {}\n", report.refused[i].what,
                   report.refused[i].reason);
  }
  fmt::format_to(line,
                 "\n{} operators: {} measured, {} known before, {} known well "
                 "enough without, {} too large, {} refused, {} not reached\n"
                 "expected error of all {:.1f} %\n",
                 report.wanted, report.measured, report.remembered,
                 report.within_accuracy, report.too_large,
                 report.refused.size(), report.not_reached,
                 100 * report.expected_error);
  if (!report.failure.empty()) {
    fmt::format_to(line, "ended by a failure: {}\n", report.failure);
  }
  fmt::format_to(line, "{} in {:.0f} s; stored in {}\n",
                 report.interrupted ? "interrupted" : "done", report.elapsed_s,
                 database);
}

}  // namespace

Json to_json(const ProfileReport& report, const std::string& database) {
  return {{"device", report.machine.device},
          {"name", report.machine.full_name},
          {"libraries", report.machine.libraries},
          {"clocks", report.machine.clocks},
          {"sm_clock_while_measuring", clocks_json(report)},
          {"source", report.source},
          {"profiles", database},
          {"ceilings", ceilings_json(report)},
          {"wanted", report.wanted},
          {"measured", report.measured},
          {"remembered", report.remembered},
          {"within_accuracy", report.within_accuracy},
          {"too_large", report.too_large},
          {"refused", refused_json(report)},
          {"not_reached", report.not_reached},
          {"layers_not_reached", report.layers_left},
          {"expected_error", report.expected_error},
          {"elapsed_s", report.elapsed_s},
          {"interrupted", report.interrupted},
          {"failure",
           report.failure.empty() ? Json(nullptr) : Json(report.failure)},
          {"operators", operators_json(report)},
          {"layers", layers_json(report)},
          {"copies", links_json(report, false)},
          {"collectives", links_json(report, true)},
          {"links_remembered", report.links.remembered},
          {"links_complete", report.links.complete},
          {"notes", notes_of(report)}};
}

std::string to_table(const ProfileReport& report, const std::string& database) {
  std::string out;
  const auto line = std::back_inserter(out);
  fmt::format_to(line, "{} ({}), {}\n", report.machine.device,
                 report.machine.full_name, report.machine.libraries);
  if (report.ceilings) {
    fmt::format_to(
        line,
        "ceilings: {:.3g} TFLOP/s of products, {:.4g} GB/s of copies, "
        "{:.2g} us a launch\n",
        report.ceilings->matrix_rate * 1e-12, report.ceilings->bandwidth * 1e-9,
        report.ceilings->launch_s * 1e6);
  }
  if (report.clocks.samples > 0) {
    fmt::format_to(
        line, "clock while measuring: median {:.0f} MHz, least {:.0f} MHz\n",
        report.clocks.median, report.clocks.least);
  }
  if (!report.operators.empty()) {
    fmt::format_to(line, "\n{:<24}{:>7}{:>14}{:>14}{:>9}\n", "operator",
                   "shapes", "of matrix", "of copy", "spread");
  }
  for (const auto& [kind, shares] : by_kind(report)) {
    const bool matrix = kernels::uses_matrix_units(kind);
    fmt::format_to(line, "{:<24}{:>7}{:>14}{:>14}{:>9}\n", name_of(kind),
                   shares.count,
                   matrix ? percent(shares.matrix, 0) : std::string(),
                   percent(shares.memory, 0), percent(shares.spread, 1));
  }
  if (!report.layers.empty()) {
    fmt::format_to(line, "\n{:<32}{:>12}{:>14}{:>8}\n", "layer", "whole ms",
                   "operators ms", "ratio");
  }
  for (const MeasuredLayer& l : report.layers) {
    fmt::format_to(
        line, "{:<32}{:>12.4g}{:>14.4g}{:>8.3f}{}\n",
        fmt::format("{} {} {}x{}", l.model,
                    l.key.backward ? "backward" : "forward", l.key.micro_batch,
                    l.key.seq_len),
        l.whole.median_s * 1e3, l.cold_sum_s * 1e3,
        ratio(l.cold_sum_s, l.whole.median_s),
        l.guessed > 0 ? fmt::format("  {} operators guessed", l.guessed) : "");
  }
  write_links(report, out);
  for (const std::string& note : notes_of(report)) {
    fmt::format_to(line, "note: {}\n", note);
  }
  write_end(report, database, out);
  return out;
}

}  // namespace troupe::measure
