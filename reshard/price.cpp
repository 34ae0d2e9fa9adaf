#include "reshard/price.h"

#include <algorithm>
#include <map>

#include "reshard/ring.h"

namespace troupe::reshard {

using clusters::LinkId;
using clusters::Route;

Rates rates_of(const clusters::Cluster& cluster) {
  Rates rates;
  rates.capacity.reserve(cluster.links.size());
  for (const clusters::Link& link : cluster.links) {
    rates.capacity.push_back(link.bandwidth.v);
  }
  return rates;
}

Rates rates_of(const clusters::Cluster& cluster,
               const profiles::CostModel& costs) {
  Rates rates = rates_of(cluster);
  std::array<double, kLinkClasses> fraction{};
  for (std::size_t c = 0; c < kLinkClasses; ++c) {
    const auto efficiency =
        costs.link_efficiency(static_cast<clusters::LinkClass>(c));
    fraction[c] = efficiency.fraction;
    rates.overhead[c] = efficiency.latency;
  }
  for (std::size_t i = 0; i < cluster.links.size(); ++i) {
    const auto c = static_cast<std::size_t>(cluster.links[i].link_class);
    rates.capacity[i] *= fraction[c];
  }
  return rates;
}

Routes::Routes(const clusters::Cluster& cluster, const Rates& rates)
    : cluster_(&cluster), rates_(&rates) {}

Route Routes::of(DeviceId from, DeviceId to) const {
  return cluster_->route(from, to);
}

Time Routes::latency(const Route& route) const {
  Time overhead;
  for (const LinkId link : route.links) {
    const auto c =
        static_cast<std::size_t>(cluster_->links[link.at()].link_class);
    overhead = std::max(overhead, rates_->overhead[c]);
  }
  return route.latency + overhead;
}

LinkLoad::LinkLoad(const Routes& routes)
    : routes_(&routes), busy_(routes.rates().capacity.size(), 0.0) {}

void LinkLoad::add(DeviceId from, DeviceId to, double bytes) {
  if (from == to || bytes == 0) return;
  add(routes_->of(from, to), bytes);
}

void LinkLoad::add(const Route& route, double bytes) {
  unsigned classes = 0;
  for (const LinkId link : route.links) {
    double& busy = busy_[link.at()];
    if (busy == 0) touched_.push_back(link);
    busy += bytes / routes_->rates().capacity[link.at()];
    classes |= 1U << static_cast<unsigned>(
                   routes_->cluster().links[link.at()].link_class);
  }
  for (std::size_t c = 0; c < kLinkClasses; ++c) {
    if ((classes >> c) & 1U) bytes_[c] += bytes;
  }
}

double LinkLoad::most() const {
  double most = 0;
  for (const LinkId link : touched_) most = std::max(most, busy_[link.at()]);
  return most;
}

namespace {

/// What devices do one after another in a wave.
class Wave {
 public:
  Wave(const Routes& routes, double element_bytes)
      : routes_(routes), bytes_(element_bytes), load_(routes) {}

  void add(const Step& step) {
    communicates_ |= !step.messages.empty() || !step.groups.empty();
    std::map<std::pair<DeviceId, DeviceId>, double> pairs;
    for (const Message& m : step.messages) {
      pairs[{m.from, m.to}] += count(m.box);
    }
    for (const auto& [pair, bytes] : pairs) {
      message(pair.first, pair.second, bytes);
    }
    for (const Copy& copy : step.copies) {
      if (step.operation == Operation::identity) continue;
      // Reads and writes, and reads the sum once more when it adds.
      copied_[copy.device] += count(copy.box) * (copy.add ? 3 : 2);
    }
    for (const Group& group : step.groups) add_own(step.operation, group);
  }

  void add(const Traffic& traffic) {
    for (const Flow& flow : traffic.flows) {
      load_.add(flow.from, flow.to, flow.bytes);
    }
    for (const auto& [device, time] : traffic.latency) latency_[device] += time;
  }

