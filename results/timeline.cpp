#include "results/timeline.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/text.h"
#include "results/text.h"

namespace troupe::results {
namespace {

constexpr std::size_t kMostRows = 24;
constexpr std::size_t kMostLongest = 10;
constexpr std::size_t kMostBytes = std::size_t{1} << 32;

struct Pair {
  const Event* a = nullptr;
  const Event* b = nullptr;
  std::int64_t longer() const {
    return (b->end - b->start).v - (a->end - a->start).v;
  }
  bool equal() const { return a->start == b->start && a->end == b->end; }
};

struct Joined {
  std::vector<Pair> both;  ///< by key
  std::size_t only_a = 0, only_b = 0;
};

std::vector<const Event*> sorted(const Timeline& timeline) {
  std::vector<const Event*> out;
  for (const Event& e : timeline.events) out.push_back(&e);
  std::ranges::sort(out, {}, [](const Event* e) { return e->key; });
  return out;
}

Joined join(const Timeline& a, const Timeline& b) {
  const auto x = sorted(a);
  const auto y = sorted(b);
  Joined out;
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < x.size() && j < y.size()) {
    if (x[i]->key == y[j]->key) {
      out.both.push_back({x[i++], y[j++]});
    } else if (x[i]->key < y[j]->key) {
      ++out.only_a;
      ++i;
    } else {
      ++out.only_b;
      ++j;
    }
  }
  out.only_a += x.size() - i;
  out.only_b += y.size() - j;
  return out;
}

double seconds_at(std::int64_t picoseconds) {
  return to_seconds(Time{picoseconds});
}

Json event_json(const Pair& pair) {
  const Event& e = *pair.a;
  Json out{{"name", valid_utf8(e.name)},
           {"part", e.key.part},
           {"task", e.key.task},
           {"micro_batch", e.micro_batch}};
  if (e.key.device >= 0) {
    out["device"] = e.key.device;
    out["layer"] = e.key.layer;
    out["index"] = e.key.index;
  }
  out["start_s"] = {{"a", to_seconds(e.start)},
                    {"b", to_seconds(pair.b->start)}};
  out["duration_s"] = {{"a", to_seconds(e.end - e.start)},
                       {"b", to_seconds(pair.b->end - pair.b->start)},
                       {"difference", seconds_at(pair.longer())}};
  return out;
}

struct Row {
  std::int64_t count = 0, unequal = 0, a = 0, b = 0, largest = 0;
};

Json rows_json(const Joined& joined) {
  std::map<std::string, Row> rows;
  for (const Pair& pair : joined.both) {
    Row& row = rows[pair.a->name];
    ++row.count;
    row.a += (pair.a->end - pair.a->start).v;
    row.b += (pair.b->end - pair.b->start).v;
    const std::int64_t longer = pair.longer();
    if (longer != 0) ++row.unequal;
    if (std::abs(longer) > std::abs(row.largest)) row.largest = longer;
  }
  std::vector<std::pair<std::string, Row>> list(rows.begin(), rows.end());
  std::ranges::stable_sort(list, std::greater<>{}, [](const auto& r) {
    return std::max(r.second.a, r.second.b);
  });
  Json out = Json::array();
  for (const auto& [name, row] : list) {
    out.push_back({{"name", valid_utf8(name)},
                   {"count", row.count},
                   {"unequal", row.unequal},
                   {"a_s", seconds_at(row.a)},
                   {"b_s", seconds_at(row.b)},
                   {"largest_difference_s", seconds_at(row.largest)}});
    out.back()["ratio"] =
        row.a == 0
            ? Json()
            : Json(static_cast<double>(row.b) / static_cast<double>(row.a));
  }
  return out;
}

/// The numbers of all events, column by column, and their names once.
Json columns_of(const Timeline& timeline) {
  std::map<std::string, std::int64_t> known;
  Json names = Json::array();
  std::vector<std::vector<std::int64_t>> columns(10);
  Time before;
  for (const Event& e : timeline.events) {
    const auto [it, fresh] =
        known.try_emplace(e.name, static_cast<std::int64_t>(known.size()));
    if (fresh) names.push_back(e.name);
    // Starts as differences compress better.
    const std::int64_t row[] = {
        e.key.part,          e.key.device,  e.key.task, e.key.layer,
        e.key.index,         e.micro_batch, it->second, (e.start - before).v,
        (e.end - e.start).v, e.stream};
    before = e.start;
    for (std::size_t c = 0; c < columns.size(); ++c)
      columns[c].push_back(row[c]);
  }
  return {{"version", 1},
          {"cut", timeline.cut},
          {"names", std::move(names)},
          {"columns", columns}};
}

Timeline timeline_of(const Json& json) {
  const auto names = json.at("names").get<std::vector<std::string>>();
  const auto columns =
      json.at("columns").get<std::vector<std::vector<std::int64_t>>>();
  Timeline out;
  out.cut = json.at("cut");
  Time at;
  const auto whole = [&](std::size_t column, std::size_t i) {
    return static_cast<std::int32_t>(columns.at(column).at(i));
  };
  for (std::size_t i = 0; i < columns.at(0).size(); ++i) {
    at += Time{columns.at(7).at(i)};
    out.events.push_back(
        {{whole(0, i), whole(1, i), whole(2, i), whole(3, i), whole(4, i)},
         whole(5, i),
         names.at(static_cast<std::size_t>(columns.at(6).at(i))),
         at,
         at + Time{columns.at(8).at(i)},
         whole(9, i)});
  }
  return out;
}

}  // namespace

