#include "reshard/modes.h"

#include <fmt/format.h>

namespace troupe::reshard {
namespace {

bool may_follow(RunLevel before, RunLevel after) {
  switch (after) {
    case RunLevel::topology:
      return false;
    case RunLevel::allocate:
      return before == RunLevel::topology || before == RunLevel::allocate ||
             before == RunLevel::update;
    case RunLevel::compute_only:
      return before == RunLevel::topology || before == RunLevel::allocate ||
             before == RunLevel::compute_only;
    case RunLevel::gradient:
    case RunLevel::update:
      return before != RunLevel::compute_only;
  }
  return false;
}

}  // namespace

std::string_view name_of(RunLevel level) {
  switch (level) {
    case RunLevel::topology:
      return "topology";
    case RunLevel::allocate:
      return "allocate";
    case RunLevel::compute_only:
      return "compute-only";
    case RunLevel::gradient:
      return "gradient";
    case RunLevel::update:
      return "update";
  }
  return "";
}

Result<Moves> moves_between(RunLevel before, RunLevel after,
                            bool one_state_layout) {
  if (!may_follow(before, after)) {
    return fail(Fault::input, fmt::format("a run to {} cannot follow one to {}",
                                          name_of(after), name_of(before)));
  }
  Moves moves;
  switch (before) {
    case RunLevel::topology:
      return moves;
    case RunLevel::allocate:
    case RunLevel::compute_only:
      moves.parameters = true;
      break;
    case RunLevel::gradient:
      moves.parameters = true;
      moves.gradients = true;
      break;
    case RunLevel::update:
      moves.states = !one_state_layout;
      moves.parameters = one_state_layout;
      break;
  }
  return moves;
}

}  // namespace troupe::reshard
