// Message times of the flow-level network against SimGrid, an independent
// simulator, whose CM02 model is set to plain max-min sharing: no bandwidth or
// latency factors, no cross traffic, no TCP window, no weight of slow links.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xbt/log.h>

#include <map>
#include <simgrid/s4u.hpp>

#include "sim/flows.h"
#include "sim/network.h"
#include "tests/support/fixtures.h"

namespace troupe::sim {
namespace {

/// A message over links of the scenario.
struct Message {
  std::vector<std::size_t> route;
  std::int64_t bytes = 0;
  Time start;
  Time latency;
};

struct Scenario {
  std::vector<double> capacity;  ///< bytes/s by link
  std::vector<Message> messages;
  double link_latency = 0;  ///< s, SimGrid's own; else slept after the message
};

using Ends = std::vector<double>;  // seconds, by message

/// Our answer: the engine's handling of flows, without tasks.
Ends ends_of(const std::vector<Activity>& activities,
             const std::vector<Time>& starts, std::size_t links) {
  FlowTable table(links);
  std::vector<FlowTable::Expected> changed;
  std::map<std::int32_t, FlowTable::Expected> next;  // by flow
  std::map<std::int32_t, std::size_t> message_of;
  std::multimap<Time, std::size_t> pending;
  for (std::size_t i = 0; i < starts.size(); ++i) pending.emplace(starts[i], i);
  Ends ends(starts.size());
  while (!pending.empty() || !next.empty()) {
    const auto first = std::min_element(
        next.begin(), next.end(),
        [](const auto& a, const auto& b) { return a.second.at < b.second.at; });
    if (first != next.end() &&
        (pending.empty() || first->second.at <= pending.begin()->first)) {
      const auto [flow, expected] = *first;
      const std::size_t i = message_of[flow];
      ends[i] = to_seconds(expected.at + activities[i].latency);
      next.erase(first);
      table.finish(flow, expected.at, changed);
    } else {
      const auto [at, i] = *pending.begin();
      pending.erase(pending.begin());
      message_of[table.start(activities[i], at, changed)] = i;
    }
    for (const auto& e : changed) next[e.flow] = e;
    changed.clear();
  }
  return ends;
}

std::vector<Time> starts_of(const Scenario& s) {
  std::vector<Time> out;
  for (const Message& m : s.messages) out.push_back(m.start);
  return out;
}

Ends ours(const Scenario& s) {
  std::vector<Activity> activities;
  for (const Message& m : s.messages) {
    Activity& a = activities.emplace_back();
    a.peak_rate = 1e300;
    for (const std::size_t l : m.route) {
      a.peak_rate = std::min(a.peak_rate, s.capacity[l]);
    }
    a.work = seconds(static_cast<double>(m.bytes) / a.peak_rate);
    a.latency = m.latency;
    for (const std::size_t l : m.route) {
      a.shares.push_back(
          {static_cast<std::int32_t>(l), a.peak_rate / s.capacity[l]});
    }
  }
  return ends_of(activities, starts_of(s), s.capacity.size());
}

/// SimGrid's answer, in a process that has its one engine to itself.
Ends simulate_by_simgrid(const Scenario& s) {
  namespace sg = simgrid::s4u;
  xbt_log_control_set("xbt_cfg.threshold:warning");
  sg::Engine engine("oracle");
  for (const char* setting :
       {"network/model:CM02", "network/bandwidth-factor:1",
        "network/latency-factor:1", "network/weight-S:0",
        "network/crosstraffic:0", "network/TCP-gamma:1e30",
        "maxmin/precision:1e-9", "surf/precision:1e-12"}) {
    sg::Engine::set_config(setting);
  }
  sg::NetZone* zone = sg::create_full_zone("zone");
  std::vector<sg::Link*> links;
  for (std::size_t l = 0; l < s.capacity.size(); ++l) {
    links.push_back(zone->create_link("l" + std::to_string(l), s.capacity[l])
                        ->set_latency(s.link_latency)
                        ->seal());
  }
  Ends ends(s.messages.size());
  for (std::size_t i = 0; i < s.messages.size(); ++i) {
    const Message& m = s.messages[i];
    sg::Host* from = zone->create_host("a" + std::to_string(i), 1e9)->seal();
    sg::Host* to = zone->create_host("b" + std::to_string(i), 1e9)->seal();
    std::vector<sg::LinkInRoute> route;
    for (const std::size_t l : m.route) route.emplace_back(links[l]);
    zone->add_route(from->get_netpoint(), to->get_netpoint(), nullptr, nullptr,
                    route, false);
    sg::Actor::create("m" + std::to_string(i), from, [&s, &ends, from, to, i] {
      const Message& message = s.messages[i];
      sg::this_actor::sleep_until(to_seconds(message.start));
      sg::Comm::sendto(from, to, static_cast<std::uint64_t>(message.bytes));
      if (s.link_latency == 0) {
        sg::this_actor::sleep_for(to_seconds(message.latency));
      }
      ends[i] = sg::Engine::get_clock();
    });
  }
  zone->seal();
  engine.run();
  return ends;
}

/// Empty when the process of SimGrid fails.
Ends simgrids(const Scenario& s) {
  int ends[2] = {-1, -1};
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    const Ends out = simulate_by_simgrid(s);
    const std::size_t bytes = out.size() * sizeof(double);
    const bool all =
        write(ends[1], out.data(), bytes) == static_cast<ssize_t>(bytes);
    _exit(all ? 0 : 1);
  }
  close(ends[1]);
  Ends out(s.messages.size());
  const std::size_t bytes = out.size() * sizeof(double);
  const bool all =
      child > 0 && read(ends[0], out.data(), bytes) ==
                       static_cast<ssize_t>(bytes);  // far below PIPE_BUF
  close(ends[0]);
  int status = 0;
  if (child > 0) waitpid(child, &status, 0);
  return all && status == 0 ? out : Ends{};
}

/// Requires the time that a message takes to agree to 1e-6 of it.
void expect_equal(const Scenario& s, const Ends& a, const Ends& b) {
  RC_ASSERT(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double start = to_seconds(s.messages[i].start);
    RC_LOG() << "message " << i << ": ours " << a[i] << ", SimGrid " << b[i]
             << "\n";
    RC_ASSERT(std::abs(a[i] - b[i]) <= 1e-6 * (a[i] - start));
  }
}

/// 2 to 8 links of 1 to 50 GB/s; 3 to 12 messages of 1 to 200 MB that start
/// within 20 ms and cross `hops` links, or 1 to 4 where it is 0.
Scenario random_scenario(std::size_t hops) {
  Scenario s;
  const int links =
      *rc::gen::inRange(hops == 0 ? 2 : static_cast<int>(hops), 9);
  for (int l = 0; l < links; ++l) {
    s.capacity.push_back(1e9 * *rc::gen::inRange(1, 51));
  }
  const int messages = *rc::gen::inRange(3, 13);
  for (int i = 0; i < messages; ++i) {
    Message& m = s.messages.emplace_back();
    const auto length = hops > 0 ? hops
                                 : static_cast<std::size_t>(*rc::gen::inRange(
                                       1, std::min(4, links) + 1));
    m.route = *rc::gen::unique<std::vector<std::size_t>>(
        length, rc::gen::inRange<std::size_t>(0, s.capacity.size()));
    m.bytes = *rc::gen::inRange(1'000'000, 200'000'001);
    m.start = seconds(1e-6 * *rc::gen::inRange(0, 20'000));
  }
  return s;
}

TEST(SimGrid, SharesALinkBetweenTwoMessages) {
  // 1 GB each over 1 GB/s, the second half a second later: they share from
  // 0.5 s to 1.5 s, then the second has 0.5 GB left.
  Scenario s{{1e9}, {{{0}, 1'000'000'000, {}, {}}}};
  s.messages.push_back({{0}, 1'000'000'000, seconds(0.5), {}});
  const Ends theirs = simgrids(s);
  ASSERT_EQ(theirs.size(), 2u);
  EXPECT_NEAR(theirs[0], 1.5, 1e-6);
  EXPECT_NEAR(theirs[1], 2.0, 1e-6);
  EXPECT_NEAR(ours(s)[0], 1.5, 1e-9);
  EXPECT_NEAR(ours(s)[1], 2.0, 1e-9);
}

// Latency follows the last byte, as with us.
RC_GTEST_PROP(SimGrid, AgreesOnRandomLinks, ()) {
  Scenario s = random_scenario(0);
  for (Message& m : s.messages) {
    m.latency = seconds(1e-6 * *rc::gen::inRange(0, 1000));
  }
  expect_equal(s, ours(s), simgrids(s));
}

// SimGrid's latency precedes the first byte. Where all messages have the
// same, that only moves the same sharing to later.
RC_GTEST_PROP(SimGrid, AgreesWithItsOwnLatencyWhereAllAreEqual, ()) {
  const auto hops = *rc::gen::inRange<std::size_t>(1, 5);
  Scenario s = random_scenario(hops);
  const int microseconds = *rc::gen::inRange(1, 1000);
  s.link_latency = 1e-6 * microseconds;
  for (Message& m : s.messages) {
    m.latency = seconds(s.link_latency) * static_cast<std::int64_t>(hops);
  }
  expect_equal(s, ours(s), simgrids(s));
}

// Messages between devices of clusters, routed and priced by our network.
RC_GTEST_PROP(SimGrid, AgreesOnRoutesOfClusters, ()) {
  const auto cluster = test::cluster_of(*rc::gen::element<std::string>(
      "8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes",
      "8 x h100-sxm per node, 100 Gbit/s per node, 4 nodes",
      "8 x a10 per node, 25 Gbit/s per node, 3 nodes"));
  const test::FlatCosts costs;
  const Network network(cluster, costs);
  Scenario s;
  for (const auto& link : cluster.links) {
    s.capacity.push_back(link.bandwidth.v);
  }
  const int devices = static_cast<int>(cluster.devices.size());
  std::vector<Activity> activities;
  const int messages = *rc::gen::inRange(3, 13);
  for (int i = 0; i < messages; ++i) {
    const int from = *rc::gen::inRange(0, devices);
    const int apart = *rc::gen::inRange(1, devices);
    const DeviceId a{from};
    const DeviceId b{(from + apart) % devices};
    Message& m = s.messages.emplace_back();
    m.bytes = *rc::gen::inRange(1'000'000, 200'000'001);
    m.start = seconds(1e-6 * *rc::gen::inRange(0, 20'000));
    const auto route = cluster.route(a, b);
    m.latency = route.latency;
    for (const auto link : route.links) m.route.push_back(link.at());
    const Network::Message message{a, b, Bytes{m.bytes}};
    activities.push_back(network.messages({&message, 1}));
  }
  expect_equal(s, ends_of(activities, starts_of(s), network.links()),
               simgrids(s));
}

}  // namespace
}  // namespace troupe::sim
