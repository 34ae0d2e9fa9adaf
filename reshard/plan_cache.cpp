#include "reshard/plan_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/file.h"

namespace troupe::reshard {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFormat = "troupe.switch-plan/1";
constexpr const char* kEnding = ".plan";

/// Whole numbers in as few bytes as they need, seven bits in each, the lowest
/// first; real ones in eight.
class Writer {
 public:
  void put(std::int64_t value) {
    // Small negative numbers are short as well.
    auto bits = (static_cast<std::uint64_t>(value) << 1) ^
                static_cast<std::uint64_t>(value >> 63);
    for (; bits >= 0x80; bits >>= 7) byte((bits & 0x7f) | 0x80);
    byte(bits);
  }
  void put(double value) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int i = 0; i < 8; ++i) byte((bits >> (8 * i)) & 0xff);
  }
  template <typename List, typename Put>
  void each(const List& list, Put one) {
    put(static_cast<std::int64_t>(std::size(list)));
    for (const auto& item : list) one(item);
  }
  std::string take() { return std::move(text_); }

 private:
  void byte(std::uint64_t bits) { text_.push_back(static_cast<char>(bits)); }

  std::string text_;
};

/// Reads them back; after the end everything is 0 and `good` false.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::int64_t whole() {
    std::uint64_t bits = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint64_t next = byte();
      bits |= (next & 0x7f) << shift;
      if (next < 0x80) break;
    }
    return static_cast<std::int64_t>((bits >> 1) ^ (~(bits & 1) + 1));
  }
  std::int32_t small() { return static_cast<std::int32_t>(whole()); }
  std::size_t size() { return static_cast<std::size_t>(whole()); }
  double real() {
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits |= byte() << (8 * i);
    return std::bit_cast<double>(bits);
  }
  template <typename List, typename Get>
  void each(List& list, Get one) {
    const std::int64_t count = whole();
    // Every item takes at least a byte.
    if (count < 0 || static_cast<std::size_t>(count) > text_.size()) {
      good_ = false;
      return;
    }
    list.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count && good_; ++i) list.push_back(one());
  }
  bool good() const { return good_; }
  bool done() const { return good_ && text_.empty(); }

 private:
  std::uint64_t byte() {
    if (text_.empty()) {
      good_ = false;
      return 0;
    }
    const auto next = static_cast<unsigned char>(text_.front());
    text_.remove_prefix(1);
    return next;
  }

  std::string_view text_;
  bool good_ = true;
};

void put(Writer& out, const Makespan& m) {
  out.put(m.seconds);
  out.put(m.latency.v);
  for (const double bytes : m.bytes) out.put(bytes);
}
Makespan makespan(Reader& in) {
  Makespan m;
  m.seconds = in.real();
  m.latency = {in.whole()};
  for (double& bytes : m.bytes) bytes = in.real();
  return m;
}

void put(Writer& out, const Box& box) {
  out.each(box, [&](const strategy::Span& s) {
    out.put(s.first);
    out.put(s.last);
  });
}
Box box(Reader& in) {
  Box out;
  in.each(out, [&] {
    const std::int64_t first = in.whole();
    return strategy::Span{first, in.whole()};
  });
  return out;
}

std::string body_of(const SwitchPlan& plan) {
  Writer out;
  out.each(plan.classes, [&](const TensorClass& c) {
    out.put(std::int64_t{c.representative});
    out.each(c.pieces, [&](const Box& piece) { put(out, piece); });
  });
  out.each(plan.class_of, [&](std::int32_t c) { out.put(std::int64_t{c}); });
  out.each(plan.transfers, [&](const Transfer& t) {
    for (const std::int64_t n :
         {std::int64_t{t.tensor}, std::int64_t{t.piece}, std::int64_t{t.from.v},
          std::int64_t{t.to.v}, std::int64_t{t.bucket}, t.first, t.last,
          t.bytes}) {
      out.put(n);
    }
  });
  out.each(plan.buckets, [&](const Bucket& b) {
    out.put(static_cast<std::int64_t>(b.first));
    out.put(static_cast<std::int64_t>(b.last));
    out.put(b.messages);
    out.put(b.peak.v);
    put(out, b.makespan);
  });
  out.put(static_cast<std::int64_t>(plan.senders));
  put(out, plan.makespan);
  out.each(plan.by_rule, [&](const Makespan& m) { put(out, m); });
  out.put(plan.moved.v);
  out.put(plan.peak.v);
  out.put(plan.predicted.v);
  return out.take();
}

bool within(std::int64_t index, std::size_t size) {
  return index >= 0 && static_cast<std::size_t>(index) < size;
}

