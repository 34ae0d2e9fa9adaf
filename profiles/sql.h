// All SQL of the profile database. Columns of the data tables stand in the
// order of `fields` (profiles/rows.h), after id and source_id.
#pragma once

#include <array>
#include <string_view>

namespace troupe::profiles::sql {

/// "TRPF": tells a profile database from any other SQLite file.
inline constexpr int kApplicationId = 0x54525046;

inline constexpr std::string_view kOpen = R"(
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA foreign_keys = ON;
)";

/// kMigrations[v] takes a database from version v to v + 1.
inline constexpr std::array<std::string_view, 4> kMigrations = {
    R"(
CREATE TABLE sources (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  file TEXT NOT NULL,
  file_hash TEXT NOT NULL,
  date TEXT NOT NULL,
  licence TEXT NOT NULL,
  libraries TEXT NOT NULL,
  citation TEXT NOT NULL,
  note TEXT NOT NULL
) STRICT;
CREATE TABLE devices (
  name TEXT PRIMARY KEY,
  architecture TEXT NOT NULL
) STRICT;
CREATE TABLE operators (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  op TEXT NOT NULL,
  dtype TEXT NOT NULL,
  dims TEXT NOT NULL,
  causal INTEGER NOT NULL CHECK (causal IN (0, 1)),
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0),
  UNIQUE (source_id, device, op, dtype, dims, causal, gated)
) STRICT;
CREATE INDEX operators_by_device ON operators (device, op);
CREATE TABLE layers (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  part TEXT NOT NULL,
  backward INTEGER NOT NULL CHECK (backward IN (0, 1)),
  hidden INTEGER NOT NULL,
  heads INTEGER NOT NULL,
  kv_heads INTEGER NOT NULL,
  head_dim INTEGER NOT NULL,
  ffn INTEGER NOT NULL,
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  vocab INTEGER NOT NULL,
  tp INTEGER NOT NULL CHECK (tp > 0),
  micro_batch INTEGER NOT NULL CHECK (micro_batch > 0),
  seq_len INTEGER NOT NULL CHECK (seq_len > 0),
  dtype TEXT NOT NULL,
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0)
) STRICT;
CREATE TABLE stages (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  model TEXT NOT NULL,
  hidden INTEGER NOT NULL,
  layers INTEGER NOT NULL,
  vocab INTEGER NOT NULL,
  heads INTEGER NOT NULL,
  kv_heads INTEGER NOT NULL,
  head_dim INTEGER NOT NULL,
  ffn INTEGER NOT NULL,
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  dtype TEXT NOT NULL,
  tp INTEGER NOT NULL CHECK (tp > 0),
  pp INTEGER NOT NULL CHECK (pp > 0),
  micro_batch INTEGER NOT NULL CHECK (micro_batch > 0),
  seq_len INTEGER NOT NULL CHECK (seq_len >= 0),
  time_s REAL NOT NULL CHECK (time_s >= 0),
  a REAL NOT NULL CHECK (a >= 0),
  b REAL NOT NULL CHECK (b >= 0),
  c REAL NOT NULL CHECK (c >= 0),
  min_seq INTEGER NOT NULL,
  max_seq INTEGER NOT NULL,
  CHECK ((seq_len > 0 AND time_s > 0) OR (seq_len = 0 AND max_seq > 0)),
  UNIQUE (source_id, device, model, hidden, layers, vocab, dtype, tp, pp,
          micro_batch, seq_len, min_seq)
) STRICT;
CREATE INDEX stages_by_device ON stages (device);
CREATE TABLE collectives (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  collective TEXT NOT NULL,
  ranks INTEGER NOT NULL CHECK (ranks > 1),
  per_node INTEGER NOT NULL CHECK (per_node > 0),
  bytes INTEGER NOT NULL CHECK (bytes > 0),
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0),
  UNIQUE (source_id, device, collective, ranks, per_node, bytes)
) STRICT;
CREATE INDEX collectives_by_device ON collectives (device);
)",
    // Version 2: layers know cross attention and scaled micro-batches, and
    // are unique.
    R"(
