// The part of `troupe reshard` that moves a whole model between phases.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/result.h"
#include "reshard/switch.h"

namespace troupe::cli {

struct SwitchCommand {
  /// The strategy whose phases are switched; or two files, each with layouts
  /// of all tensors, or a strategy.
  std::string strategy, source, destination;
  std::string spelling, model, from, to, cluster;
  int case_index = -1;
  std::string use = "compute";
  std::int64_t bucket_bytes = 0;
  reshard::SenderRule senders = reshard::SenderRule::balanced;
  kernels::DType dtype = kernels::DType::bf16;
  bool json = false, check = false, no_plan_cache = false;
  bool explain = false;
};

void add_switch_options(CLI::App& command, SwitchCommand& options);
Result<int> run_switch(const SwitchCommand& options);
/// Lists the kept plans, or removes them.
Result<int> run_plans(bool clear, bool json);

/// Errors: input, naming the rules there are.
Result<reshard::SenderRule> sender_rule(const std::string& name);
/// Predicted makespan and bytes by link class of every rule.
void print_rules(const reshard::SwitchPlan& plan);

}  // namespace troupe::cli
