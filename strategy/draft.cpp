#include "strategy/draft.h"

#include <fmt/format.h>

#include "strategy/ranges.h"

namespace troupe::strategy {
namespace {

std::string devices_text(const Stage& stage) {
  std::vector<int> devices;
  for (const Member& member : stage.members) {
    for (const DeviceId device : member.devices) devices.push_back(device.v);
  }
  return format_ranges(devices);
}

}  // namespace

std::string own_path(const Places& places, std::string_view where) {
  const std::size_t prefix = places.file().size() + 2;  // "file: "
  return std::string(where.size() > prefix ? where.substr(prefix) : "");
}

void drop_empty_stages(Draft& draft, Pipeline& pipeline,
                       const std::string& part, const std::string& own) {
  std::vector<Stage> kept;
  for (std::size_t s = 0; s < pipeline.stages.size(); ++s) {
    Stage& stage = pipeline.stages[s];
    const std::string from = fmt::format("{}/stages/{}", part, s);
    const std::string to = fmt::format("{}/stages/{}", part, kept.size());
    if (stage.layers() > 0) {
      if (!own.empty()) {
        draft.places.set(to, fmt::format("{}/{}", own, s), Follow::rest);
      }
      kept.push_back(std::move(stage));
      continue;
    }
    const std::string where =
        own.empty() ? draft.places.where(from + "/layers")
                    : fmt::format("{}: {}/{}", draft.places.file(), own, s);
    draft.findings.warning(
        where, fmt::format("a stage without layers; it is left out and its "
                           "devices ({}) stay idle",
                           devices_text(stage)));
  }
  pipeline.stages = std::move(kept);
}

}  // namespace troupe::strategy
