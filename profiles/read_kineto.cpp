// PyTorch profiler (Kineto) traces: kernels by the operator that launched
// them, and NCCL kernels by their message.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "base/text.h"
#include "profiles/dates.h"
#include "profiles/kineto_events.h"
#include "profiles/readers.h"
#include "profiles/spans.h"
#include "profiles/trace_rows.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;

std::int64_t bytes_of(std::string_view dtype) {
  constexpr std::pair<std::string_view, std::int64_t> kTypes[] = {
      {"BFloat16", 2}, {"Half", 2},  {"Float", 4},         {"Double", 8},
      {"Int", 4},      {"Long", 8},  {"Byte", 1},          {"Char", 1},
      {"Bool", 1},     {"Short", 2}, {"Float8_e4m3fn", 1}, {"Float8_e5m2", 1}};
  for (const auto& [name, size] : kTypes) {
    if (name == dtype) return size;
  }
  return 0;
}

/// The ranks of "[0, 1, 2]"; empty when it is shortened or something else.
std::vector<int> ranks_of(std::string_view text) {
  std::vector<int> ranks;
  std::string word;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      word += c;
    } else if (c == ',' || c == ']') {
      int rank = 0;
      if (!from_text(word, rank)) return {};
      ranks.push_back(rank);
      word.clear();
    } else if (c != '[' && c != ' ') {
      return {};
    }
  }
  return ranks;
}

class Kineto {
 public:
  Kineto(const KinetoTrace& trace, const Foreign& file)
      : trace_(trace), file_(file), rows_(trace.calls) {
    for (std::size_t i = 0; i < trace.spans.size(); ++i) {
      const KinetoSpan& s = trace.spans[i];
      spans_.add(s.thread, s.start, s.start + s.micros, i);
      if (s.external != 0) by_external_[s.external].push_back(i);
    }
    spans_.nest();
    for (const KinetoKernel& kernel : trace.kernels) {
      const auto at = trace.launches.find(kernel.launch);
      if (at == trace.launches.end() || at->second.size() != 1) continue;
      users_[kernel.device].insert(at->second.front().process);
    }
  }

  TraceSamples read(Gather& gather) {
    for (const KinetoKernel& kernel : trace_.kernels) one(kernel);
    if (trace_.broken > 0) {
      gather.reject(file_.path,
                    fmt::format("{} events without a start or duration that "
                                "is a number of at least 0",
                                trace_.broken));
    }
    return rows_.finish();
  }

 private:
  void one(const KinetoKernel& kernel) {
    const double seconds = kernel.micros * 1e-6;
    const auto device = device_of(kernel.device);
    if (!device) return rows_.leave_out(device.error().message, seconds);
    if (kernel.copy) return copy(kernel, *device, seconds);
    const auto around = around_of(kernel);
    const bool collective = kernel.name.starts_with("nccl");
    if (!around && !(collective && kernel.comms)) {
      return rows_.leave_out(
          "which process launched it is not certain: several have a call of "
          "its number (a merged trace); give each process's own trace",
          seconds);
    }
    const auto calls = around.value_or(std::vector<std::size_t>{});
    if (collective) return communication(kernel, *device, calls, seconds);
    rows_.add(TraceKernel{*device, kernel.name, seconds, calls});
  }

  void copy(const KinetoKernel& kernel, const std::string& device,
            double seconds) {
    const auto says = [&](std::string_view word) {
      return kernel.name.find(word) != std::string::npos;
    };
    if (says("DtoD")) {
      return rows_.add_device_copy(device, kernel.bytes, seconds);
    }
    if (says("PtoP")) {
      return rows_.add(TraceCollective{device, Collective::send_receive, 2, 2,
                                       kernel.bytes, seconds});
    }
    const bool in = says("HtoD");
    if (!in && !says("DtoH")) {
      return rows_.leave_out("a copy that does not say between what", seconds);
    }
    if (!says("Pinned")) {
      return rows_.leave_out(
          says("Pageable")
              ? "copies of pageable host memory: rows are of pinned memory"
              : "copies with the host that do not say whether its memory is "
                "pinned",
          seconds);
    }
    rows_.add_host_copy(
        {.device = device,
         .route = in ? CopyRoute::host_to_device : CopyRoute::device_to_host,
         .bytes = kernel.bytes},
        seconds);
  }

  /// The process of one of several candidates: the only one that launches on
  /// the kernel's device as far as is certain, or the kernel's own.
  template <typename Candidate>
  const Candidate* choose(const std::vector<const Candidate*>& candidates,
                          const KinetoKernel& kernel) const {
    if (candidates.size() == 1) return candidates[0];
    const auto users = users_.find(kernel.device);
    const Candidate* chosen = nullptr;
    for (const Candidate* c : candidates) {
      const bool certain = users != users_.end() && users->second.size() == 1 &&
                           users->second.contains(c->process);
      if (!certain) continue;
      if (chosen != nullptr) return nullptr;
      chosen = c;
    }
    return chosen;
  }