ALTER TABLE layers RENAME TO layers_1;
CREATE TABLE layers (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  part TEXT NOT NULL,
  backward INTEGER NOT NULL CHECK (backward IN (0, 1)),
  hidden INTEGER NOT NULL,
  heads INTEGER NOT NULL,
  kv_heads INTEGER NOT NULL,
  head_dim INTEGER NOT NULL,
  ffn INTEGER NOT NULL,
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  vocab INTEGER NOT NULL,
  tp INTEGER NOT NULL CHECK (tp > 0),
  micro_batch INTEGER NOT NULL CHECK (micro_batch > 0),
  seq_len INTEGER NOT NULL CHECK (seq_len > 0),
  dtype TEXT NOT NULL,
  cross INTEGER NOT NULL CHECK (cross IN (0, 1)),
  scaled INTEGER NOT NULL CHECK (scaled IN (0, 1)),
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0),
  UNIQUE (source_id, device, part, backward, hidden, heads, kv_heads, head_dim,
          ffn, gated, vocab, tp, micro_batch, seq_len, dtype, cross)
) STRICT;
INSERT OR IGNORE INTO layers
  SELECT id, source_id, device, part, backward, hidden, heads, kv_heads,
         head_dim, ffn, gated, vocab, tp, micro_batch, seq_len, dtype, 0, 0,
         time_s, spread, samples FROM layers_1;
DROP TABLE layers_1;
CREATE INDEX layers_by_device ON layers (device);
)",
    // Version 3: copies between memories.
    R"(
CREATE TABLE copies (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  route TEXT NOT NULL,
  bytes INTEGER NOT NULL CHECK (bytes > 0),
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0),
  UNIQUE (source_id, device, route, bytes)
) STRICT;
CREATE INDEX copies_by_device ON copies (device);
)",
    // Version 4: attention and layers may have a window.
    R"(
ALTER TABLE operators RENAME TO operators_3;
DROP INDEX operators_by_device;
CREATE TABLE operators (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  op TEXT NOT NULL,
  dtype TEXT NOT NULL,
  dims TEXT NOT NULL,
  causal INTEGER NOT NULL CHECK (causal IN (0, 1)),
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  window INTEGER NOT NULL CHECK (window >= 0),
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0),
  UNIQUE (source_id, device, op, dtype, dims, causal, gated, window)
) STRICT;
INSERT INTO operators
  SELECT id, source_id, device, op, dtype, dims, causal, gated, 0, time_s,
         spread, samples FROM operators_3;
DROP TABLE operators_3;
CREATE INDEX operators_by_device ON operators (device, op);
ALTER TABLE layers RENAME TO layers_3;
DROP INDEX layers_by_device;
CREATE TABLE layers (
  id INTEGER PRIMARY KEY,
  source_id INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  device TEXT NOT NULL REFERENCES devices(name),
  part TEXT NOT NULL,
  backward INTEGER NOT NULL CHECK (backward IN (0, 1)),
  hidden INTEGER NOT NULL,
  heads INTEGER NOT NULL,
  kv_heads INTEGER NOT NULL,
  head_dim INTEGER NOT NULL,
  ffn INTEGER NOT NULL,
  gated INTEGER NOT NULL CHECK (gated IN (0, 1)),
  vocab INTEGER NOT NULL,
  tp INTEGER NOT NULL CHECK (tp > 0),
  micro_batch INTEGER NOT NULL CHECK (micro_batch > 0),
  seq_len INTEGER NOT NULL CHECK (seq_len > 0),
  dtype TEXT NOT NULL,
  cross INTEGER NOT NULL CHECK (cross IN (0, 1)),
  window INTEGER NOT NULL CHECK (window >= 0),
  scaled INTEGER NOT NULL CHECK (scaled IN (0, 1)),
  time_s REAL NOT NULL CHECK (time_s > 0),
  spread REAL NOT NULL CHECK (spread >= 0),
  samples INTEGER NOT NULL CHECK (samples >= 0),
  UNIQUE (source_id, device, part, backward, hidden, heads, kv_heads, head_dim,
          ffn, gated, vocab, tp, micro_batch, seq_len, dtype, cross, window)
) STRICT;
INSERT INTO layers
  SELECT id, source_id, device, part, backward, hidden, heads, kv_heads,
         head_dim, ffn, gated, vocab, tp, micro_batch, seq_len, dtype, cross, 0,
         scaled, time_s, spread, samples FROM layers_3;
