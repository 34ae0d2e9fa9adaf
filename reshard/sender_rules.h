// The rules of the reference systems; `choose_senders` is the way to them.
#pragma once

#include "reshard/senders.h"

namespace troupe::reshard {

/// Every demand whole to one owner. `balanced` answers as `first_come`.
std::vector<Share> shares_by_rule(const Demands& demands, SenderRule rule,
                                  const clusters::Cluster& cluster);

}  // namespace troupe::reshard
