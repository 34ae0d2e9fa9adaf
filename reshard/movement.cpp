#include "reshard/movement.h"

#include <algorithm>
#include <map>

#include "reshard/collectives.h"

namespace troupe::reshard {

Box rows_of(const Box& box, std::int64_t first, std::int64_t last) {
  Box out = box;
  const std::size_t d = longest(box);
  out[d] = {box[d].first + first, box[d].first + last};
  return out;
}

namespace {

/// Adds what one destination holding lacks of a region.
void add_demand(const Problem& problem, const Region& region, std::int32_t w,
                std::int64_t element_bytes, Pieces& pieces,
                std::map<int, std::int32_t>& first_piece) {
  const Held& want = problem.destination()[static_cast<std::size_t>(w)];
  const std::vector<int>& terms = problem.terms(want.summand);
  if (terms.size() != 1) return;
  if (problem.holder(want.device, terms[0], region.have) >= 0) return;
  const auto owners = static_cast<std::uint32_t>(pieces.demands.owners.size());
  for (const std::int32_t h : region.have) {
    const Held& held = problem.source()[static_cast<std::size_t>(h)];
    if (held.summand == terms[0]) pieces.demands.owners.push_back(held.device);
  }
  const auto count =
      static_cast<std::uint32_t>(pieces.demands.owners.size()) - owners;
  check(count > 0, "a needed element has an owner");
  // The boxes of a region, once for each summand.
  const auto [at, fresh] = first_piece.try_emplace(
      terms[0], static_cast<std::int32_t>(pieces.boxes.size()));
  if (fresh) {
    pieces.boxes.insert(pieces.boxes.end(), region.boxes.begin(),
                        region.boxes.end());
  }
  for (std::size_t b = 0; b < region.boxes.size(); ++b) {
    const Box& box = region.boxes[b];
    pieces.demands.list.push_back(
        {want.device, owners, count, at->second + static_cast<std::int32_t>(b),
         strategy::elements(box) * element_bytes, box[longest(box)].size()});
    pieces.wants.push_back(w);
  }
}

}  // namespace

void add_demands(const Problem& problem, std::int64_t element_bytes,
                 Pieces& pieces) {
  for (const Region& region :
       regions_of(problem.cells(), problem.have(), problem.want(), By::both)) {
    std::map<int, std::int32_t> first_piece;
    for (const std::int32_t w : region.want) {
      add_demand(problem, region, w, element_bytes, pieces, first_piece);
    }
  }
}

Step move_step(const Problem& problem, SenderRule rule, const Routes& routes,
               std::int64_t element_bytes) {
  Step step;
  step.operation = Operation::batched_send_receive;
  step.copies = kept(problem);
  Pieces pieces;
  add_demands(problem, element_bytes, pieces);
  const Senders senders = choose_senders(pieces.demands, rule, routes);
  // A device may hold a summand in several buffers.
  std::map<DeviceId, std::vector<const Held*>> have;
  for (const Held& held : problem.source()) have[held.device].push_back(&held);
  for (const Share& share : senders.chosen.shares) {
    const Demand& demand = pieces.demands.list[share.demand];
    const Box& piece = pieces.boxes[static_cast<std::size_t>(demand.piece)];
    const Box box = rows_of(piece, share.first, share.last);
    const Held& to = problem.destination()[static_cast<std::size_t>(
        pieces.wants[share.demand])];
    const int term = problem.terms(to.summand).front();
    for (const Held* from : have[share.from]) {
      if (from->summand != term) continue;
      if (overlaps(from->boxes, {&box, 1}).empty()) continue;
      step.messages.push_back(
          {share.from, demand.to, from->buffer, to.buffer, box});
      break;
    }
  }
  return step;
}

}  // namespace troupe::reshard
