#include "cli/hotspa_table.h"

#include <fmt/format.h>

#include <cmath>

#include "base/text.h"

namespace troupe::cli {
namespace {

const runs::StaticStep* best_of(const HotRow& row) {
  const int best = row.result.best;
  return best < 0 ? nullptr
                  : &row.result.statics[static_cast<std::size_t>(best)];
}

/// Best static over hot, 0 when no static fits.
double speed_up(const HotRow& row) {
  const runs::StaticStep* best = best_of(row);
  return best && row.result.hot.step.v > 0 ? best->step / row.result.hot.step
                                           : 0.0;
}

std::int64_t documents_tokens(const HotRow& row) {
  std::int64_t tokens = 0;
  for (const runs::BucketRows& b : row.result.buckets) tokens += b.tokens;
  return tokens;
}

Json static_json(const runs::StaticStep& step) {
  return {{"strategy", to_string(step.grid)},
          {"step_time_s", to_seconds(step.step)},
          {"mfu", step.mfu},
          {"memory_bytes", step.memory.v},
          {"fits", step.fits}};
}

Json row_json(const HotRow& row) {
  const runs::HotConfiguration& c = *row.configuration;
  Json strategies = Json::array();
  for (const runs::Grid& grid : c.strategies) {
    strategies.push_back(to_string(grid));
  }
  Json out{{"model", c.model},
           {"cluster", c.cluster},
           {"corpus", row.corpus->name},
           {"combination", c.combination},
           {"context", c.bounds.front()},
           {"strategies", strategies}};
  if (!row.error.empty()) {
    out["error"] = row.error;
    return out;
  }
  Json buckets = Json::array();
  for (const runs::BucketRows& b : row.result.buckets) {
    buckets.push_back({{"up_to", b.high},
                       {"documents", b.documents},
                       {"tokens", b.tokens},
                       {"rows", b.rows}});
  }
  const runs::StepTimes& hot = row.result.hot;
  out["buckets"] = std::move(buckets);
  out["step_time_s"] = to_seconds(hot.step);
  out["apart_s"] = to_seconds(hot.apart);
  out["in_switches_s"] = to_seconds(hot.in_switches());
  out["switches"] = hot.switches.size();
  out["switch_buffers_bytes"] = hot.buffers.v;
  out["mfu"] = hot.mfu;
  out["memory_bytes"] = row.result.memory.v;
  out["fits"] = row.result.fits;
  out["choices"] = Json::array();
  for (const runs::BucketChoice& choice : row.result.choices) {
    out["choices"].push_back({{"up_to", row.result.buckets[choice.bucket].high},
                              {"configured", to_string(choice.chosen)},
                              {"configured_s", to_seconds(choice.chosen_time)},
                              {"configured_fits", choice.chosen_fits},
                              {"best", to_string(choice.best)},
                              {"best_s", to_seconds(choice.best_time)}});
  }
  out["statics"] = Json::array();
  for (const auto& step : row.result.statics) {
    out["statics"].push_back(static_json(step));
  }
  if (const auto* best = best_of(row)) {
    out["best_static"] = static_json(*best);
    out["speed_up"] = speed_up(row);
  }
  return out;
}

std::string row_text(const HotRow& row) {
  const runs::HotConfiguration& c = *row.configuration;
  std::string out =
      fmt::format("{:<12}{:<11}{:<12}{:<4}{:>6} ", c.model, c.cluster,
                  row.corpus->name, c.combination, c.bounds.front());
  if (!row.error.empty()) return out + row.error + "\n";
  const runs::StepTimes& hot = row.result.hot;
  const runs::StaticStep* best = best_of(row);
  return out + fmt::format(
                   "{:>9} {:>5.1f} % {:>9} {:>9} {:>10} {}  {}\n",
                   human(hot.step), 100 * hot.mfu, human(hot.in_switches()),
                   human(hot.apart - hot.without), human(hot.buffers),
                   row.result.fits ? "   " : "OOM",
                   best ? fmt::format("{:<15}{:>9} {:>5.1f} % {:>5.2f} x",
                                      to_string(best->grid), human(best->step),
                                      100 * best->mfu, speed_up(row))
                        : "no single strategy fits");
}

/// What the artifact does publish are choices: its strategy of each bucket.
std::string choices_text(const std::vector<HotRow>& rows) {
  int all = 0, same = 0, near = 0, lost = 0;
  double logs = 0, most = 1;
  for (const HotRow& row : rows) {
    for (const runs::BucketChoice& choice : row.result.choices) {
      ++all;
      if (!choice.chosen_fits) ++lost;
      const double ratio =
          choice.best_time.v > 0 ? choice.chosen_time / choice.best_time : 1.0;
      if (choice.chosen == choice.best) ++same;
      if (ratio <= 1.05) ++near;
      logs += std::log(ratio);
      most = std::max(most, ratio);
    }
  }
  return fmt::format(
      "the configured strategy of a bucket is the fastest that fits in {} of "
      "{} buckets, within 5 % of it in {}; over it by {:.1f} % in the mean, at "
      "most {:.2f} x; {} do not fit\n",
      same, all, near, all > 0 ? 100 * (std::exp(logs / all) - 1) : 0.0, most,
      lost);
}

std::string summary(const std::vector<HotRow>& rows) {
  int compared = 0, faster = 0, failed = 0, over = 0, single = 0;
  double logs = 0, most = 0;
  for (const HotRow& row : rows) {
    if (!row.error.empty()) {
      ++failed;
      continue;
    }
    if (!row.result.fits) ++over;
    if (row.configuration->strategies.size() == 1) ++single;
    const double gain = speed_up(row);
    if (!(gain > 0)) continue;
    ++compared;
    logs += std::log(gain);
    most = std::max(most, gain);
    if (gain > 1.01) ++faster;
  }
  return fmt::format(
      "{} of {} experiments performed, {} of them with a single strategy; {} "
      "need more memory than there is\n"
      "against the best single strategy that fits: {} of {} over 1 % faster, "
      "geometric mean {:.3f} x, at most {:.2f} x\n"
      "no measured times are published for these runs; the lengths of "
      "documents are assumed laws\n",
      rows.size() - static_cast<std::size_t>(failed), rows.size(), single, over,
      faster, compared, compared > 0 ? std::exp(logs / compared) : 1.0, most);
}

}  // namespace

std::string hotspa_text(const std::vector<HotRow>& rows) {
  std::string out = fmt::format(
      "{:<12}{:<11}{:<12}{:<4}{:>6} {:>9} {:>7} {:>9} {:>9} {:>10}      "
      "{:<15}{:>9} {:>7} {:>7}\n",
      "model", "cluster", "corpus", "", "context", "step", "MFU", "switches",
      "if apart", "buffers", "best single", "step", "MFU", "gain");
  for (const HotRow& row : rows) out += row_text(row);
  return out + summary(rows) + choices_text(rows);
}

Json hotspa_json(const std::vector<HotRow>& rows) {
  Json list = Json::array();
  for (const HotRow& row : rows) list.push_back(row_json(row));
  return {{"experiments", std::move(list)}};
}

std::string hotspa_csv(const std::vector<HotRow>& rows) {
  std::string out =
      "model,cluster,corpus,combination,context,strategies,document_tokens,"
      "rows,step_s,mfu,in_switches_s,switches_apart_s,switch_buffers_bytes,"
      "fits,best_static,best_static_s,best_static_mfu,speed_up\n";
  for (const HotRow& row : rows) {
    const runs::HotConfiguration& c = *row.configuration;
    std::vector<std::string> strategies, counts;
    for (const runs::Grid& g : c.strategies) strategies.push_back(to_string(g));
    for (const auto& b : row.result.buckets) {
      counts.push_back(std::to_string(b.rows));
    }
    out +=
        fmt::format("{},{},{},{},{},{},", c.model, c.cluster, row.corpus->name,
                    c.combination, c.bounds.front(), join(strategies, " / "));
    if (!row.error.empty()) {
      out += ",,,,,,,,,,,\n";
      continue;
    }
    const runs::StepTimes& hot = row.result.hot;
    out += fmt::format(
        "{},{},{:.6f},{:.4f},{:.6f},{:.6f},{},{},", documents_tokens(row),
        join(counts, " "), to_seconds(hot.step), hot.mfu,
        to_seconds(hot.in_switches()), to_seconds(hot.apart - hot.without),
        hot.buffers.v, row.result.fits ? 1 : 0);
    const runs::StaticStep* best = best_of(row);
    out += best
               ? fmt::format("{},{:.6f},{:.4f},{:.4f}\n", to_string(best->grid),
                             to_seconds(best->step), best->mfu, speed_up(row))
               : std::string(",,,\n");
  }
  return out;
}

std::string gain_text(const std::vector<runs::ShapeGain>& gains) {
  std::string out;
  for (const runs::ShapeGain& gain : gains) {
    out += fmt::format(
        "{}: {} switches, {} together with our senders\n"
        "  {:<26}{:>12}{:>14}{:>12}{:>22}\n",
        gain.shape, gain.switches, human(gain.ours), "rule", "together",
        "mean of ratio", "at most", "ours over 1 % shorter");
    for (const runs::RuleGain& rule : gain.rules) {
      out += fmt::format("  {:<26}{:>12}{:>12.3f} x{:>10.2f} x{:>22}\n",
                         rule.rule, human(rule.total), rule.geometric,
                         rule.most, rule.slower);
    }
  }
  return out;
}

Json gain_json(const std::vector<runs::ShapeGain>& gains) {
  Json out = Json::array();
  for (const runs::ShapeGain& gain : gains) {
    Json rules = Json::array();
    for (const runs::RuleGain& rule : gain.rules) {
      rules.push_back({{"rule", rule.rule},
                       {"together_s", to_seconds(rule.total)},
                       {"mean_ratio", rule.geometric},
                       {"most_ratio", rule.most},
                       {"slower", rule.slower}});
    }
    out.push_back({{"shape", gain.shape},
                   {"switches", gain.switches},
                   {"together_s", to_seconds(gain.ours)},
                   {"rules", std::move(rules)}});
  }
  return {{"shapes", std::move(out)}};
}

std::string gain_csv(const std::vector<runs::ShapeGain>& gains) {
  std::string out =
      "shape,switches,ours_s,rule,rule_s,mean_ratio,most_ratio,"
      "ours_over_1_percent_shorter\n";
  for (const runs::ShapeGain& gain : gains) {
    for (const runs::RuleGain& rule : gain.rules) {
      out += fmt::format("\"{}\",{},{:.6f},{},{:.6f},{:.4f},{:.4f},{}\n",
                         gain.shape, gain.switches, to_seconds(gain.ours),
                         rule.rule, to_seconds(rule.total), rule.geometric,
                         rule.most, rule.slower);
    }
  }
  return out;
}

}  // namespace troupe::cli
