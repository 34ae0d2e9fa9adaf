#include "exec/transform.h"

#include <algorithm>

namespace troupe::exec {
namespace {

using reshard::Copy;
using reshard::DeviceId;
using reshard::Group;
using reshard::Message;
using reshard::Part;
using reshard::Plan;
using reshard::Step;

/// One rank at work on one plan.
class Transformer {
 public:
  Transformer(const Change& change, DeviceId self, const RankOf& ranks,
              Device& device, Communicator& communicator, Time& time)
      : change_(change),
        self_(self),
        ranks_(ranks),
        device_(device),
        communicator_(communicator),
        time_(time),
        dtype_(change.plan->dtype) {}

  Result<void> run() {
    const Plan& plan = *change_.plan;
    TRY_DO(make_temporaries());
    std::size_t first = 0;
    while (first < plan.steps.size()) {
      std::size_t last = first;
      while (last < plan.steps.size() &&
             plan.steps[last].wave == plan.steps[first].wave) {
        ++last;
      }
      TRY_DO(run_wave(first, last));
      first = last;
    }
    return {};
  }

 private:
  /// Temporaries hold what is written into them.
  Result<void> make_temporaries() {
    std::map<int, std::vector<Box>> written;
    const auto enter = [&](int buffer, const Box& box) {
      if (buffer < reshard::kFirstTemporary) return;
      auto& boxes = written[buffer];
      // The same box may be added to several times.
      if (std::ranges::find(boxes, box) == boxes.end()) boxes.push_back(box);
    };
    for (const Step& step : change_.plan->steps) {
      for (const Copy& c : step.copies) {
        if (c.device == self_) enter(c.to, c.box);
      }
      for (const Message& m : step.messages) {
        if (m.to == self_) enter(m.to_buffer, m.box);
      }
      for (const Group& g : step.groups) {
        for (const Part& p : g.writes) {
          if (g.devices[static_cast<std::size_t>(p.member)] == self_) {
            enter(p.buffer, p.box);
          }
        }
      }
    }
    for (const auto& [buffer, boxes] : written) {
      TRY(temporaries_[buffer], OwnedStorage::of(device_, boxes, dtype_));
    }
    return {};
  }

  const Storage* storage(int buffer) const {
    if (buffer == reshard::kSource) return change_.source;
    if (buffer == reshard::kDestination) return change_.destination;
    const auto it = temporaries_.find(buffer);
    return it == temporaries_.end() ? nullptr : &it->second.storage;
  }

  /// The box of a buffer, packed, at `to`.
  Result<void> take(int buffer, const Box& box, std::byte* to) {
    if (buffer == reshard::kZeros) {
      return device_.zero(to, size_of(box, dtype_));
    }
    const Storage* const from = storage(buffer);
    if (from == nullptr) {
      return fail(Fault::infeasible, "a plan reads a buffer that is not there");
    }
    return read(device_, *from, box, to);
  }

  Result<void> put(int buffer, const Box& box, const std::byte* from,
                   bool add) {
    const Storage* const to = storage(buffer);
    if (to == nullptr) {
      return fail(Fault::infeasible,
                  "a plan writes a buffer that is not there");
    }
    return write(device_, *to, box, from, add);
  }

  Result<Buffer> packed(int buffer, const Box& box) {
    TRY(Buffer out, Buffer::of(device_, size_of(box, dtype_)));
    TRY_DO(take(buffer, box, out.at({})));
    return out;
  }

  Result<void> run_wave(std::size_t first, std::size_t last) {
    for (std::size_t s = first; s < last; ++s) TRY_DO(send(s));
    for (std::size_t s = first; s < last; ++s) {
      for (const Copy& c : change_.plan->steps[s].copies) {
        if (c.device != self_) continue;
        TRY(const Buffer box, packed(c.from, c.box));
        TRY_DO(put(c.to, c.box, box.at({}), c.add));
      }
    }
    for (std::size_t s = first; s < last; ++s) TRY_DO(receive(s));
    for (std::size_t s = first; s < last; ++s) {
      for (const Group& g : change_.plan->steps[s].groups) {
        const auto it = std::ranges::find(g.devices, self_);
        if (it == g.devices.end()) continue;
        TRY_DO(join(g, static_cast<int>(it - g.devices.begin())));
      }
    }
    return {};
  }

  Tag tag_of(std::size_t step, std::size_t message) const {
    return change_.tag + (static_cast<Tag>(step) << 24) +
           static_cast<Tag>(message);
  }

