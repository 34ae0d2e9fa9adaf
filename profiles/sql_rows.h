// Rows into statements and back. For the file that talks to SQLite.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <concepts>
#include <string>
#include <string_view>

#include "profiles/rows.h"
#include "profiles/sql.h"

namespace troupe::profiles {

template <typename Row>
constexpr const sql::Table& table_of() {
  if constexpr (std::same_as<Row, OperatorRow>) return sql::kOperators;
  if constexpr (std::same_as<Row, LayerRow>) return sql::kLayers;
  if constexpr (std::same_as<Row, StageRow>) return sql::kStages;
  if constexpr (std::same_as<Row, CollectiveRow>) return sql::kCollectives;
  if constexpr (std::same_as<Row, CopyRow>) return sql::kCopies;
}

inline std::string text_of(std::string_view sql) { return std::string(sql); }

inline void bind_value(SQLite::Statement& s, int i, const std::string& v) {
  s.bind(i, v);
}
inline void bind_value(SQLite::Statement& s, int i, int v) { s.bind(i, v); }
inline void bind_value(SQLite::Statement& s, int i, bool v) {
  s.bind(i, v ? 1 : 0);
}
inline void bind_value(SQLite::Statement& s, int i, std::int64_t v) {
  s.bind(i, v);
}
inline void bind_value(SQLite::Statement& s, int i, double v) { s.bind(i, v); }
template <typename T>
void bind_value(SQLite::Statement& s, int i, const T& v) {
  s.bind(i, to_text(v));
}

inline bool read_value(const SQLite::Column& c, std::string& v) {
  v.assign(c.getText(), static_cast<std::size_t>(c.getBytes()));
  return true;
}
inline bool read_value(const SQLite::Column& c, int& v) {
  v = c.getInt();
  return true;
}
inline bool read_value(const SQLite::Column& c, bool& v) {
  v = c.getInt() != 0;
  return true;
}
inline bool read_value(const SQLite::Column& c, std::int64_t& v) {
  v = c.getInt64();
  return true;
}
inline bool read_value(const SQLite::Column& c, double& v) {
  v = c.getDouble();
  return true;
}
template <typename T>
bool read_value(const SQLite::Column& c, T& v) {
  const char* text = c.getText();
  return from_text(std::string_view(text), v);
}

template <typename Row>
void bind_row(SQLite::Statement& s, std::int64_t source, const Row& row) {
  s.reset();
  s.bind(1, source);
  int i = 2;
  fields(row, [&](std::string_view, const auto& value, Need) {
    bind_value(s, i++, value);
  });
}

}  // namespace troupe::profiles
