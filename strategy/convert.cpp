#include "strategy/convert.h"

#include "base/file.h"
#include "clusters/short_form.h"
#include "strategy/write.h"

namespace troupe::strategy {
namespace {

/// A file's content in place of its path; anything else as it is.
std::string standing_alone(const std::string& reference) {
  const bool path = !reference.empty() && reference.front() != '{' &&
                    !clusters::looks_like_short_form(reference) &&
                    (reference.find('/') != std::string::npos ||
                     reference.ends_with(".json"));
  if (!path) return reference;
  const auto json = read_json(reference);
  return json ? to_text(*json) : reference;
}

}  // namespace

Json native_of(const Plan& plan) {
  Strategy strategy = plan.strategy;
  strategy.model = standing_alone(strategy.model);
  strategy.cluster = standing_alone(strategy.cluster);
  return to_json(strategy);
}

Result<Json> convert_to_native(std::string_view path_or_name,
                               const LoadOptions& options) {
  TRY(const Plan plan, load_plan(path_or_name, options));
  return native_of(plan);
}

}  // namespace troupe::strategy
