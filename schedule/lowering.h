// The parts of lowering, shared between its sources only.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "reshard/price.h"
#include "schedule/blocks.h"
#include "schedule/lower.h"
#include "schedule/tokens.h"

namespace troupe::schedule {

/// Layers [first, last) that the same stages hold, with the embedding or
/// head when they touch an end of the model.
struct Segment {
  int first = 0, last = 0;
  bool embedding = false, head = false;
  struct Holder {
    StageId stage;
    int chunk = 0;
    int part = 0;  ///< of the chunk's last backward, when that is cut
  };
  std::vector<Holder> holders;
  models::ParameterCount parameters;
  int replicas = 0;  ///< tensor-parallel groups that hold it
};

/// Which way each hand-over takes.
class HandOverWays {
 public:
  /// Of hand-overs with the same kinds of links and sizes, the price of one.
  using Key = std::vector<std::int64_t>;
  /// A hand-over of a schedule: the sender's stage and chunk, the direction,
  /// the micro-batch.
  using Place = std::tuple<StageId, int, bool, std::int32_t>;

  /// Takes all ways from `schedule`.
  void follow(const Schedule& schedule);
  std::map<Place, strategy::HandOver> followed;
  bool follows = false;
  std::map<Key, strategy::HandOver> cheapest;
  std::optional<reshard::Rates> rates;
};

/// Everything known while a schedule is put together.
struct Lowering {
  const strategy::Strategy& strategy;
  const strategy::Phase& phase;
  const models::Model& model;
  const clusters::Cluster& cluster;
  const Orders& orders;
  BlockShop shop;
  Schedule out;

  /// Stages of each pipeline that hold layers, in order.
  std::vector<std::vector<StageId>> pipelines;
  /// The strategy's stage behind each StageId.
  std::vector<const strategy::Stage*> sources;
  std::vector<int> stage_replicas;  ///< data-parallel copies of its layers
  /// Edges (task, what it waits for), turned into slices at the end.
  std::vector<std::pair<TaskId, TaskId>> waits;
  std::map<std::vector<std::vector<std::int64_t>>, BodyId> bodies;
  HandOverWays ways;

  TaskId add(Task task) {
    out.tasks.push_back(task);
    return make_id<TaskId>(out.tasks.size() - 1);
  }
  void wait(TaskId task, TaskId before) { waits.emplace_back(task, before); }
};

void lower_stages(Lowering& l);
void lower_pipeline(Lowering& l, std::size_t pipeline);
void lower_step_end(Lowering& l, std::span<const Segment> parts);
std::vector<Segment> segments(const Lowering& l);

/// What a rank of a stage holds of parameters that `replicas` tensor-parallel
/// groups hold.
struct Held {
  StageId stage;
  std::int64_t elements = 0;
  int replicas = 1;
};
/// All that stages hold: segments, and tied tables where they are used.
std::vector<Held> held_by_stages(const Lowering& l,
                                 std::span<const Segment> parts);
void lower_static_memory(Lowering& l, std::span<const Segment> segments);

/// A backward in parts: which one this is.
struct Part {
  int index = 0;
  int count = 1;
};
/// Parts of a chunk's last backward: more than one when its gradients are
/// synced while it runs.
int backward_parts(const Lowering& l, const ChunkRange& chunk);
/// Layers of a part; part 0 has the deepest ones.
ChunkRange part_layers(const ChunkRange& chunk, Part part);

BodyId body_of(Lowering& l, StageId stage, const Slot& slot, int seq_len,
               Part part);
/// Between whom, and how much, activations (or their gradients) pass.
struct Passage {
  StageId from, to;
  int micro_batch_size = 1;
  int seq_len = 0;
};
/// The transfers of a hand-over; `shared` is empty where one is enough.
struct HandedOver {
  Transfer sent;
  std::optional<Transfer> shared;
};
/// Requires: `way` is not `cheapest`.
HandedOver hand_over(const Lowering& l, const Passage& passage,
                     strategy::HandOver way);
/// The way that the strategy, or the schedule that is followed, wants, or the
/// one of least predicted time at nominal bandwidths; ties go to the earlier.
/// Only batched where no rank of a receiving member needs another's rows.
strategy::HandOver way_of(Lowering& l, const Passage& passage,
                          const HandOverWays::Place& place);

}  // namespace troupe::schedule