/// Whether every index of a plan is inside what it is an index of.
bool is_sound(const SwitchPlan& plan) {
  for (const std::int32_t c : plan.class_of) {
    if (!within(c, plan.classes.size())) return false;
  }
  for (const TensorClass& c : plan.classes) {
    if (!within(c.representative, plan.class_of.size())) return false;
  }
  for (const Transfer& t : plan.transfers) {
    if (!within(t.tensor, plan.class_of.size())) return false;
    const auto kind = static_cast<std::size_t>(
        plan.class_of[static_cast<std::size_t>(t.tensor)]);
    if (!within(t.piece, plan.classes[kind].pieces.size())) return false;
    if (!t.from || !t.to || t.bytes < 0) return false;
  }
  for (const Bucket& b : plan.buckets) {
    if (b.first > b.last || b.last > plan.transfers.size()) return false;
  }
  return within(static_cast<int>(plan.senders), kSenderRules);
}

Result<SwitchPlan> plan_of_body(std::string_view body) {
  Reader in(body);
  SwitchPlan plan;
  in.each(plan.classes, [&] {
    TensorClass c{in.small(), {}};
    in.each(c.pieces, [&] { return box(in); });
    return c;
  });
  in.each(plan.class_of, [&] { return in.small(); });
  in.each(plan.transfers, [&] {
    Transfer t;
    t.tensor = in.small();
    t.piece = in.small();
    t.from = DeviceId{in.small()};
    t.to = DeviceId{in.small()};
    t.bucket = in.small();
    t.first = in.whole();
    t.last = in.whole();
    t.bytes = in.whole();
    return t;
  });
  in.each(plan.buckets, [&] {
    Bucket b;
    b.first = in.size();
    b.last = in.size();
    b.messages = in.whole();
    b.peak = {in.whole()};
    b.makespan = makespan(in);
    return b;
  });
  plan.senders = static_cast<SenderRule>(in.whole());
  plan.makespan = makespan(in);
  in.each(plan.by_rule, [&] { return makespan(in); });
  plan.moved = {in.whole()};
  plan.peak = {in.whole()};
  plan.predicted = {in.whole()};
  if (!in.done() || !is_sound(plan)) {
    return fail(Fault::input, "its numbers are no plan");
  }
  return plan;
}

/// The first line as JSON and what follows it.
Result<std::pair<Json, std::string_view>> split(std::string_view text) {
  const auto end = text.find('\n');
  if (end == std::string_view::npos) {
    return fail(Fault::input, "it has no first line");
  }
  TRY(Json head, parse_json(text.substr(0, end), "first line"));
  if (!head.is_object() || head.value("format", Json()) != kFormat) {
    return fail(Fault::input, fmt::format("its format is not \"{}\"", kFormat));
  }
  return std::pair(std::move(head), text.substr(end + 1));
}

void put(Writer& out, const Annotation& a) {
  out.put(static_cast<std::int64_t>(a.across));
  out.put(std::int64_t{a.dimension});
  out.put(std::int64_t{a.interleaved});
  out.each(a.groups, [&](const strategy::Subgroup& group) {
    out.each(group.devices, [&](DeviceId d) { out.put(std::int64_t{d.v}); });
    out.each(group.states.split, [&](const auto& part) {
      out.put(std::int64_t{part.first});
      out.put(std::int64_t{part.second});
    });
    out.put(std::int64_t{group.states.duplicate});
    out.put(std::int64_t{group.states.partial});
    out.each(group.states.order, [&](int k) { out.put(std::int64_t{k}); });
    out.put(group.weight);
  });
}

/// All that routes and rates depend on.
void put(Writer& out, const Routes& routes) {
  const clusters::Cluster& c = routes.cluster();
  out.each(routes.rates().capacity, [&](double rate) { out.put(rate); });
  out.each(routes.rates().overhead, [&](Time t) { out.put(t.v); });
  out.each(c.links, [&](const clusters::Link& link) {
    out.put(static_cast<std::int64_t>(link.link_class));
    out.put(link.latency.v);
  });
  out.each(c.devices,
           [&](const clusters::Device& d) { out.put(std::int64_t{d.node.v}); });
  out.each(c.ports, [&](const clusters::Cluster::Port& p) {
    for (const std::int64_t n :
         {std::int64_t{p.nvlink_out.v}, std::int64_t{p.nvlink_in.v},
          std::int64_t{p.nvlink_group}, std::int64_t{p.pcie_out.v},
          std::int64_t{p.pcie_in.v}, std::int64_t{p.pcie_switch},
          std::int64_t{p.nic_out.v}, std::int64_t{p.nic_in.v},
          std::int64_t{p.nic_behind_pcie}, std::int64_t{p.nic_at_root},
          std::int64_t{p.leaf}}) {
      out.put(n);
    }
  });
  out.each(c.paths, [&](const clusters::Cluster::NodePaths& node) {
    out.each(node.switches, [&](const auto& s) {
      out.put(std::int64_t{s.up_out.v});
      out.put(std::int64_t{s.up_in.v});
      out.put(std::int64_t{s.socket});
    });
    out.put(std::int64_t{node.socket_out.v});
    out.put(std::int64_t{node.socket_in.v});
  });
  out.each(c.leaves, [&](const clusters::Cluster::Leaf& leaf) {
    out.put(std::int64_t{leaf.up_out.v});
    out.put(std::int64_t{leaf.up_in.v});
  });
}

}  // namespace