  Time total() const {
    Time latency;
    for (const auto& [device, time] : latency_) {
      latency = std::max(latency, time);
    }
    double local = 0;
    for (const auto& [device, bytes] : copied_) {
      const double rate = routes_.cluster().kind_of(device).memory_bandwidth.v;
      if (rate > 0) local = std::max(local, bytes / rate);
    }
    if (communicates_) latency += kStart;
    return troupe::seconds(load_.most() + local) + latency;
  }

 private:
  /// What members of a gather or exchange keep of their own.
  void add_own(Operation operation, const Group& group) {
    const bool keeps = operation == Operation::all_to_all ||
                       operation == Operation::all_gather ||
                       operation == Operation::split_all_gather;
    if (!keeps) return;
    for (const Part& write : group.writes) {
      for (const Part& read : group.reads) {
        if (read.member != write.member) continue;
        copied_[group.devices[static_cast<std::size_t>(read.member)]] +=
            2 * count(strategy::overlap(read.box, write.box));
      }
    }
  }

  double count(const Box& box) const {
    return static_cast<double>(strategy::elements(box)) * bytes_;
  }

  void message(DeviceId from, DeviceId to, double bytes) {
    const Route route = routes_.of(from, to);
    load_.add(route, bytes);
    const Time latency = routes_.latency(route);
    sent_[from] += latency;
    received_[to] += latency;
    latency_[from] = std::max(latency_[from], sent_[from]);
    latency_[to] = std::max(latency_[to], received_[to]);
  }

  const Routes& routes_;
  double bytes_;
  LinkLoad load_;
  bool communicates_ = false;
  std::map<DeviceId, Time> latency_, sent_, received_;
  std::map<DeviceId, double> copied_;
};

/// All groups of a step by one algorithm.
Traffic traffic_of(const Step& step, Algorithm algorithm, const Routes& routes,
                   double element_bytes) {
  Traffic traffic;
  for (const Group& group : step.groups) {
    add_group(group, step.operation, algorithm, routes, element_bytes, traffic);
  }
  return traffic;
}

/// The time of a wave whose collective steps run by `chosen`.
Time time_of(std::span<Step* const> steps, std::span<const Algorithm> chosen,
             const Routes& routes, double element_bytes) {
  Wave wave(routes, element_bytes);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    wave.add(*steps[i]);
    if (steps[i]->groups.empty()) continue;
    wave.add(traffic_of(*steps[i], chosen[i], routes, element_bytes));
  }
  return wave.total();
}

/// Chooses an algorithm for each step of a wave, one after another.
Time price_wave(std::span<Step* const> steps, const Routes& routes,
                double element_bytes) {
  std::vector<Algorithm> chosen(steps.size(), Algorithm::direct);
  Time best = time_of(steps, chosen, routes, element_bytes);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool fixed = steps[i]->groups.empty() ||
                       steps[i]->operation == Operation::all_to_all;
    if (fixed) continue;
    const bool nodes = spans_nodes(steps[i]->groups, routes.cluster());
    Algorithm least = Algorithm::direct;
    for (const Algorithm a : {Algorithm::ring, Algorithm::two_level}) {
      if (a == Algorithm::two_level && !nodes) continue;
      chosen[i] = a;
      const Time other = time_of(steps, chosen, routes, element_bytes);
      if (other >= best) continue;
      best = other;
      least = a;
    }
    chosen[i] = least;
  }
  for (std::size_t i = 0; i < steps.size(); ++i) {
    steps[i]->algorithm = chosen[i];
  }
  return best;
}

}  // namespace

Time price(Plan& plan, const Routes& routes) {
  const auto bytes = static_cast<double>(kernels::size_of(plan.dtype).v);
  Time sum;
  for (std::size_t i = 0; i < plan.steps.size();) {
    std::vector<Step*> wave;
    const int number = plan.steps[i].wave;
    for (; i < plan.steps.size() && plan.steps[i].wave == number; ++i) {
      wave.push_back(&plan.steps[i]);
    }
    sum += price_wave(wave, routes, bytes);
  }
  plan.predicted = sum;
  return sum;
}

}  // namespace troupe::reshard
