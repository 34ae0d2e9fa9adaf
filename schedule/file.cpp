#include "schedule/file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/text.h"
#include "schedule/check.h"
#include "schedule/fields.h"

namespace troupe::schedule {
namespace {

constexpr const char* kFormat = "troupe.schedule/2";

/// Appends every field's bytes, little-endian on every machine we run on.
struct Hasher {
  static constexpr bool kReads = false;
  std::string bytes;

  template <typename T>
  void field(const char*, const T& value) {
    put(value);
  }
  template <typename T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
  void put(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put(const std::string& s) {
    put(s.size());
    bytes += s;
  }
  template <typename T>
  void put(const Id<T>& id) {
    put(id.v);
  }
  template <typename U, typename R>
  void put(const Quantity<U, R>& q) {
    put(q.v);
  }
  template <typename T, std::size_t N>
  void put(const std::array<T, N>& list) {
    for (const T& x : list) put(x);
  }
  template <typename T>
  void put(const std::vector<T>& list) {
    put(list.size());
    for (const T& x : list) put(x);
  }
  template <typename T>
    requires std::is_class_v<T>
  void put(const T& part) {
    fields(*this, part);
  }
};

/// Writes objects, or rows for the parts that there are many of.
struct Writer {
  static constexpr bool kReads = false;
  Json out;
  bool row = false;

  template <typename T>
  void field(const char* name, const T& value) {
    if (row) {
      out.push_back(make(value));
    } else {
      out[name] = make(value);
    }
  }
  template <typename T>
    requires std::is_arithmetic_v<T>
  static Json make(T value) {
    return value;
  }
  template <typename T>
    requires std::is_enum_v<T>
  static Json make(T value) {
    return static_cast<int>(value);
  }
  static Json make(const std::string& s) { return s; }
  template <typename T>
  static Json make(const Id<T>& id) {
    return id.v;
  }
  template <typename U, typename R>
  static Json make(const Quantity<U, R>& q) {
    return q.v;
  }
  template <typename T, std::size_t N>
  static Json make(const std::array<T, N>& list) {
    return Json(list);
  }
  template <typename T>
  static Json make(const std::vector<T>& list) {
    Json array = Json::array();
    for (const T& x : list) array.push_back(make(x));
    return array;
  }
  template <typename T>
    requires std::is_class_v<T>
  static Json make(const T& part) {
    Writer w;
    w.row = kAsRow<T>;
    w.out = w.row ? Json::array() : Json::object();
    fields(w, part);
    return std::move(w.out);
  }
};

/// The names of the fields of a part.
struct Names {
  static constexpr bool kReads = true;
  std::vector<std::string> all;

  template <typename T>
  void field(const char* name, T&) {
    all.emplace_back(name);
  }
};

/// Reads what Writer wrote; keeps the first problem and where it is.
struct Reader {
  static constexpr bool kReads = true;
  const Json* in;
  std::string at;
  std::string* problem;
  bool row = false;
  std::size_t next = 0;   ///< cells of the row that are read
  std::size_t found = 0;  ///< keys of the object that are known