std::string_view name_of(Origin origin) {
  switch (origin) {
    case Origin::planned:
      return "planned";
    case Origin::cached:
      return "cached";
    case Origin::replanned:
      return "planned again, its file was damaged";
  }
  return "";
}

std::string switch_key(std::span<const TensorChange> changes,
                       const Routes& routes, const SwitchOptions& options) {
  Writer out;
  out.put(std::int64_t{kPlanVersion});
  out.put(static_cast<std::int64_t>(options.senders));
  out.put(options.bucket.v);
  out.put(std::int64_t{options.compare});
  put(out, routes);
  out.each(changes, [&](const TensorChange& change) {
    put(out, change.source);
    put(out, change.destination);
    out.each(change.shape, [&](std::int64_t n) { out.put(n); });
    out.put(static_cast<std::int64_t>(change.dtype));
    if (!change.held) return;
    out.each(*change.held, [&](const Held& held) {
      out.put(std::int64_t{held.device.v});
      out.each(held.boxes, [&](const Box& box) { put(out, box); });
    });
  });
  return troupe::content_hash(out.take());
}

std::string pack(const SwitchPlan& plan, const std::string& key) {
  const std::string body = body_of(plan);
  std::int64_t messages = 0;
  for (const Bucket& bucket : plan.buckets) messages += bucket.messages;
  const Json head{{"format", kFormat},
                  {"key", key},
                  {"version", kPlanVersion},
                  {"tensors", plan.class_of.size()},
                  {"transfers", plan.transfers.size()},
                  {"messages", messages},
                  {"buckets", plan.buckets.size()},
                  {"moved_bytes", plan.moved.v},
                  {"peak_bytes", plan.peak.v},
                  {"predicted_s", to_seconds(plan.predicted)},
                  {"senders", name_of(plan.senders)},
                  {"body_bytes", body.size()},
                  {"body_hash", troupe::content_hash(body)}};
  return head.dump() + "\n" + body;
}

Result<SwitchPlan> unpack(std::string_view text, const std::string& key) {
  TRY(const auto parts, split(text));
  const auto& [head, body] = parts;
  if (head.value("key", Json()) != key) {
    return fail(Fault::input, "it holds the plan of another switch");
  }
  if (head.value("body_hash", Json()) != troupe::content_hash(body)) {
    return fail(Fault::input, "its numbers do not have the hash it names");
  }
  return plan_of_body(body);
}

fs::path PlanCache::path_of(const std::string& key) const {
  return folder_ / (key + kEnding);
}

Result<CachedPlan> PlanCache::switch_plan(std::span<const TensorChange> changes,
                                          const Routes& routes,
                                          const SwitchOptions& options) const {
  CachedPlan out;
  out.key = switch_key(changes, routes, options);
  const fs::path path = path_of(out.key);
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    const auto text = read_file(path);
    auto plan =
        text ? unpack(*text, out.key) : Result<SwitchPlan>(fail(text.error()));
    if (plan && plan->class_of.size() == changes.size()) {
      out.plan = *std::move(plan);
      out.origin = Origin::cached;
      return out;
    }
    out.origin = Origin::replanned;
  }
  TRY(out.plan, plan_switch(changes, routes, options));
  fs::create_directories(folder_, ignored);
  const auto written = write_file(path, pack(out.plan, out.key));
  static_cast<void>(written);  // an answer without a file is an answer
  return out;
}

std::vector<PlanFile> PlanCache::list() const {
  std::vector<fs::path> paths;
  std::error_code ignored;
  for (fs::directory_iterator at(folder_, ignored), end; at != end;
       at.increment(ignored)) {
    if (at->path().extension() == kEnding) paths.push_back(at->path());
  }
  std::ranges::sort(paths);
  std::vector<PlanFile> out;
  for (const fs::path& path : paths) {
    PlanFile file{path.stem().string(), Json::object(), {}};
    const auto text = read_file(path);
    if (!text) {
      file.problem = text.error().message;
    } else {
      const auto parts = split(*text);
      if (parts) file.head = parts->first;
      const auto plan = unpack(*text, file.key);
      if (!plan) file.problem = plan.error().message;
    }
    out.push_back(std::move(file));
  }
  return out;
}

std::size_t PlanCache::clear() const {
  std::size_t removed = 0;
  for (const PlanFile& file : list()) {
    std::error_code failed;
    if (fs::remove(path_of(file.key), failed)) ++removed;
  }
  return removed;
}

Result<CachedPlan> switch_plan(const PlanCache* cache,
                               std::span<const TensorChange> changes,
                               const Routes& routes,
                               const SwitchOptions& options) {
  if (cache) return cache->switch_plan(changes, routes, options);
  CachedPlan out;
  out.key = switch_key(changes, routes, options);
  TRY(out.plan, plan_switch(changes, routes, options));
  return out;
}

}  // namespace troupe::reshard
