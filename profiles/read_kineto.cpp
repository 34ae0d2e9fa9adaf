// PyTorch profiler (Kineto) traces: kernels by the operator that launched
// them, and NCCL kernels by their message.
#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "base/text.h"
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
      if (s.external != 0) by_external_.try_emplace(s.external, i);
    }
    spans_.nest();
  }

  Result<void> read(Gather& gather) {
    for (const KinetoKernel& kernel : trace_.kernels) TRY_DO(one(kernel));
    if (trace_.broken > 0) {
      gather.reject(file_.path,
                    fmt::format("{} events without a start or duration that "
                                "is a number of at least 0",
                                trace_.broken));
    }
    rows_.finish(gather, file_.path);
    return {};
  }

 private:
  Result<void> one(const KinetoKernel& kernel) {
    const double seconds = kernel.micros * 1e-6;
    if (kernel.copy) return copy(kernel, seconds);
    const std::vector<std::size_t> around = around_of(kernel);
    if (kernel.name.starts_with("nccl")) {
      return communication(kernel, around, seconds);
    }
    TRY(const std::string device, device_of(kernel.device));
    rows_.add(TraceKernel{device, kernel.name, seconds, around});
    return {};
  }

  Result<void> copy(const KinetoKernel& kernel, double seconds) {
    const bool within = kernel.name.find("DtoD") != std::string::npos;
    const bool peer = kernel.name.find("PtoP") != std::string::npos;
    if (!within && !peer) {
      rows_.leave_out(
          "copies between host and device: nothing here prices "
          "them",
          seconds);
      return {};
    }
    TRY(const std::string device, device_of(kernel.device));
    if (within) {
      rows_.add_device_copy(device, kernel.bytes, seconds);
    } else {
      rows_.add(TraceCollective{device, Collective::send_receive, 2, 2,
                                kernel.bytes, seconds});
    }
    return {};
  }

  /// By the launch, else by the operator's own number.
  std::vector<std::size_t> around_of(const KinetoKernel& kernel) const {
    const auto launch = trace_.launches.find(kernel.launch);
    if (launch != trace_.launches.end()) {
      return spans_.around(launch->second.thread, launch->second.at);
    }
    const auto call = by_external_.find(kernel.external);
    if (kernel.external == 0 || call == by_external_.end()) return {};
    const KinetoSpan& span = trace_.spans[call->second];
    return spans_.around(span.thread, span.start);
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

  Result<void> communication(const KinetoKernel& kernel,
                             const std::vector<std::size_t>& around,
                             double seconds) {
    const KinetoComms* comms = nullptr;
    for (const std::size_t i : around) {
      const auto& found = trace_.spans[i].comms;
      if (found) comms = &trace_.comms[*found];
    }
    if (kernel.comms) comms = &trace_.comms[*kernel.comms];
    if (comms == nullptr) {
      rows_.leave_out("NCCL kernels without the size of their message",
                      seconds);
      return {};
    }
    TraceCollective row{.seconds = seconds};
    const std::string problem = describe(*comms, row);
    if (!problem.empty()) {
      rows_.leave_out(fmt::format("{}: {}", excerpt(comms->name), problem),
                      seconds);
      return {};
    }
    TRY(row.device, device_of(kernel.device));
    rows_.add(row);
    return {};
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
  std::unordered_map<std::uint64_t, std::size_t> by_external_;
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
  gather.begin(std::move(source));
  return Kineto(trace, file).read(gather);
}

}  // namespace troupe::profiles
