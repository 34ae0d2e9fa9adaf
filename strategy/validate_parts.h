// What the checks of a strategy share. Internal to this folder.
#pragma once

#include <fmt/format.h>

#include <map>
#include <string>
#include <string_view>

#include "strategy/validate.h"

namespace troupe::strategy {

/// The inputs of validation and the findings so far.
class Checker {
 public:
  Checker(const Strategy& s, const models::Model& m, const clusters::Cluster& c,
          const Places& p)
      : strategy(s), model(m), cluster(c), places(p) {}

  const Strategy& strategy;
  const models::Model& model;
  const clusters::Cluster& cluster;
  const Places& places;

  void error(const std::string& part, std::string message) {
    findings_.error(places.where(part), std::move(message));
  }
  void warning(const std::string& part, std::string message) {
    findings_.warning(places.where(part), std::move(message));
  }
  /// An error that equal replicas would repeat: reported once per place.
  void error_once(const std::string& part, std::string message);
  /// A warning of which only the first place and the count are reported.
  void tally(std::string_view what, const std::string& part,
             std::string message);

  /// The findings, with the tallies at their end.
  Findings take();

 private:
  struct Tally {
    std::string where;
    std::string message;
    int count = 0;
  };
  Findings findings_;
  std::map<std::string, Tally, std::less<>> tallies_;
  std::map<std::string, int, std::less<>> reported_;
};

/// One pipeline by itself: micro-batches, sequence lengths, layers, stages.
void check_pipeline(Checker& checker, const Pipeline& pipeline,
                    const std::string& part);
/// One stage: members, devices, divisibility.
void check_stage(Checker& checker, const Pipeline& pipeline, const Stage& stage,
                 const std::string& part);
void check_recompute(Checker& checker, const RecomputeRule& rule,
                     const std::string& part);

}  // namespace troupe::strategy
