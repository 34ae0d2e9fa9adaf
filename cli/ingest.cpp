// troupe ingest: measurements into the profile database.
// troupe profiles: what the database holds.
#include "profiles/ingest.h"

#include <fmt/format.h>

#include <memory>

#include "base/file.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/say.h"
#include "profiles/database.h"
#include "profiles/export.h"

namespace troupe::cli {
namespace {

struct IngestOptions {
  std::vector<std::string> files;
  std::string format, profiles, device, source;
  int ranks = 0, per_node = 0;
  bool shipped = false, json = false;
};

struct ProfilesOptions {
  std::string profiles, output;
  profiles::Filter filter;
  bool json = false;
};

Result<profiles::Database> open_database(const std::string& given) {
  return profiles::open_or_create(given.empty() ? home_root() / "profiles.db"
                                                : std::filesystem::path(given));
}

void add_report(const profiles::IngestReport& report,
                profiles::IngestReport& sum) {
  sum.inserted += report.inserted;
  sum.unchanged += report.unchanged;
  sum.rejected += report.rejected;
  sum.rejections.insert(sum.rejections.end(), report.rejections.begin(),
                        report.rejections.end());
}

Result<int> ingest(const IngestOptions& o) {
  if (o.files.empty() && !o.shipped) {
    return fail(Fault::input,
                "nothing to ingest: name files, or give "
                "--shipped for the shipped measurements");
  }
  profiles::IngestOptions how;
  how.device = o.device;
  how.source = o.source;
  how.ranks = o.ranks;
  how.per_node = o.per_node;
  if (!o.format.empty()) {
    const auto format = profiles::parse_format(o.format);
    if (!format) {
      return fail(Fault::input,
                  fmt::format("--format {}: not a known format", o.format));
    }
    how.format = *format;
  }
  TRY(profiles::Database db, open_database(o.profiles));
  profiles::IngestReport sum;
  if (o.shipped) {
    TRY(const auto report, profiles::ingest_shipped(db));
    add_report(report, sum);
  }
  for (const std::string& file : o.files) {
    TRY(const auto report, profiles::ingest(db, file, how));
    add_report(report, sum);
  }
  if (o.json) {
    const Json out{{"inserted", sum.inserted},
                   {"unchanged", sum.unchanged},
                   {"rejected", sum.rejected},
                   {"rejections", sum.rejections},
                   {"profiles", db.path()}};
    say("{}\n", to_text(out));
    return 0;
  }
  for (const std::string& r : sum.rejections) {
    fmt::print(stderr, "rejected {}\n", r);
  }
  say("{}: {} inserted, {} unchanged, {} rejected\n", db.path(), sum.inserted,
      sum.unchanged, sum.rejected);
  return 0;
}

/// A database to read: it must be there.
Result<profiles::Database> open_existing(const std::string& given) {
  const std::filesystem::path path = given.empty()
                                         ? home_root() / "profiles.db"
                                         : std::filesystem::path(given);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return fail(
        Fault::input,
        fmt::format("no profile database {}; make it with: troupe "
                    "ingest --shipped{}{}",
                    path.string(), given.empty() ? "" : " --profiles ", given));
  }
  return profiles::open_or_create(path);
}

Result<int> list(const ProfilesOptions& o) {
  TRY(const profiles::Database db, open_existing(o.profiles));
  TRY(const Json sources, profiles::list_sources(db));
  if (o.json) {
    say("{}\n", to_text(sources));
    return 0;
  }
  say("{}\n", db.path());
  for (const Json& source : sources["sources"]) {
    say("{}\n", source.value("source", ""));
    const Json rows = source.value("rows", Json::object());
    for (const auto& [table, devices] : rows.items()) {
      for (const auto& [device, count] : devices.items()) {
        say("  {:<12} {:<16} {:>7} rows\n", table, device,
            count.get<std::int64_t>());
      }
    }
  }
  return 0;
}

Result<int> show(const ProfilesOptions& o) {
  TRY(const profiles::Database db, open_existing(o.profiles));
  if (o.json) {
    TRY(const Json rows, profiles::show(db, o.filter));
    say("{}\n", to_text(rows));
    return 0;
  }
  TRY(const std::string csv, profiles::export_csv(db, o.filter));
  say("{}", csv);
  return 0;
}

Result<int> export_rows(const ProfilesOptions& o) {
  TRY_DO(check_output(o.output));
  TRY(const profiles::Database db, open_existing(o.profiles));
  std::string text;
  if (o.json) {
    TRY(const Json rows, profiles::show(db, o.filter));
    text = to_text(rows) + "\n";
  } else {
    TRY(text, profiles::export_csv(db, o.filter));
  }
  if (o.output.empty()) {
    say("{}", text);
    return 0;
  }
  TRY_DO(write_file(o.output, text));
  return 0;
}

CLI::App* add_profiles_command(CLI::App& parent, const std::string& name,
                               const std::string& help,
                               const std::shared_ptr<ProfilesOptions>& o) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->add_option("--profiles", o->profiles, "profile database");
  command->add_option("--source", o->filter.source, "only this source");
  command->add_option("--device", o->filter.device, "only this device kind");
  command->add_option("--table", o->filter.table,
                      "operators, layers, stages, collectives or copies");
  command->add_flag("--json", o->json, "print one JSON object");
  return command;
}

}  // namespace

void add_ingest(Commands& commands) {
  auto o = std::make_shared<IngestOptions>();
  CLI::App* command =
      commands.add("ingest", "read measurements into the profile database");
  command->add_option("files", o->files,
                      "files, formats told apart by content");
  command->add_flag("--shipped", o->shipped, "the shipped measurements");
  command->add_option("--format", o->format, "the format, if not by content");
  command->add_option("--device", o->device,
                      "device kind, where the file does not say");
  command->add_option("--source", o->source, "name of the source");
  command
      ->add_option("--ranks", o->ranks,
                   "nccl-tests: all ranks, where they are not listed")
      ->check(CLI::Range(2, 1 << 20));
  command
      ->add_option("--per-node", o->per_node,
                   "nccl-tests: ranks of a node, where nodes are not listed "
                   "or share a name")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--profiles", o->profiles, "profile database");
  command->add_flag("--json", o->json, "print one JSON object");
  commands.run(command, [o] { return ingest(*o); });
}

void add_profiles(Commands& commands) {
  CLI::App* parent =
      commands.add("profiles", "list, show or export the profile database");
  parent->require_subcommand(1);
  auto o = std::make_shared<ProfilesOptions>();
  commands.run(add_profiles_command(*parent, "list", "sources and counts", o),
               [o] { return list(*o); });
  auto s = std::make_shared<ProfilesOptions>();
  commands.run(add_profiles_command(*parent, "show", "the rows", s),
               [s] { return show(*s); });
  auto e = std::make_shared<ProfilesOptions>();
  CLI::App* command = add_profiles_command(
      *parent, "export", "rows for ingest, as CSV or --json", e);
  command->add_option("-o,--output", e->output, "file (standard output)");
  commands.run(command, [e] { return export_rows(*e); });
}

}  // namespace troupe::cli