  Result<void> send(std::size_t s) {
    const auto& messages = change_.plan->steps[s].messages;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const Message& m = messages[i];
      if (m.from != self_) continue;
      TRY(const Buffer box, packed(m.from_buffer, m.box));
      TRY_DO(communicator_.send(
          ranks_.at(m.to), tag_of(s, i),
          {box.at({}), static_cast<std::size_t>(box.size().v)}, time_));
    }
    return {};
  }

  Result<void> receive(std::size_t s) {
    const auto& messages = change_.plan->steps[s].messages;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const Message& m = messages[i];
      if (m.to != self_) continue;
      TRY(const Buffer box, Buffer::of(device_, size_of(m.box, dtype_)));
      TRY_DO(communicator_.receive(
          ranks_.at(m.from), tag_of(s, i),
          {box.at({}), static_cast<std::size_t>(box.size().v)}, time_));
      TRY_DO(put(m.to_buffer, m.box, box.at({}), false));
    }
    return {};
  }

  static std::vector<const Part*> parts_of(const std::vector<Part>& parts,
                                           int member) {
    std::vector<const Part*> out;
    for (const Part& p : parts) {
      if (p.member == member) out.push_back(&p);
    }
    return out;
  }

  /// All members read the same boxes: their sum is an all-reduce.
  bool sums(const Group& g) const {
    const auto first = parts_of(g.reads, 0);
    for (std::size_t m = 1; m < g.devices.size(); ++m) {
      const auto other = parts_of(g.reads, static_cast<int>(m));
      const auto same = [](const Part* a, const Part* b) {
        return a->box == b->box;
      };
      if (!std::ranges::equal(first, other, same)) return false;
    }
    return true;
  }

  Result<void> join(const Group& g, int member) {
    std::vector<RankId> group;
    for (const DeviceId d : g.devices) group.push_back(ranks_.at(d));
    const std::vector<const Part*> reads = parts_of(g.reads, member);
    Bytes size;
    for (const Part* p : reads) size += size_of(p->box, dtype_);
    TRY(Buffer mine, Buffer::of(device_, size));
    Bytes at;
    for (const Part* p : reads) {
      TRY_DO(take(p->buffer, p->box, mine.at(at)));
      at += size_of(p->box, dtype_);
    }
    const auto bytes = [](const Buffer& b) {
      return std::span(b.at({}), static_cast<std::size_t>(b.size().v));
    };
    if (sums(g)) {
      TRY_DO(communicator_.all_reduce(group, dtype_, bytes(mine), time_));
      return spread(g, member, mine, reads);
    }
    std::vector<Bytes> sizes(g.devices.size());
    std::vector<const Part*> all;
    Bytes total;
    for (std::size_t m = 0; m < sizes.size(); ++m) {
      for (const Part* p : parts_of(g.reads, static_cast<int>(m))) {
        sizes[m] += size_of(p->box, dtype_);
        all.push_back(p);
      }
      total += sizes[m];
    }
    TRY(Buffer whole, Buffer::of(device_, total));
    TRY_DO(communicator_.all_gather(group, bytes(mine), sizes, bytes(whole),
                                    time_));
    return spread(g, member, whole, all);
  }

  /// Writes what the member is to get of `boxes`, which lie packed one after
  /// the other; what several contain is summed in their order.
  Result<void> spread(const Group& g, int member, const Buffer& data,
                      const std::vector<const Part*>& boxes) {
    Storage from{dtype_, {}};
    Bytes at;
    for (const Part* p : boxes) {
      from.pieces.push_back({p->box, data.at(at), packed_strides(p->box)});
      at += size_of(p->box, dtype_);
    }
    for (const Part* p : parts_of(g.writes, member)) {
      TRY(const Buffer sum, Buffer::of(device_, size_of(p->box, dtype_)));
      Storage to{dtype_, {{p->box, sum.at({}), packed_strides(p->box)}}};
      for (const Piece& piece : from.pieces) {
        const Box common = strategy::overlap(piece.box, p->box);
        if (strategy::elements(common) == 0) continue;
        TRY(const Buffer part, Buffer::of(device_, size_of(common, dtype_)));
        TRY_DO(read(device_, {dtype_, {piece}}, common, part.at({})));
        TRY_DO(write(device_, to, common, part.at({}), true));
      }
      TRY_DO(put(p->buffer, p->box, sum.at({}), false));
    }
    return {};
  }

  const Change& change_;
  DeviceId self_;
  const RankOf& ranks_;
  Device& device_;
  Communicator& communicator_;
  Time& time_;
  kernels::DType dtype_;
  std::map<int, OwnedStorage> temporaries_;
};

}  // namespace

Result<void> transform(const Change& change, DeviceId self, const RankOf& ranks,
                       Device& device, Communicator& communicator, Time& time) {
  return Transformer(change, self, ranks, device, communicator, time).run();
}

}  // namespace troupe::exec
