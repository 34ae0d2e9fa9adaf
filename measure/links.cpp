#include "measure/links.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <ctime>
#include <set>

#include "base/progress.h"
#include "profiles/dates.h"

namespace troupe::measure {
namespace {

using clusters::Collective;

// A sample is as many runs as take so long.
constexpr double kSampleSeconds = 5e-4;
constexpr int kMostRuns = 40;
constexpr int kLeastSamples = 3, kMostSamples = 15;
constexpr double kSeriesSeconds = 0.06;  // of one size, warm-up apart
constexpr double kPrecision = 0.01;      // wanted relative standard error
// Runs that even the longest measurement takes: one to warm up, then samples.
constexpr double kRunsAtLeast = 1 + kLeastSamples;
// A machine on which so many curves in turn fail is given up.
constexpr int kMostFailures = 3;

constexpr Collective kGroupCollectives[] = {
    Collective::all_reduce, Collective::all_gather, Collective::reduce_scatter,
    Collective::ring_shift, Collective::all_to_all, Collective::broadcast};

double steady() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string today() { return profiles::utc(std::time(nullptr)).substr(0, 10); }

/// 8, 2, 4, 3, 5, 6, 7 of 8.
std::vector<int> group_sizes(int devices) {
  std::vector<int> sizes{devices};
  for (const bool power : {true, false}) {
    for (int n = 2; n < devices; ++n) {
      if (std::has_single_bit(static_cast<unsigned>(n)) == power) {
        sizes.push_back(n);
      }
    }
  }
  return sizes;
}

/// The first pair of each path, the best path first.
Result<std::map<Route, std::vector<int>>> pairs_of(LinkMachine& links) {
  std::map<Route, std::vector<int>> pairs;
  for (int a = 0; a < links.devices(); ++a) {
    for (int b = a + 1; b < links.devices(); ++b) {
      TRY(const Route route, links.path(a, b));
      pairs.try_emplace(route, std::vector<int>{a, b});
    }
  }
  return pairs;
}

/// One run of the measurement.
class Run {
 public:
  Run(Machine& machine, LinkMachine* links, profiles::Database& database,
      const LinkOptions& options, const Watch& watch)
      : machine_(machine),
        links_(links),
        database_(database),
        options_(options),
        watch_(watch),
        start_(now()),
        stored_(start_) {}

  Result<LinkReport> all();

 private:
  double now() const { return options_.clock ? options_.clock() : steady(); }
  bool over() const { return now() - start_ >= options_.budget_s; }
  Bytes bytes_of(const LinkSampler::Choice& at) const {
    const LinkSeries& s = series_[at.curve];
    return shared_size(at.nominal,
                       s.collective ? static_cast<int>(s.devices.size()) : 1);
  }
  Bytes largest() const;
  Result<void> remember(LinkSampler& sampler);
  Result<double> once(const LinkSeries& series, Bytes bytes, int runs);
  Result<Timing> time(const LinkSeries& series, Bytes bytes);
  void keep(const LinkSeries& series, Bytes bytes, const Timing& timing);
  Result<void> step(LinkSampler& sampler, const LinkSampler::Choice& at);
  Result<void> loop(LinkSampler& sampler);
  Result<void> store();

