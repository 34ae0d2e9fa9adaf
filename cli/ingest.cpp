// troupe ingest: measurements into the profile database.
#include "profiles/ingest.h"

#include <fmt/format.h>

#include <memory>

#include "base/text.h"
#include "cli/command.h"
#include "cli/profile_database.h"
#include "cli/say.h"
#include "profiles/database.h"

namespace troupe::cli {
namespace {

struct IngestOptions {
  std::vector<std::string> files;
  std::string format, profiles, device, source;
  int ranks = 0, per_node = 0;
  bool shipped = false, json = false;
};

Result<profiles::IngestOptions> how_to_read(const IngestOptions& o) {
  profiles::IngestOptions how;
  how.device = o.device;
  how.source = o.source;
  how.ranks = o.ranks;
  how.per_node = o.per_node;
  if (o.format.empty()) return how;
  const auto format = profiles::parse_format(o.format);
  if (!format) {
    return fail(
        Fault::input,
        fmt::format("--format {}: not a known format{}; known: {}", o.format,
                    did_you_mean(o.format, profiles::format_names()),
                    join(profiles::format_names())));
  }
  how.format = *format;
  return how;
}

std::string summary(const profiles::IngestReport& report) {
  return fmt::format("{} inserted, {} unchanged, {} rejected{}{}",
                     report.inserted, report.unchanged, report.rejected,
                     report.note.empty() ? "" : "; ", report.note);
}

Json to_json(const profiles::IngestReport& report) {
  return {{"inserted", report.inserted},
          {"unchanged", report.unchanged},
          {"rejected", report.rejected},
          {"rejections", report.rejections}};
}

profiles::IngestReport sum_of(const std::vector<profiles::FileReport>& files) {
  profiles::IngestReport sum;
  for (const auto& [file, report, error] : files) {
    sum.inserted += report.inserted;
    sum.unchanged += report.unchanged;
    sum.rejected += report.rejected;
    sum.rejections.insert(sum.rejections.end(), report.rejections.begin(),
                          report.rejections.end());
  }
  return sum;
}

void print_json(const std::vector<profiles::FileReport>& files,
                const std::string& database) {
  Json out = to_json(sum_of(files));
  out["profiles"] = database;
  Json& list = out["files"] = Json::array();
  for (const profiles::FileReport& one : files) {
    Json entry = to_json(one.report);
    entry["file"] = one.file;
    entry["error"] = one.error ? Json(one.error->message) : Json(nullptr);
    entry["note"] = one.report.note;
    list.push_back(std::move(entry));
  }
  say("{}\n", to_text(out));
}

void print_table(const std::vector<profiles::FileReport>& files,
                 const std::string& database) {
  for (const profiles::FileReport& one : files) {
    if (one.error) {
      say("{}: failed\n", one.file);
    } else if (files.size() > 1 || !one.report.note.empty()) {
      say("{}: {}\n", one.file, summary(one.report));
    }
  }
  say("{}: {}\n", database, summary(sum_of(files)));
}

Result<int> ingest(const IngestOptions& o) {
  if (o.files.empty() && !o.shipped) {
    return fail(Fault::input,
                "nothing to ingest: name files, or give "
                "--shipped for the shipped measurements");
  }
  TRY(const profiles::IngestOptions how, how_to_read(o));
  TRY(profiles::Database db, profiles_to_write(o.profiles));
  std::vector<profiles::FileReport> files;
  if (o.shipped) {
    TRY(auto report, profiles::ingest_shipped(db));
    files.push_back({"--shipped", std::move(report), {}});
  }
  const std::vector<std::filesystem::path> paths(o.files.begin(),
                                                 o.files.end());
  TRY(auto read, profiles::ingest_files(db, paths, how));
  files.insert(files.end(), read.begin(), read.end());
  int code = 0;
  for (const profiles::FileReport& one : files) {
    if (one.failed()) code = 1;
    if (one.error) fmt::print(stderr, "troupe: {}\n", one.error->message);
    for (const std::string& r : one.report.rejections) {
      if (!o.json) fmt::print(stderr, "rejected {}\n", r);
    }
  }
  if (o.json) {
    print_json(files, db.path());
  } else {
    print_table(files, db.path());
  }
  return code;
}

}  // namespace

void add_ingest(Commands& commands) {
  auto o = std::make_shared<IngestOptions>();
  CLI::App* command =
      commands.add("ingest", "read measurements into the profile database");
  command->add_option("files", o->files,
                      "files, formats told apart by content");
  command->add_flag("--shipped", o->shipped, "the shipped measurements");
  command->add_option(
      "--format", o->format,
      "the format, if not by content: " + join(profiles::format_names()));
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

}  // namespace troupe::cli
