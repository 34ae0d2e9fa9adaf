// Every SQL text of the run store. A migration, once released, is never
// edited: a change is another one at the end.
#pragma once

#include <array>
#include <string_view>

namespace troupe::results::sql {

/// PRAGMA application_id of a run store: "TRPR" as bytes.
inline constexpr int kApplication = 0x54525052;

/// Entry i brings a store from user_version i to i + 1. `body` is the JSON of
/// FORMAT.md without id and created; the other columns repeat what lists show.
inline constexpr std::array<std::string_view, 4> kMigrations{
    R"sql(
CREATE TABLE runs (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,
  created       TEXT    NOT NULL,
  performance   TEXT    NOT NULL,
  name          TEXT    NOT NULL,
  model         TEXT    NOT NULL,
  cluster       TEXT    NOT NULL,
  schedule      TEXT    NOT NULL,
  gpus          INTEGER NOT NULL,
  step_ps       INTEGER NOT NULL,
  tokens_per_s  REAL    NOT NULL,
  mfu           REAL    NOT NULL,
  out_of_memory INTEGER NOT NULL CHECK (out_of_memory IN (0, 1)),
  body          TEXT    NOT NULL
) STRICT;
)sql",
    R"sql(
CREATE TABLE run_inputs (
  run  INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
  role TEXT    NOT NULL,
  hash TEXT    NOT NULL,
  PRIMARY KEY (run, role)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_inputs_by_hash ON run_inputs (hash);
INSERT INTO run_inputs
  SELECT runs.number, input.key, input.value
  FROM runs, json_each(runs.body, '$.inputs') AS input;
)sql",
    // Where relative paths of the run's command begin; not known of old runs.
    R"sql(
ALTER TABLE runs ADD COLUMN folder TEXT NOT NULL DEFAULT '';
)sql",
    // Tasks and operators, as results/timeline.h packs them.
    R"sql(
CREATE TABLE timelines (
  run  INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
  body BLOB    NOT NULL
) STRICT;
)sql"};

inline constexpr const char* kHasTables = "SELECT count(*) FROM sqlite_schema";

inline constexpr const char* kAdd = R"sql(
INSERT INTO runs (created, performance, name, model, cluster, schedule, gpus,
                  step_ps, tokens_per_s, mfu, out_of_memory, body, folder)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
)sql";

inline constexpr const char* kAddInput =
    "INSERT INTO run_inputs (run, role, hash) VALUES (?, ?, ?)";

/// Empty texts select everything.
inline constexpr const char* kList = R"sql(
SELECT number, created, performance, name, model, cluster, schedule, gpus,
       step_ps, tokens_per_s, mfu, out_of_memory
FROM runs
WHERE (?1 = '' OR instr(lower(name), lower(?1))
               OR instr(lower(model), lower(?1))
               OR instr(lower(cluster), lower(?1)))
  AND (?2 = '' OR performance = ?2)
  AND (?3 = '' OR schedule = ?3
               OR number IN (SELECT run FROM run_inputs WHERE hash = ?3))
ORDER BY number DESC
LIMIT ?4
)sql";

inline constexpr const char* kGet =
    "SELECT created, body FROM runs WHERE number = ?";
inline constexpr const char* kFolder =
    "SELECT folder FROM runs WHERE number = ?";
inline constexpr const char* kAddTimeline =
    "INSERT INTO timelines (run, body) VALUES (?, ?)";
inline constexpr const char* kTimeline =
    "SELECT body FROM timelines WHERE run = ?";
inline constexpr const char* kLast = "SELECT max(number) FROM runs";
inline constexpr const char* kRemove = "DELETE FROM runs WHERE number = ?";

}  // namespace troupe::results::sql