  Machine& machine_;
  LinkMachine* links_;
  profiles::Database& database_;
  const LinkOptions& options_;
  const Watch& watch_;
  double start_, stored_;
  std::vector<LinkSeries> series_;
  profiles::Section section_;
  LinkReport report_;
  int failures_ = 0;
};

Bytes Run::largest() const {
  Bytes most = std::min({options_.most, machine_.info().largest_copy,
                         Bytes{machine_.info().memory.v / 8}});
  if (links_ != nullptr) most = std::min(most, links_->largest());
  return most;
}

Result<void> Run::remember(LinkSampler& sampler) {
  const std::string& device = machine_.info().device;
  std::map<std::pair<LinkSeries, std::int64_t>, Timing> known;
  TRY(const auto copies,
      database_.select<profiles::CopyRow>(device, options_.source));
  for (const auto& [source, row] : copies) {
    known[{LinkSeries{.route = row.route}, row.bytes}] = {
        row.time_s, row.spread, row.samples};
  }
  TRY(const auto collectives,
      database_.select<profiles::CollectiveRow>(device, options_.source));
  for (const auto& [source, row] : collectives) {
    if (row.per_node != row.ranks || row.ranks > 1 << 16) continue;
    known[{LinkSeries{.collective = row.collective,
                      .devices = std::vector<int>(
                          static_cast<std::size_t>(row.ranks))},
           row.bytes}] = {row.time_s, row.spread, row.samples};
  }
  for (std::size_t c = 0; c < series_.size(); ++c) {
    // Rows know how many devices, not which.
    LinkSeries key = series_[c];
    if (key.collective) {
      std::ranges::fill(key.devices, 0);
    } else {
      key.devices.clear();
    }
    for (const std::int64_t size : sampler.sizes()) {
      const LinkSampler::Choice at{c, size};
      const auto row = known.find({key, bytes_of(at).v});
      if (row == known.end()) continue;
      sampler.add(at, row->second.median_s);
      report_.links.push_back({series_[c], bytes_of(at), row->second, true});
      ++report_.remembered;
    }
  }
  return {};
}

Result<double> Run::once(const LinkSeries& s, Bytes bytes, int runs) {
  if (s.collective) {
    return links_->time_collective(*s.collective, s.devices, bytes, runs);
  }
  if (!s.devices.empty()) {
    return links_->time_peer(s.devices[0], s.devices[1], bytes, runs);
  }
  double sum = 0;
  for (int i = 0; i < runs; ++i) {
    TRY(const double t, machine_.time_copy(s.route, bytes));
    sum += t;
  }
  return sum / runs;
}

Result<Timing> Run::time(const LinkSeries& series, Bytes bytes) {
  TRY(const double first, once(series, bytes, 1));
  const int runs = std::clamp(
      static_cast<int>(kSampleSeconds / std::max(first, 1e-9)), 1, kMostRuns);
  std::vector<double> samples;
  double spent = 0;
  for (;;) {
    TRY(const double t, once(series, bytes, runs));
    if (!std::isfinite(t) || t <= 0) {
      return fail(Fault::io, fmt::format("{} seconds were measured", t));
    }
    samples.push_back(t);
    spent += t * runs;
    const auto count = static_cast<int>(samples.size());
    if (count < kLeastSamples) continue;
    if (count >= kMostSamples || spent >= kSeriesSeconds) break;
    if (summary(samples).spread / std::sqrt(count) < kPrecision) break;
  }
  return summary(samples);
}

void Run::keep(const LinkSeries& s, Bytes bytes, const Timing& timing) {
  const double seconds = profiles::rounded(timing.median_s, 6);
  const double spread = profiles::rounded(timing.spread, 3);
  const auto take = [&](auto row, auto& rows) {
    row.device = machine_.info().device;
    row.bytes = bytes.v;
    row.time_s = seconds;
    row.spread = spread;
    row.samples = timing.samples;
    if (const auto problem = problem_of(row)) {
      report_.notes.push_back(fmt::format("{}, {} bytes: not stored: {}",
                                          to_string(s), bytes.v, *problem));
      return;
    }
    rows.push_back(row);
  };
  if (s.collective) {
    const auto ranks = static_cast<int>(s.devices.size());
    take(profiles::CollectiveRow{.device = {},
                                 .collective = *s.collective,
                                 .ranks = ranks,
                                 .per_node = ranks},
         section_.collectives);
  } else {
    take(profiles::CopyRow{.device = {}, .route = s.route}, section_.copies);
  }
  report_.links.push_back({s, bytes, timing});
}

Result<void> Run::step(LinkSampler& sampler, const LinkSampler::Choice& at) {
  const LinkSeries& series = series_[at.curve];
  const Bytes bytes = bytes_of(at);
  if (watch_) {
    watch_(std::min((now() - start_) / options_.budget_s, 1.0),
           fmt::format("{}, {} bytes", to_string(series), bytes.v));
  }
  const auto timing = time(series, bytes);
  if (!timing) {
    if (timing.error().fault == Fault::interrupted) {
      return fail(timing.error());
    }
    report_.notes.push_back(fmt::format("{} is left out at {} bytes: {}",
                                        to_string(series), bytes.v,
                                        timing.error().message));
    sampler.drop(at.curve);
    ++failures_;
    return {};
  }
  failures_ = 0;
  sampler.add(at, timing->median_s);
  keep(series, bytes, *timing);
  if (now() - stored_ >= options_.batch_s) return store();
  return {};
}

Result<void> Run::loop(LinkSampler& sampler) {
  while (!over()) {
    if (interrupted()) {
      report_.interrupted = true;
      return {};
    }
    if (failures_ >= kMostFailures) {
      report_.notes.push_back(fmt::format(
          "links are given up after {} failures in turn", failures_));
      return {};
    }
    const auto at = sampler.next();
    if (!at) {
      report_.complete = true;
      return {};
    }
    // A size that alone would use up the budget is left to interpolation.
    const double least = kRunsAtLeast * sampler.guess(*at);
    if (now() - start_ + least > options_.budget_s) {
      report_.notes.push_back(
          fmt::format("{}: {} bytes and more would exceed the budget",
                      to_string(series_[at->curve]), at->nominal));
      sampler.drop(at->curve);
      continue;
    }
    TRY_DO(step(sampler, *at));
  }
  report_.notes.push_back("the budget of links ended before all were known");
  return {};
}

Result<void> Run::store() {
  stored_ = now();
  if (section_.copies.empty() && section_.collectives.empty()) return {};
  TRY_DO(database_.store({section_}, profiles::OnInterrupt::finish));
  ++report_.batches;
  section_.copies.clear();
  section_.collectives.clear();
  return {};
}

Result<LinkReport> Run::all() {
  TRY(series_, wanted_links(machine_, links_));
  section_ = section_of(machine_.info(), options_.source,
                        links_ != nullptr ? links_->libraries() : "");
  if (links_ != nullptr && !links_->no_collectives().empty()) {
    report_.notes.push_back("collectives are skipped: " +
                            links_->no_collectives());
  }
  LinkSampler sampler(series_.size(), options_.least, largest(),
                      options_.accuracy);
  TRY_DO(remember(sampler));
  const auto looped = loop(sampler);
  machine_.release_copies();
  if (links_ != nullptr) links_->release();
  TRY_DO(store());
  if (!looped) return fail(looped.error());
  return std::move(report_);
}

}  // namespace

std::string to_string(const LinkSeries& s) {
  if (s.collective) {
    return fmt::format("{} of {}", clusters::name_of(*s.collective),
                       s.devices.size());
  }
  if (s.devices.size() != 2) return fmt::format("copy {}", name_of(s.route));
  return fmt::format("copy {} {} to {}", name_of(s.route), s.devices[0],
                     s.devices[1]);
}

Bytes shared_size(std::int64_t nominal, int ranks) {
  const std::int64_t whole = std::int64_t{16} * ranks;
  return {std::max(nominal - nominal % whole, whole)};
}

Result<std::vector<LinkSeries>> wanted_links(const Machine& machine,
                                             LinkMachine* links) {
  std::vector<LinkSeries> all;
  for (const Route route :
       {Route::device, Route::host_to_device, Route::device_to_host}) {
    if (machine.has(route)) all.push_back({.route = route});
  }
  if (links == nullptr || links->devices() < 2) return all;
  TRY(const auto pairs, pairs_of(*links));
  for (const auto& [route, pair] : pairs) {
    all.push_back({.route = route, .devices = pair});
  }
  if (!links->no_collectives().empty()) return all;
  all.push_back({.collective = Collective::send_receive,
                 .devices = pairs.begin()->second});
  for (const int n : group_sizes(links->devices())) {
    std::vector<int> devices;
    for (int d = 0; d < n; ++d) devices.push_back(d);
    for (const Collective collective : kGroupCollectives) {
      all.push_back({.collective = collective, .devices = devices});
    }
  }
  return all;
}

Result<LinkReport> measure_links(Machine& machine, LinkMachine* links,
                                 profiles::Database& database,
                                 const LinkOptions& options,
                                 const Watch& watch) {
  return Run(machine, links, database, options, watch).all();
}

std::string note_of(const MachineInfo& info, const Clocks& clocks) {
  std::string note = fmt::format(
      "{}; operands out of the caches; collectives of one process, out of "
      "place; medians{}{}",
      info.full_name, info.clocks.empty() ? "" : "; clocks ", info.clocks);
  if (clocks.samples > 0) {
    note += fmt::format("; while measuring median {:.0f} MHz, least {:.0f} MHz",
                        clocks.median, clocks.least);
  }
  return note;
}

profiles::Section section_of(const MachineInfo& info, const std::string& source,
                             const std::string& more_libraries) {
  profiles::Section section;
  section.source.name = source;
  section.source.kind = "measured";
  section.source.date = today();
  section.source.licence = "CC0-1.0";
  section.source.libraries = info.libraries;
  if (!more_libraries.empty()) {
    section.source.libraries += ", " + more_libraries;
  }
  section.source.note = note_of(info);
  section.devices = {{info.device, info.architecture}};
  return section;
}

}  // namespace troupe::measure
