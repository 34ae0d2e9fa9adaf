// troupe hotspa: HotSPa's experiments in simulation, beside the best single
// strategy; and what the choice of senders is worth in their switches.

#include <memory>
#include <mutex>

#include "base/file.h"
#include "base/progress.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/hotspa_table.h"
#include "cli/options.h"
#include "cli/parallel.h"
#include "cli/say.h"
#include "cli/simulation.h"
#include "clusters/read.h"
#include "models/read.h"

namespace troupe::cli {
namespace {

struct HotspaOptions {
  std::string file, profiles, output, model, corpus, combination;
  std::uint64_t switch_memory = 0;
  bool senders = false, json = false, shared_masters = false;
};

/// Shipped corpora are for files that bring none.
Result<runs::HotExperiments> read_experiments(const std::string& file) {
  const auto shipped =
      data_root() / "results/reference/hotspa/experiments.json";
  TRY(const Json json, read_json(shipped));
  TRY(runs::HotExperiments own, runs::read_hotspa(json, shipped.string()));
  if (file.empty()) return own;
  TRY(const Json given, read_json(file));
  return runs::read_hotspa(given, file, own.corpora);
}

/// Every experiment that the options select.
std::vector<HotRow> select(const HotspaOptions& o,
                           const runs::HotExperiments& all) {
  std::vector<HotRow> rows;
  for (const runs::LengthLaw& corpus : all.corpora) {
    for (const runs::HotConfiguration& c : all.configurations) {
      const auto wanted = [](const std::string& option,
                             const std::string& name) {
        return option.empty() || name.find(option) != std::string::npos;
      };
      if (!wanted(o.model, c.model) || !wanted(o.corpus, corpus.name) ||
          !wanted(o.combination, c.combination)) {
        continue;
      }
      rows.push_back({&c, &corpus, {}, {}});
    }
  }
  return rows;
}

/// Models and clusters by name, with costs for all kinds.
struct Inputs {
  std::map<std::string, models::Model> models;
  std::map<std::string, clusters::Cluster> clusters;
  std::unique_ptr<profiles::CostModel> costs;
};

Result<Inputs> read_inputs(const std::vector<HotRow>& rows,
                           const std::string& profiles) {
  Inputs in;
  clusters::Cluster kinds;
  for (const HotRow& row : rows) {
    const runs::HotConfiguration& c = *row.configuration;
    if (!in.models.contains(c.model)) {
      TRY(in.models[c.model], models::read_model(c.model));
    }
    if (in.clusters.contains(c.cluster)) continue;
    TRY(in.clusters[c.cluster], clusters::read_cluster(c.cluster));
    for (const auto& kind : in.clusters[c.cluster].kinds) {
      if (std::ranges::find(kinds.kinds, kind) == kinds.kinds.end()) {
        kinds.kinds.push_back(kind);
      }
    }
  }
  TRY(in.costs, load_costs(profiles, kinds));
  return in;
}

void perform(const HotspaOptions& o, const runs::HotExperiments& all,
             const Inputs& in, HotRow& row) {
  const runs::HotConfiguration& c = *row.configuration;
  const clusters::Cluster& cluster = in.clusters.at(c.cluster);
  const reshard::Rates rates = reshard::rates_of(cluster, *in.costs);
  runs::StepOptions options;
  options.switching.rates = &rates;
  options.switching.options.bucket = {
      static_cast<std::int64_t>(o.switch_memory)};
  options.whole_masters = !o.shared_masters;
  auto result = runs::perform_hotspa(c, *row.corpus,
                                     {in.models.at(c.model), cluster, *in.costs,
                                      options, kReserve, all.global_batch});
  if (result) {
    row.result = *std::move(result);
  } else {
    row.error = result.error().message;
  }
}

Result<int> answer(const HotspaOptions& o, const std::string& text,
                   const Json& json, const std::string& csv) {
  if (!o.output.empty()) TRY_DO(write_file(o.output, csv));
  if (o.json) {
    say("{}\n", to_text(json));
  } else {
    say("{}", text);
  }
  return 0;
}

Result<int> compare_senders(const HotspaOptions& o,
                            const runs::HotExperiments& all) {
  std::vector<runs::ShapeGain> gains;
  for (const runs::ClusterShape& shape : runs::gain_shapes()) {
    TRY(auto gain, runs::switch_gain(all.configurations, shape));
    gains.push_back(std::move(gain));
  }
  return answer(o, gain_text(gains), gain_json(gains), gain_csv(gains));
}

Result<int> hotspa(const HotspaOptions& o) {
  TRY_DO(check_output(o.output));
  TRY(const runs::HotExperiments all, read_experiments(o.file));
  if (o.senders) return compare_senders(o, all);
  std::vector<HotRow> rows = select(o, all);
  if (rows.empty()) {
    return fail(Fault::input,
                "no experiment has that model, corpus and combination");
  }
  TRY(const Inputs in, read_inputs(rows, o.profiles));
  Progress progress("experiments", std::ssize(rows));
  std::mutex mutex;
  std::int64_t done = 0;
  in_parallel(rows.size(), [&](std::size_t i) {
    if (interrupted()) return;
    perform(o, all, in, rows[i]);
    const std::lock_guard lock(mutex);
    progress.update(++done);
  });
  if (interrupted()) return fail(Fault::interrupted, "interrupted");
  TRY(const int code,
      answer(o, hotspa_text(rows), hotspa_json(rows), hotspa_csv(rows)));
  const bool broken = std::ranges::any_of(
      rows, [](const HotRow& row) { return !row.error.empty(); });
  return broken ? 1 : code;
}

}  // namespace

void add_hotspa(Commands& commands) {
  auto o = std::make_shared<HotspaOptions>();
  CLI::App* command = commands.add(
      "hotspa", "simulate HotSPa's experiments beside single strategies");
  command->add_option("file", o->file,
                      "configurations (the 40 shipped ones on two corpora)");
  command->add_option("--model", o->model, "only models with this in the name");
  command->add_option("--corpus", o->corpus, "only corpora with this in it");
  command->add_option("--combination", o->combination, "only this one");
  command
      ->add_option("--switch-memory", o->switch_memory,
                   "most that a switch packs and receives on a device, such "
                   "as 256MiB")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 50));
  command->add_flag("--shared-masters", o->shared_masters,
                    "ZeRO shares out fp32 masters too (HotSPa keeps them "
                    "whole on every device)");
  command->add_flag("--senders", o->senders,
                    "instead: switches under each rule for choosing senders, "
                    "on three shapes of cluster");
  command->add_option("--profiles", o->profiles, "profile database");
  command->add_option("-o,--output", o->output, "write a CSV file");
  command->add_flag("--json", o->json, "print one JSON object");
  commands.run(command, [o] { return hotspa(*o); });
}

}  // namespace troupe::cli
