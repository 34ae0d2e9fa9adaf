#include "clusters/short_form.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "base/text.h"

namespace troupe::clusters {
namespace {

constexpr std::size_t kLongest = 4000;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out(1);
  for (const char c : text) {
    if (c == separator) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

std::vector<std::string> words_of(const std::string& clause) {
  std::vector<std::string> out;
  std::string word;
  for (const char c : clause + " ") {
    if (c != ' ' && c != '\t' && c != '\n') {
      word += c;
    } else if (!word.empty()) {
      out.push_back(std::move(word));
      word.clear();
    }
  }
  return out;
}

/// A whole number as an integer, else a real; nothing when it is neither.
std::optional<Json> number(std::string_view word) {
  double value = 0;
  const auto [end, error] =
      std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return {};
  if (!std::isfinite(value)) return {};
  if (std::trunc(value) == value && std::abs(value) < 9e15) {
    return Json(static_cast<std::int64_t>(value));
  }
  return Json(value);
}

/// "Gbit/s" and "GB/s" differ in the letter b, so its case matters.
const char* rate_key(std::string_view unit) {
  for (const char* name : {"Gbit/s", "gbit/s", "Gbps", "gbps", "Gb/s"}) {
    if (unit == name) return "gbit_per_s";
  }
  for (const char* name : {"GB/s", "GByte/s", "GBps"}) {
    if (unit == name) return "gbytes_per_s";
  }
  return nullptr;
}

using Words = std::vector<std::string>;

bool ends(const Words& w, std::size_t from,
          std::initializer_list<std::string_view> tail) {
  if (w.size() != from + tail.size()) return false;
  std::size_t i = from;
  for (const std::string_view word : tail) {
    if (w[i++] != word) return false;
  }
  return true;
}

/// One clause being understood into a group or the network.
struct Clause {
  Words words;
  Json& group;
  Json& network;

  /// "8 x h100-sxm [per node]".
  bool devices() const {
    if (words.size() < 3 || words[1] != "x") return false;
    const auto count = number(words[0]);
    if (!count || rate_key(words.size() > 3 ? words[3] : "")) return false;
    if (words.size() != 3 && !ends(words, 3, {"per", "node"})) return false;
    group["count"] = *count;
    group["kind"] = words[2];
    return true;
  }

  /// "[2 x] 400 Gbit/s per GPU|node".
  bool cards() const {
    std::size_t i = 0;
    std::optional<Json> count;
    if (words.size() > 2 && words[1] == "x") {
      count = number(words[0]);
      if (!count) return false;
      i = 2;
    }
    if (words.size() != i + 4 || words[i + 2] != "per") return false;
    const auto rate = number(words[i]);
    const char* key = rate_key(words[i + 1]);
    const std::string& per = words[i + 3];
    const bool gpu = per == "GPU" || per == "gpu";
    if (!rate || !key || (!gpu && per != "node")) return false;
    group["nic"][key] = *rate;
    group["nic"]["per"] = gpu ? "gpu" : "node";
    if (count) group["nic"]["count"] = *count;
    return true;
  }

  /// "128 nodes", "31 GPUs", "32 nodes per leaf", "2:1 oversubscribed",
  /// "32.77 USD per node hour", "1.5 us latency".
  bool numbers() const {
    if (words.size() == 2 && words[1] == "oversubscribed" &&
        words[0].ends_with(":1")) {
      const auto ratio = number(words[0].substr(0, words[0].size() - 2));
      if (ratio) network["oversubscription"] = *ratio;
      return ratio.has_value();
    }
    const auto value = words.empty() ? std::nullopt : number(words[0]);
    if (!value) return false;
    if (ends(words, 1, {"node"}) || ends(words, 1, {"nodes"})) {
      group["nodes"] = *value;
    } else if (ends(words, 1, {"GPUs"}) || ends(words, 1, {"gpus"}) ||
               ends(words, 1, {"GPU"})) {
      group["gpus"] = *value;
    } else if (ends(words, 1, {"nodes", "per", "leaf"})) {
      network["nodes_per_leaf"] = *value;
    } else if (ends(words, 1, {"USD", "per", "node", "hour"})) {
      group["price_per_node_hour"] = *value;
    } else if (ends(words, 1, {"us", "latency"})) {
      network["latency_us"] = *value;
    } else {
      return false;
    }
    return true;
  }

  bool flags() const {
    if (ends(words, 0, {"rail-optimised"}) ||
        ends(words, 0, {"rail-optimized"})) {
      network["rail_optimized"] = true;
      return true;
    }
    for (const char* word : {"nvswitch", "nvlink", "nvlink-pairs", "pcie"}) {
      if (!ends(words, 0, {word})) continue;
      group["intra"] = word;
      return true;
    }
    return false;
  }

  bool understood() const {
    return devices() || cards() || numbers() || flags();
  }
};

/// "8×h100" and "8*h100" as "8 x h100".
std::string plain(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("\xc3\x97")) {
      out += " x ";
      ++i;
    } else if (text[i] == '*') {
      out += " x ";
    } else {
      out += text[i];
    }
  }
  return out;
}

/// A group that says nothing of network cards has those of the group before
/// it, or else of the first that does.
void share_cards(Json& nodes) {
  Json last;
  for (const Json& group : nodes) {
    if (last.is_null() && group.contains("nic")) last = group["nic"];
  }
  for (Json& group : nodes) {
    if (group.contains("nic")) {
      last = group["nic"];
    } else if (!last.is_null()) {
      group["nic"] = last;
    }
  }
}

}  // namespace

bool looks_like_short_form(std::string_view text) {
  const std::string start = plain(text.substr(0, 40));
  const Words words = words_of(start);
  return words.size() >= 2 && number(words[0]) && words[1] == "x";
}

Json expand_short_form(std::string_view text, const std::string& where,
                       Findings& findings) {
  Json nodes = Json::array();
  Json network = Json::object();
  if (text.size() > kLongest) {
    findings.error(
        where, fmt::format("a short form is at most {} characters", kLongest));
    return Json::object();
  }
  for (const std::string& part : split(plain(text), '+')) {
    Json group = Json::object();
    for (const std::string& clause : split(part, ',')) {
      const Clause c{words_of(clause), group, network};
      if (c.understood()) continue;
      findings.error(
          where,
          fmt::format("cannot read '{}'; a cluster is written like \"8 x "
                      "h100-sxm per node, 400 Gbit/s per GPU, "
                      "rail-optimised, 128 nodes\"",
                      excerpt(clause)));
    }
    nodes.push_back(std::move(group));
  }
  share_cards(nodes);
  Json out{{"nodes", std::move(nodes)}};
  if (!network.empty()) out["network"] = std::move(network);
  return out;
}

}  // namespace troupe::clusters
