// The checker of whole switches.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "reshard/verify.h"

namespace troupe::reshard {
namespace {

constexpr std::size_t kMostComplaints = 20;

/// A part of a plan with the transfers of one tensor alone, so that taking
/// it out does not walk over all the others.
std::vector<SwitchPlan> by_tensor(const SwitchPlan& plan) {
  std::vector<SwitchPlan> out(plan.class_of.size());
  for (const Transfer& t : plan.transfers) {
    out[static_cast<std::size_t>(t.tensor)].transfers.push_back(t);
  }
  return out;
}

void check_buckets(const SwitchPlan& plan,
                   std::span<const TensorChange> changes, Bytes limit,
                   std::vector<std::string>& wrong) {
  Bytes moved, most;
  for (std::size_t b = 0; b < plan.buckets.size(); ++b) {
    const Bucket& bucket = plan.buckets[b];
    std::map<DeviceId, std::int64_t> held;
    for (std::size_t t = bucket.first; t < bucket.last; ++t) {
      const Transfer& transfer = plan.transfers[t];
      const auto& change = changes[static_cast<std::size_t>(transfer.tensor)];
      const std::int64_t bytes = strategy::elements(plan.box_of(transfer)) *
                                 kernels::size_of(change.dtype).v;
      if (bytes != transfer.bytes) {
        wrong.push_back(fmt::format("{}: a transfer of {} bytes says {}",
                                    change.name, bytes, transfer.bytes));
      }
      held[transfer.from] += bytes;
      held[transfer.to] += bytes;
      moved.v += bytes;
    }
    Bytes peak;
    for (const auto& [device, bytes] : held) {
      peak = std::max(peak, Bytes{bytes});
    }
    most = std::max(most, peak);
    const bool over = limit.v > 0 && peak > limit;
    if (peak != bucket.peak || over) {
      wrong.push_back(
          fmt::format("bucket {} holds {} bytes on a device, says "
                      "{}, may {}",
                      b, peak.v, bucket.peak.v, limit.v));
    }
  }
  if (moved != plan.moved || most != plan.peak) {
    wrong.push_back(
        fmt::format("{} bytes move and {} are held at once, but "
                    "the plan says {} and {}",
                    moved.v, most.v, plan.moved.v, plan.peak.v));
  }
}

}  // namespace

Result<std::vector<std::string>> wrong_with(
    const SwitchPlan& plan, std::span<const TensorChange> changes,
    Bytes limit) {
  std::vector<std::string> wrong;
  if (plan.class_of.size() != changes.size()) {
    wrong.push_back(fmt::format("a plan of {} tensors for {}",
                                plan.class_of.size(), changes.size()));
    return wrong;
  }
  check_buckets(plan, changes, limit, wrong);
  std::vector<SwitchPlan> alone = by_tensor(plan);
  for (std::size_t t = 0; t < changes.size(); ++t) {
    if (wrong.size() >= kMostComplaints) break;
    // What box_of needs: the tensor's own class.
    const auto kind = static_cast<std::size_t>(plan.class_of[t]);
    alone[t].classes = {plan.classes[kind]};
    alone[t].class_of = {0};
    for (Transfer& transfer : alone[t].transfers) transfer.tensor = 0;
    TRY(const Plan one, plan_of(alone[t], changes.subspan(t, 1), 0));
    TRY(const auto problems, wrong_with(one, source_of(changes[t])));
    for (const std::string& problem : problems) {
      wrong.push_back(changes[t].name + ": " + problem);
    }
  }
  wrong.resize(std::min(wrong.size(), kMostComplaints));
  return wrong;
}

}  // namespace troupe::reshard
