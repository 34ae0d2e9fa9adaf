#include "strategy/short_form.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace troupe::strategy {
namespace {

constexpr std::array<std::pair<const char*, Axis>, 4> kAxes{
    {{"tp", Axis::tp}, {"cp", Axis::cp}, {"dp", Axis::dp}, {"pp", Axis::pp}}};

constexpr std::size_t at(Axis axis) { return static_cast<std::size_t>(axis); }

std::size_t u(int n) { return static_cast<std::size_t>(n); }

/// Rank of a point of the grid, whose coordinates go by axis.
std::size_t rank_of(const RankOrder& order, const std::array<int, 4>& size,
                    const std::array<int, 4>& point) {
  std::size_t rank = 0;
  for (std::size_t i = order.size(); i-- > 0;) {
    rank = rank * u(size[at(order[i])]) + u(point[at(order[i])]);
  }
  return rank;
}

std::vector<LayerRange> chunks_of(const ShortForm& form,
                                  const std::vector<int>& counts, int stage) {
  std::vector<LayerRange> out;
  int first = 0;
  for (std::size_t v = 0; v < counts.size(); ++v) {
    const int last = first + counts[v];
    if (v % u(form.pp) == u(stage)) out.push_back({first, last});
    first = last;
  }
  return out;
}

}  // namespace

std::optional<RankOrder> parse_rank_order(std::string_view text) {
  std::vector<Axis> found;
  while (!text.empty()) {
    const std::size_t dash = text.find('-');
    const std::string_view word = text.substr(0, dash);
    const auto it = std::find_if(kAxes.begin(), kAxes.end(), [&](auto& axis) {
      return axis.first == word;
    });
    if (it != kAxes.end()) {
      if (std::count(found.begin(), found.end(), it->second)) return {};
      found.push_back(it->second);
    } else if (word != "ep") {
      return {};
    }
    if (dash == std::string_view::npos) break;
    text.remove_prefix(dash + 1);
  }
  if (found.size() != 4) return {};
  return RankOrder{found[0], found[1], found[2], found[3]};
}

std::string to_string(const RankOrder& order) {
  std::string out;
  for (const Axis axis : order) {
    if (!out.empty()) out += '-';
    out += kAxes[at(axis)].first;
  }
  return out;
}

std::int64_t rank_count(const ShortForm& form) {
  constexpr std::int64_t kMost = std::int64_t{1} << 62;
  std::int64_t out = 1;
  for (const int n : {form.dp, form.tp, form.pp, form.cp}) {
    if (__builtin_mul_overflow(out, std::int64_t{n}, &out) || out > kMost) {
      return kMost;
    }
  }
  return out;
}

std::vector<int> even_split(int layers, int parts) {
  if (parts < 1) return {};
  std::vector<int> out(u(parts), layers / parts);
  std::vector<int> order(u(parts));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return std::abs(2 * a - (parts - 1)) < std::abs(2 * b - (parts - 1));
  });
  for (int i = 0; i < layers % parts; ++i) ++out[u(order[u(i)])];
  return out;
}

std::vector<Pipeline> pipelines_of(const ShortForm& form, int layers) {
  const std::vector<int> counts =
      form.layers_per_stage.empty()
          ? even_split(layers, form.pp * form.interleave)
          : form.layers_per_stage;
  const std::array<int, 4> size{form.tp, form.cp, form.dp, form.pp};
  std::vector<Pipeline> out(u(form.dp));
  for (int d = 0; d < form.dp; ++d) {
    Pipeline& pipeline = out[u(d)];
    pipeline.micro_batches = form.micro_batches;
    pipeline.micro_batch_size = form.micro_batch_size;
    for (int s = 0; s < form.pp; ++s) {
      Stage stage;
      stage.chunks = chunks_of(form, counts, s);
      for (int c = 0; c < form.cp; ++c) {
        Member member{.devices = {}, .share = 1.0 / form.cp};
        for (int t = 0; t < form.tp; ++t) {
          const std::size_t rank = rank_of(form.order, size, {t, c, d, s});
          member.devices.push_back(form.devices.empty()
                                       ? make_id<DeviceId>(rank)
                                       : form.devices[rank]);
        }
        stage.members.push_back(std::move(member));
      }
      pipeline.stages.push_back(std::move(stage));
    }
  }
  return out;
}

}  // namespace troupe::strategy