  /// Calls around the launch, else around the operator of the kernel's own
  /// number; nothing when that may be one of several processes.
  std::optional<std::vector<std::size_t>> around_of(
      const KinetoKernel& kernel) const {
    const auto launch = trace_.launches.find(kernel.launch);
    if (launch != trace_.launches.end()) {
      std::vector<const KinetoLaunch*> candidates;
      for (const KinetoLaunch& l : launch->second) candidates.push_back(&l);
      const KinetoLaunch* chosen = choose(candidates, kernel);
      if (chosen == nullptr) return {};
      return spans_.around(chosen->thread, chosen->at);
    }
    const auto call = by_external_.find(kernel.external);
    if (kernel.external == 0 || call == by_external_.end()) {
      return std::vector<std::size_t>{};
    }
    // Of one process the first: marks inside of an operator repeat its number.
    std::vector<const KinetoSpan*> candidates;
    std::set<std::uint64_t> processes;
    for (const std::size_t i : call->second) {
      const KinetoSpan& span = trace_.spans[i];
      if (processes.insert(span.process).second) candidates.push_back(&span);
    }
    const KinetoSpan* chosen = choose(candidates, kernel);
    if (chosen == nullptr) return {};
    return spans_.around(chosen->thread, chosen->start);
  }

  Result<std::string> device_of(int number) {
    if (const auto at = devices_.find(number); at != devices_.end()) {
      return at->second;
    }
    const auto name = trace_.devices.find(number);
    TRY(std::string device, file_.device(name == trace_.devices.end()
                                             ? std::string_view("not named")
                                             : std::string_view(name->second)));
    return devices_[number] = std::move(device);
  }

  void communication(const KinetoKernel& kernel, const std::string& device,
                     const std::vector<std::size_t>& around, double seconds) {
    const KinetoComms* comms = nullptr;
    for (const std::size_t i : around) {
      const auto& found = trace_.spans[i].comms;
      if (found) comms = &trace_.comms[*found];
    }
    if (kernel.comms) comms = &trace_.comms[*kernel.comms];
    if (comms == nullptr) {
      return rows_.leave_out("NCCL kernels without the size of their message",
                             seconds);
    }
    TraceCollective row{
        .device = device, .seconds = seconds, .start = kernel.start};
    const std::string problem = describe(*comms, row);
    if (!problem.empty()) {
      return rows_.leave_out(
          fmt::format("{}: {}", excerpt(comms->name), problem), seconds);
    }
    if (!comms->ranks.empty()) {
      row.group = comms->group_name + comms->ranks;
      row.member = fmt::format("{}/{}", trace_.rank, kernel.device);
    }
    rows_.add(row);
  }

  std::string describe(const KinetoComms& comms, TraceCollective& row) const {
    const auto collective = collective_named(comms.name);
    if (!collective) return "no such collective here";
    if (comms.uneven) return "a message that is split unevenly";
    const std::int64_t size = bytes_of(comms.dtype);
    // The whole buffer: what is gathered, or what is scattered.
    const std::int64_t elements = *collective == Collective::all_gather
                                      ? comms.out_elements
                                      : comms.in_elements;
    if (size == 0 || elements < 1 || elements > std::int64_t{1} << 40) {
      return "the size of the message is missing or wrong";
    }
    row.collective = *collective;
    row.bytes = elements * size;
    row.ranks = comms.group;
    if (*collective == Collective::send_receive) row.ranks = 2;
    if (row.ranks < 2) return "the size of the group is missing or 1";
    row.per_node = per_node(comms, row.ranks);
    return row.per_node > 0 ? "" : "which ranks share a node is not recorded";
  }

  /// How many of a group lie in one node, as far as the trace says.
  int per_node(const KinetoComms& comms, int ranks) const {
    const int node = static_cast<int>(trace_.devices.size());
    if (node < 1) return 0;
    if (trace_.world > 0 && trace_.world <= node) return ranks;
    const std::vector<int> list = ranks_of(comms.ranks);
    if (list.empty() || static_cast<int>(list.size()) != comms.group ||
        node == 1) {
      return 0;
    }
    std::map<int, int> nodes;
    int most = 0;
    for (const int rank : list) most = std::max(most, ++nodes[rank / node]);
    return most;
  }

  const KinetoTrace& trace_;
  const Foreign& file_;
  TraceRows rows_;
  Spans spans_;
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> by_external_;
  /// Processes that launch on a device, of kernels that leave no doubt.
  std::map<int, std::set<std::uint64_t>> users_;
  std::map<int, std::string> devices_;
};

}  // namespace

Result<void> read_kineto(std::string_view text, const Foreign& file,
                         Gather& gather) {
  TRY(const KinetoTrace trace, read_kineto_events(text, file.path));
  if (trace.kernels.empty()) {
    return fail(Fault::input, file.path +
                                  ": a trace without GPU kernels; record with "
                                  "ProfilerActivity.CUDA");
  }
  Source source = file.source("pytorch profiler");
  source.kind = "measured";
  source.note =
      "medians of kernel times; of collectives with the wait for the other "
      "ranks";
  source.libraries = trace.libraries;
  if (trace.began > 0) source.date = utc(trace.began);
  gather.begin(std::move(source));
  RankTrace rank{.rank = trace.rank,
                 .world = trace.world,
                 .began = trace.began,
                 .samples = Kineto(trace, file).read(gather)};
  if (trace.world < 2 || trace.rank < 0) {
    rank.samples.into(gather, file.path);
    return {};
  }
  rank.run = fmt::format("{} ranks over {}", trace.world, trace.backend);
  for (const auto& [number, name] : trace.devices) rank.run += ", " + name;
  gather.trace = std::make_unique<RankTrace>(std::move(rank));
  return {};
}

}  // namespace troupe::profiles
