// troupe profiles: what the profile database holds.
#include <fmt/format.h>

#include <memory>

#include "base/file.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/profile_database.h"
#include "cli/say.h"
#include "profiles/database.h"
#include "profiles/export.h"

namespace troupe::cli {
namespace {

struct ProfilesOptions {
  std::string profiles, output;
  profiles::Filter filter;
  bool json = false;
};

Result<int> list(const ProfilesOptions& o) {
  TRY(const profiles::Database db, existing_profiles(o.profiles));
  TRY(const Json sources, profiles::list_sources(db, o.filter));
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
  TRY(const profiles::Database db, existing_profiles(o.profiles));
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
  TRY(const profiles::Database db, existing_profiles(o.profiles));
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