std::string packed(const Timeline& timeline) {
  std::string plain;
  Json::to_msgpack(columns_of(timeline), plain);
  uLongf size = compressBound(plain.size());
  std::string out(8 + size, '\0');
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<char>((plain.size() >> (8 * i)) & 0xffU);
  }
  const int code =
      compress2(reinterpret_cast<Bytef*>(out.data() + 8), &size,
                reinterpret_cast<const Bytef*>(plain.data()), plain.size(), 6);
  check(code == Z_OK, "a buffer of compressBound is enough");
  out.resize(8 + size);
  return out;
}

Result<Timeline> unpacked(const std::string& bytes) {
  const auto bad = [] {
    return fail(Fault::io, "a kept timeline is damaged; remove its run");
  };
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8 && i < bytes.size(); ++i) {
    length |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]))
              << (8 * i);
  }
  // Deflate makes nothing smaller than about a thousandth.
  if (bytes.size() < 8 || length > kMostBytes || length / 1100 > bytes.size()) {
    return bad();
  }
  std::string plain(length, '\0');
  uLongf size = length;
  if (uncompress(reinterpret_cast<Bytef*>(plain.data()), &size,
                 reinterpret_cast<const Bytef*>(bytes.data() + 8),
                 bytes.size() - 8) != Z_OK ||
      size != length) {
    return bad();
  }
  try {
    return timeline_of(Json::from_msgpack(plain));
  } catch (const std::exception&) {
    return bad();
  }
}

Json compare(const Timeline& a, const Timeline& b) {
  const Joined joined = join(a, b);
  std::vector<const Pair*> unequal;
  const Pair* first = nullptr;
  for (const Pair& pair : joined.both) {
    if (pair.equal()) continue;
    unequal.push_back(&pair);
    // An operator says more than the task that it is of.
    const auto when = [](const Pair& p) {
      return std::pair(std::min(p.a->start, p.b->start), -p.a->key.device);
    };
    if (first == nullptr || when(pair) < when(*first)) first = &pair;
  }
  Json out{{"events",
            {{"both", joined.both.size()},
             {"equal", joined.both.size() - unequal.size()},
             {"only_a", joined.only_a},
             {"only_b", joined.only_b}}},
           {"operators", rows_json(joined)},
           {"first", first == nullptr ? Json() : event_json(*first)},
           {"longest", Json::array()}};
  std::ranges::stable_sort(unequal, std::greater<>{}, [](const Pair* p) {
    return std::pair(std::abs(p->longer()), p->a->key.device);
  });
  for (std::size_t i = 0; i < std::min(unequal.size(), kMostLongest); ++i) {
    if (unequal[i]->longer() == 0) break;
    out["longest"].push_back(event_json(*unequal[i]));
  }
  if (a.cut || b.cut) out["cut"] = true;
  return out;
}

namespace {

std::string event_text(const Json& e) {
  std::string out = fmt::format("{}, part {}", e["name"].get<std::string>(),
                                e["part"].get<int>());
  if (e["micro_batch"] != -1) {
    out += fmt::format(", micro-batch {}", e["micro_batch"].get<int>());
  }
  if (e.contains("device")) {
    out += fmt::format(", device {}, layer {}", e["device"].get<int>(),
                       e["layer"].get<int>());
  }
  const Json& d = e["duration_s"];
  const Json& s = e["start_s"];
  return out + fmt::format(": starts {} and {}, takes {} and {}\n",
                           human(seconds(s["a"].get<double>())),
                           human(seconds(s["b"].get<double>())),
                           human(seconds(d["a"].get<double>())),
                           human(seconds(d["b"].get<double>())));
}

}  // namespace

std::string timeline_text(const Json& c) {
  const Json& n = c["events"];
  std::string out = fmt::format(
      "\nTasks and operators: {} in both, {} equal to the picosecond; {} only "
      "in a, {} only in b\n",
      thousands(n["both"].get<std::int64_t>()),
      thousands(n["equal"].get<std::int64_t>()),
      thousands(n["only_a"].get<std::int64_t>()),
      thousands(n["only_b"].get<std::int64_t>()));
  if (c["first"].is_null()) return out;
  out += "  first difference: " + event_text(c["first"]);
  out += "  " + left("", 30) + right("count", 9) + right("a", 12) +
         right("b", 12) + right("b / a", 9) + right("largest", 12) + "\n";
  std::size_t shown = 0;
  for (const Json& row : c["operators"]) {
    if (row["unequal"] == 0 || shown++ >= kMostRows) continue;
    const auto time = [&](const char* key) {
      return human(seconds(row[key].get<double>()));
    };
    const double largest = row["largest_difference_s"].get<double>();
    out += "  " + left(cell(row["name"].get<std::string>(), 29), 30) +
           right(thousands(row["count"].get<std::int64_t>()), 9) +
           right(time("a_s"), 12) + right(time("b_s"), 12) +
           right(row["ratio"].is_null()
                     ? "-"
                     : fmt::format("{:.4f}", row["ratio"].get<double>()),
                 9) +
           right((largest < 0 ? "-" : "") + human(seconds(std::abs(largest))),
                 12) +
           "\n";
  }
  if (shown > kMostRows) {
    out += fmt::format(
        "  ... {}; --json has all\n",
        counted(static_cast<std::int64_t>(shown - kMostRows), "more row"));
  }
  return out;
}

}  // namespace troupe::results