DROP TABLE layers_3;
CREATE INDEX layers_by_device ON layers (device);
)"};

inline constexpr int kVersion = static_cast<int>(kMigrations.size());

inline constexpr std::string_view kAddSource = R"(
INSERT INTO sources (name, kind, file, file_hash, date, licence, libraries,
                     citation, note) VALUES (?,?,?,?,?,?,?,?,?)
ON CONFLICT (name) DO NOTHING)";
inline constexpr std::string_view kSourceId =
    "SELECT id FROM sources WHERE name = ?";
inline constexpr std::string_view kRefreshSource =
    "UPDATE sources SET file = ?1, file_hash = ?2, date = ?3, "
    "note = coalesce(nullif(?4, ''), note) WHERE id = ?5";
inline constexpr std::string_view kFilesOfSource =
    "SELECT file, file_hash, date FROM sources WHERE id = ?";
inline constexpr std::string_view kDropEmptySource = R"(
DELETE FROM sources WHERE id = ?1
  AND NOT EXISTS (SELECT 1 FROM operators WHERE source_id = ?1)
  AND NOT EXISTS (SELECT 1 FROM layers WHERE source_id = ?1)
  AND NOT EXISTS (SELECT 1 FROM stages WHERE source_id = ?1)
  AND NOT EXISTS (SELECT 1 FROM collectives WHERE source_id = ?1)
  AND NOT EXISTS (SELECT 1 FROM copies WHERE source_id = ?1))";
inline constexpr std::string_view kAddDevice =
    "INSERT INTO devices VALUES (?,?) ON CONFLICT (name) DO NOTHING";
inline constexpr std::string_view kDevices =
    "SELECT name, architecture FROM devices ORDER BY name";
inline constexpr std::string_view kSources = R"(
SELECT id, name, kind, file, file_hash, date, licence, libraries, citation,
       note FROM sources ORDER BY date DESC, name)";
/// Rows per source, table and device.
inline constexpr std::string_view kCounts = R"(
SELECT source_id, 'operators' AS what, device, count(*) FROM operators
  GROUP BY source_id, device
UNION ALL SELECT source_id, 'layers', device, count(*) FROM layers
  GROUP BY source_id, device
UNION ALL SELECT source_id, 'stages', device, count(*) FROM stages
  GROUP BY source_id, device
UNION ALL SELECT source_id, 'collectives', device, count(*) FROM collectives
  GROUP BY source_id, device
UNION ALL SELECT source_id, 'copies', device, count(*) FROM copies
  GROUP BY source_id, device
ORDER BY 1, 2, 3)";

/// Endings of a `select`: all rows, of a device, of a source, of both.
inline constexpr std::array<std::string_view, 4> kWhere = {
    " ORDER BY id", " WHERE device = ?1 ORDER BY id",
    R"( WHERE source_id = (SELECT id FROM sources WHERE name = ?2)
        ORDER BY id)",
    R"( WHERE device = ?1
        AND source_id = (SELECT id FROM sources WHERE name = ?2) ORDER BY id)"};

/// The statements of one data table. `select` gives the id of the source
/// first; one of kWhere ends it.
struct Table {
  std::string_view insert;
  std::string_view same;  ///< a stored row equal in every column
  std::string_view select;
  std::string_view measured;  ///< devices that have rows
};

/// Rows per device and operator, from the index alone.
inline constexpr std::string_view kOperatorCounts =
    "SELECT device, op, count(*) FROM operators GROUP BY device, op";
inline constexpr std::string_view kWhereSourceAndDevice =
    " WHERE source_id = ?1 AND device = ?2 ORDER BY id";
inline constexpr std::string_view kWhereDeviceAndOp =
    " WHERE device = ?1 AND op = ?2 ORDER BY id";

