#include "strategy/one_device.h"

namespace troupe::strategy {

Strategy one_device(const Strategy& like, int layers,
                    std::span<const std::int32_t> lengths) {
  Strategy out;
  out.name = "one device";
  out.model = like.model;
  out.dtype = like.dtype;
  out.gradient_dtype = like.gradient_dtype;
  out.seq_len = like.seq_len;
  Stage stage;
  stage.members = {{{DeviceId{0}}, 1.0}};
  stage.chunks = {{0, layers}};
  Pipeline pipeline;
  pipeline.stages = {stage};
  pipeline.micro_batches = static_cast<int>(lengths.size());
  pipeline.micro_batch_seq_lens.assign(lengths.begin(), lengths.end());
  Phase phase;
  phase.name = "all";
  phase.pipelines = {pipeline};
  out.phases = {phase};
  return out;
}

}  // namespace troupe::strategy
