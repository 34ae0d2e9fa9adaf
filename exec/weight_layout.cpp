#include "exec/weight_layout.h"

#include <algorithm>

#include "base/units.h"

namespace troupe::exec {

std::vector<std::string> parts_of(std::string_view name) {
  std::vector<std::string> out;
  for (;;) {
    const std::size_t plus = name.find('+');
    out.emplace_back(name.substr(0, plus));
    if (plus == std::string_view::npos) return out;
    name.remove_prefix(plus + 1);
  }
}

std::vector<std::int64_t> local_shape(const models::Parameter& parameter,
                                      std::int64_t tp) {
  std::vector<std::int64_t> shape = parameter.shape;
  if (parameter.cut == models::Cut::none) return shape;
  std::int64_t& cut = shape[static_cast<std::size_t>(parameter.dimension)];
  cut = parameter.cut == models::Cut::kv_heads
            ? std::max<std::int64_t>(cut / tp, 1)
            : ceil_div(cut, tp);
  return shape;
}

std::vector<bool> counted_boxes(const strategy::Annotation& annotation,
                                const std::vector<strategy::Holding>& all,
                                std::size_t self) {
  // Holdings are in the order of subgroups and devices. Subgroups that
  // replicate hold the same numbers: only the first one counts.
  std::size_t first = 0;
  std::size_t last = 0;
  std::size_t group = 0;
  for (; group < annotation.groups.size(); ++group) {
    last = first + annotation.groups[group].devices.size();
    if (self < last) break;
    first = last;
  }
  std::vector<bool> out;
  for (const Box& box : all[self].boxes) {
    bool counts =
        group == 0 || annotation.across != strategy::Across::replicated;
    for (std::size_t i = first; i < self; ++i) {
      counts =
          counts && std::ranges::find(all[i].boxes, box) == all[i].boxes.end();
    }
    out.push_back(counts);
  }
  return out;
}

}  // namespace troupe::exec