inline constexpr Table kOperators = {
    .insert = R"(
INSERT INTO operators (source_id, device, op, dtype, dims, causal, gated,
  window, time_s, spread, samples) VALUES (?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT DO NOTHING)",
    .same = R"(
SELECT 1 FROM operators WHERE source_id = ? AND device = ? AND op = ?
  AND dtype = ? AND dims = ? AND causal = ? AND gated = ? AND window = ?
  AND time_s = ? AND spread = ? AND samples = ?)",
    .select = R"(
SELECT source_id, device, op, dtype, dims, causal, gated, window, time_s,
  spread, samples FROM operators)",
    .measured = "SELECT DISTINCT device FROM operators ORDER BY device"};

inline constexpr Table kLayers = {
    .insert = R"(
INSERT INTO layers (source_id, device, part, backward, hidden, heads, kv_heads,
  head_dim, ffn, gated, vocab, tp, micro_batch, seq_len, dtype, cross, window,
  scaled, time_s, spread, samples)
  VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT DO NOTHING)",
    .same = R"(
SELECT 1 FROM layers WHERE source_id = ? AND device = ? AND part = ?
  AND backward = ? AND hidden = ? AND heads = ? AND kv_heads = ?
  AND head_dim = ? AND ffn = ? AND gated = ? AND vocab = ? AND tp = ?
  AND micro_batch = ? AND seq_len = ? AND dtype = ? AND cross = ?
  AND window = ? AND scaled = ? AND time_s = ? AND spread = ? AND samples = ?)",
    .select = R"(
SELECT source_id, device, part, backward, hidden, heads, kv_heads, head_dim,
  ffn, gated, vocab, tp, micro_batch, seq_len, dtype, cross, window, scaled,
  time_s, spread, samples FROM layers)",
    .measured = "SELECT DISTINCT device FROM layers ORDER BY device"};

inline constexpr Table kStages = {
    .insert = R"(
INSERT INTO stages (source_id, device, model, hidden, layers, vocab, heads,
  kv_heads, head_dim, ffn, gated, dtype, tp, pp, micro_batch, seq_len, time_s,
  a, b, c, min_seq, max_seq) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,
  ?,?) ON CONFLICT DO NOTHING)",
    .same = R"(
SELECT 1 FROM stages WHERE source_id = ? AND device = ? AND model = ?
  AND hidden = ? AND layers = ? AND vocab = ? AND heads = ? AND kv_heads = ?
  AND head_dim = ? AND ffn = ? AND gated = ? AND dtype = ? AND tp = ?
  AND pp = ? AND micro_batch = ? AND seq_len = ? AND time_s = ? AND a = ?
  AND b = ? AND c = ? AND min_seq = ? AND max_seq = ?)",
    .select = R"(
SELECT source_id, device, model, hidden, layers, vocab, heads, kv_heads,
  head_dim, ffn, gated, dtype, tp, pp, micro_batch, seq_len, time_s, a, b, c,
  min_seq, max_seq FROM stages)",
    .measured = "SELECT DISTINCT device FROM stages ORDER BY device"};

inline constexpr Table kCollectives = {
    .insert = R"(
INSERT INTO collectives (source_id, device, collective, ranks, per_node, bytes,
  time_s, spread, samples) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING)",
    .same = R"(
SELECT 1 FROM collectives WHERE source_id = ? AND device = ?
  AND collective = ? AND ranks = ? AND per_node = ? AND bytes = ?
  AND time_s = ? AND spread = ? AND samples = ?)",
    .select = R"(
SELECT source_id, device, collective, ranks, per_node, bytes, time_s, spread,
  samples FROM collectives)",
    .measured = "SELECT DISTINCT device FROM collectives ORDER BY device"};

inline constexpr Table kCopies = {
    .insert = R"(
INSERT INTO copies (source_id, device, route, bytes, time_s, spread, samples)
  VALUES (?,?,?,?,?,?,?) ON CONFLICT DO NOTHING)",
    .same = R"(
SELECT 1 FROM copies WHERE source_id = ? AND device = ? AND route = ?
  AND bytes = ? AND time_s = ? AND spread = ? AND samples = ?)",
    .select = R"(
SELECT source_id, device, route, bytes, time_s, spread, samples FROM copies)",
    .measured = "SELECT DISTINCT device FROM copies ORDER BY device"};

}  // namespace troupe::profiles::sql