  void wrong(const std::string& where, const char* expected) {
    if (problem->empty()) {
      *problem = fmt::format("{}: expected {}", where, expected);
    }
  }
  template <typename T>
  void field(const char* name, T& value) {
    if (!problem->empty()) return;
    const std::string where = fmt::format("{}/{}", at, name);
    if (row) {
      if (!in->is_array() || next >= in->size()) {
        return wrong(where, "a longer row");
      }
      return take((*in)[next++], value, where);
    }
    if (!in->is_object()) return wrong(at, "an object");
    const auto it = in->find(name);
    if (it != in->end()) {
      ++found;
      return take(*it, value, where);
    }
    const bool may_lack = std::is_same_v<T, kernels::OpShape> ||
                          std::is_same_v<T, clusters::Collective> ||
                          std::is_same_v<T, Scope> || std::is_same_v<T, Bytes>;
    if (!may_lack) wrong(where, "a value; the key is missing");
  }
  template <typename T>
    requires std::is_integral_v<T>
  void take(const Json& j, T& value, const std::string& where) {
    if constexpr (std::is_same_v<T, bool>) {
      if (!j.is_boolean()) return wrong(where, "true or false");
      value = j.get<bool>();
    } else {
      const auto number = whole_number(j);
      if (!number || !std::in_range<T>(*number)) {
        return wrong(where, "a whole number in range");
      }
      value = static_cast<T>(*number);
    }
  }
  void take(const Json& j, double& value, const std::string& where) {
    if (!j.is_number()) return wrong(where, "a number");
    value = j.get<double>();
  }
  template <typename T>
    requires std::is_enum_v<T>
  void take(const Json& j, T& value, const std::string& where) {
    std::uint8_t number = 0;
    take(j, number, where);
    if (number > most<T>()) return wrong(where, "a known kind");
    value = static_cast<T>(number);
  }
  template <typename T>
  static constexpr int most() {
    if constexpr (std::is_same_v<T, Stream>) return kStreams - 1;
    if constexpr (std::is_same_v<T, Role>) return kRoles - 1;
    if constexpr (std::is_same_v<T, Action>) return kActions - 1;
    if constexpr (std::is_same_v<T, kernels::Pointwise>) return 3;
    if constexpr (std::is_same_v<T, Scope>) return kScopes - 1;
    if constexpr (std::is_same_v<T, TaskKind>) return 8;
    if constexpr (std::is_same_v<T, kernels::DType>) return 7;
    if constexpr (std::is_same_v<T, kernels::OpKind>) {
      return kernels::kOpKinds - 1;
    }
    if constexpr (std::is_same_v<T, kernels::AttentionKernel>) {
      return kernels::kAttentionKernels - 1;
    }
    if constexpr (std::is_same_v<T, clusters::Collective>) return 6;
    if constexpr (std::is_same_v<T, profiles::Part>) return 2;
  }
  void take(const Json& j, std::string& value, const std::string& where) {
    if (!j.is_string()) return wrong(where, "a text");
    value = j.get<std::string>();
  }
  template <typename T>
  void take(const Json& j, Id<T>& id, const std::string& where) {
    take(j, id.v, where);
  }
  template <typename U, typename R>
  void take(const Json& j, Quantity<U, R>& q, const std::string& where) {
    take(j, q.v, where);
  }
  template <typename T, std::size_t N>
  void take(const Json& j, std::array<T, N>& list, const std::string& where) {
    if (!j.is_array() || j.size() != N) return wrong(where, "a full list");
    for (std::size_t i = 0; i < N; ++i) take(j[i], list[i], where);
  }
  template <typename T>
  void take(const Json& j, std::vector<T>& list, const std::string& where) {
    if (!j.is_array()) return wrong(where, "a list");
    list.resize(j.size());
    for (std::size_t i = 0; i < list.size() && problem->empty(); ++i) {
      take(j[i], list[i], fmt::format("{}/{}", where, i));
    }
  }
  template <typename T>
    requires std::is_class_v<T>
  void take(const Json& j, T& part, const std::string& where) {
    Reader r{&j, where, problem, kAsRow<T>};
    fields(r, part);
    r.finish(part, {});
  }
  /// Reports what no field asked for: the hash does not cover it.
  template <typename T>
  void finish(T& part, std::vector<std::string> also) {
    if (!problem->empty()) return;
    if (row && next < in->size()) return wrong(at, "a shorter row");
    if (row || in->size() <= found + also.size()) return;
    Names names{std::move(also)};
    fields(names, part);
    for (const auto& [key, value] : in->items()) {
      const auto& all = names.all;
      if (std::find(all.begin(), all.end(), key) != all.end()) continue;
      *problem = fmt::format("{}/{}: unknown key{}; known here: {}", at,
                             excerpt(key), did_you_mean(key, all), join(all));
      return;
    }
  }
};

}  // namespace

std::string content_hash(const Schedule& schedule) {
  Hasher hasher;
  hasher.bytes.reserve(64 * schedule.tasks.size());
  hasher.put(kFormatVersion);
  fields(hasher, schedule);
  return troupe::content_hash(hasher.bytes);
}

Json to_json(const Schedule& schedule) {
  Json out = Writer::make(schedule);
  out["format"] = kFormat;
  out["hash"] = content_hash(schedule);
  return out;
}

Result<Schedule> schedule_from_json(const Json& json, const std::string& name) {
  if (!json.is_object() || !json.contains("format") ||
      json["format"] != kFormat) {
    return fail(Fault::input,
                fmt::format("{}: /format: not a schedule of this version; "
                            "expected \"{}\"",
                            name, kFormat));
  }
  Schedule schedule;
  std::string problem;
  Reader reader{&json, fmt::format("{}: ", name), &problem};
  fields(reader, schedule);
  reader.finish(schedule, {"format", "hash"});
  if (!problem.empty()) return fail(Fault::input, problem);
  const std::string hash = content_hash(schedule);
  if (!json.contains("hash") || json["hash"] != hash) {
    return fail(Fault::input,
                fmt::format("{}: /hash: the content has hash {}; the file was "
                            "changed or cut after it was written",
                            name, hash));
  }
  const Findings broken = check_structure(schedule);
  if (!broken.ok()) return fail(broken.to_error());
  return schedule;
}

Result<Schedule> read_schedule(const std::filesystem::path& path) {
  TRY(const std::string text, read_file(path, Bytes{std::int64_t{4} << 30}));
  TRY(const Json json, parse_json(text, path.string()));
  return schedule_from_json(json, path.string());
}

Result<void> write_schedule(const std::filesystem::path& path,
                            const Schedule& schedule) {
  return write_file(path, to_json(schedule).dump() + "\n");
}

}  // namespace troupe::schedule
