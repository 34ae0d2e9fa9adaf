// troupe profile: measures operators and links of the machine at hand into the
// database.
#include "measure/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/file.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/profile_database.h"
#include "cli/say.h"
#include "measure/choices.h"
#include "measure/report.h"
#include "models/read.h"

namespace troupe::cli {
namespace {

struct ProfileOptions {
  std::string device = "cuda:0", budget = "8m", profiles, dtype, source;
  std::vector<std::string> models;
  std::vector<int> tp, cp{1}, seq_len, micro_batch{1};
  double accuracy = 0.02;
  std::string only;
  bool json = false, no_layers = false, progress = false;
};

/// Links of the device's machine, or why there are none in the report.
struct Links {
  std::unique_ptr<measure::LinkMachine> machine;
  std::string absent;
};
Result<Links> links_of(const ProfileOptions& o) {
  if (o.only == "operators") return Links{nullptr, ""};
  auto opened = measure::open_links(o.device);
  if (opened) return Links{*std::move(opened), ""};
  if (opened.error().fault == Fault::input) return fail(opened.error());
  return Links{nullptr, "copies and collectives between devices are skipped: " +
                            opened.error().message};
}

/// "480", "480s", "8m", "1.5h" in seconds.
Result<double> read_budget(const std::string& text) {
  std::size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const double factor = unit.empty() || unit == "s" ? 1
                        : unit == "m"               ? 60
                        : unit == "h"               ? 3600
                                                    : 0;
  const double seconds = value * factor;
  if (used == 0 || factor == 0 || !(seconds > 0) || seconds > 7 * 86400) {
    return fail(Fault::input,
                fmt::format("--budget {}: expected a time such as 90s, 8m or "
                            "1.5h, of at most a week",
                            text));
  }
  return seconds;
}

Result<void> check_sizes(const std::vector<int>& sizes, const char* option,
                         int most) {
  for (const int size : sizes) {
    if (size < 1 || size > most) {
      return fail(Fault::input,
                  fmt::format("{} {}: expected 1 to {}", option, size, most));
    }
  }
  return {};
}

Result<measure::Range> read_range(const ProfileOptions& o, bool cpu) {
  TRY_DO(check_sizes(o.tp, "--tp", 1024));
  TRY_DO(check_sizes(o.cp, "--cp", 1024));
  TRY_DO(check_sizes(o.seq_len, "--seq-len", 1 << 22));
  TRY_DO(check_sizes(o.micro_batch, "--micro-batch", 1 << 16));
  measure::Range range;
  std::vector<std::string> names = o.models;
  if (names.empty()) {
    // The 32B with 64 heads of 104 exists at every of these degrees.
    names = {"llama-7b", "llama-13b", "hspmd-32b", "llama2-70b"};
  }
  for (const std::string& name : names) {
    TRY(models::Model model, models::read_model(name));
    range.models.push_back(std::move(model));
  }
  range.tp = o.tp.empty() ? std::vector<int>{1, 2, 4, 8, 16} : o.tp;
  range.cp = o.cp;
  range.seq_len = o.seq_len.empty()
                      ? std::vector<int>{128,  256,  512,   1024, 2048,
                                         4096, 8192, 16384, 32768}
                      : o.seq_len;
  range.micro_batch = o.micro_batch;
  const std::string name = o.dtype.empty() ? (cpu ? "fp32" : "bf16") : o.dtype;
  const auto dtype = kernels::parse_dtype(name);
  const bool known = dtype && (*dtype == kernels::DType::bf16 ||
                               *dtype == kernels::DType::fp32 ||
                               *dtype == kernels::DType::fp64);
  if (!known) {
    return fail(Fault::input,
                fmt::format("--dtype {}: expected bf16, fp32 or fp64", name));
  }
  range.dtype = *dtype;
  return range;
}

Result<int> run(const ProfileOptions& o) {
  measure::ProfileOptions options;
  TRY(options.budget_s, read_budget(o.budget));
  TRY(options.range, read_range(o, o.device == "cpu"));
  if (!(o.accuracy > 0 && o.accuracy < 1)) {
    return fail(Fault::input, fmt::format("--accuracy {}: expected more than 0 "
                                          "and less than 1",
                                          o.accuracy));
  }
  options.accuracy = o.accuracy;
  options.source = o.source;
  options.layers = !o.no_layers;
  options.operators = o.only != "links";
  options.copies = o.only != "operators";
  // Opening a GPU and its links takes seconds, which count.
  const measure::Timer now = measure::steady_timer();
  const double began = now();
  TRY(const auto machine, measure::open_machine(o.device));
  TRY(const Links links, links_of(o));
  options.links = links.machine.get();
  TRY(profiles::Database db, profiles_to_write(o.profiles));
  options.choices = measure::choices_path(db.path(), machine->info());
  options.budget_s = std::max(options.budget_s - (now() - began), 0.1);
  measure::ProfileReport report;
  {
    Progress progress("profile", 1000, o.progress);
    TRY(report, measure::profile(*machine, db, options,
                                 [&](double share, std::string_view what) {
                                   progress.update(std::lround(share * 1000),
                                                   what);
                                 }));
  }
  if (!links.absent.empty()) report.notes.push_back(links.absent);
  if (o.json) {
    say("{}\n", to_text(measure::to_json(report, db.path())));
  } else {
    say("{}", measure::to_table(report, db.path()));
  }
  if (report.interrupted) return exit_code({Fault::interrupted, ""});
  if (report.failure.empty()) return 0;
  // The report is out; this is for the one who only sees the error stream.
  return fail(Fault::io, "the machine failed: " + report.failure);
}

}  // namespace

void add_profile(Commands& commands) {
  auto o = std::make_shared<ProfileOptions>();
  CLI::App* c = commands.add(
      "profile",
      "measure operators and links of this machine into the profile database");
  c->add_option("--device", o->device, "cuda:N or cpu")->capture_default_str();
  c->add_option("--model", o->models,
                "models whose operators are measured (llama-7b, llama-13b, "
                "hspmd-32b, llama2-70b)");
  c->add_option("--tp", o->tp, "tensor-parallel degrees (1,2,4,8,16)")
      ->delimiter(',');
  c->add_option("--cp", o->cp, "context-parallel degrees (1)")->delimiter(',');
  c->add_option("--seq-len", o->seq_len, "sequence lengths (128 to 32768)")
      ->delimiter(',');
  c->add_option("--micro-batch", o->micro_batch, "micro-batch sizes (1)")
      ->delimiter(',');
  c->add_option("--dtype", o->dtype, "bf16 (GPUs), fp32 (processors), fp64");
  c->add_option("--budget", o->budget, "time to use: 90s, 8m, 1.5h")
      ->capture_default_str();
  c->add_option("--accuracy", o->accuracy,
                "leave what is expected to be known this well")
      ->capture_default_str();
  c->add_option("--source", o->source, "name of the rows' source");
  c->add_option("--only", o->only,
                "operators, or links: copies in memory, with the host and "
                "between GPUs, collectives")
      ->check(CLI::IsMember({"operators", "links"}));
  c->add_flag("--no-layers", o->no_layers, "operators only");
  c->add_option("--profiles", o->profiles, "profile database");
  c->add_flag("--progress", o->progress,
              "print progress also without a terminal");
  c->add_flag("--json", o->json, "print one JSON object");
  commands.run(c, [o] { return run(*o); });
}

}  // namespace troupe::cli
