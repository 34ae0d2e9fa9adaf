#include "schedule/order.h"

#include <algorithm>

namespace troupe::schedule {
namespace {

/// Forwards (or backwards) of an interleaved stage in their own order.
std::vector<Slot> interleaved_side(TaskKind kind, int stages, int chunks,
                                   int micro_batches) {
  std::vector<Slot> out;
  for (int group = 0; group < micro_batches; group += stages) {
    const int end = std::min(group + stages, micro_batches);
    for (int k = 0; k < chunks; ++k) {
      const int chunk = kind == TaskKind::forward ? k : chunks - 1 - k;
      for (int m = group; m < end; ++m) out.push_back({kind, chunk, m});
    }
  }
  return out;
}

/// Warm-up forwards, then pairs, then what is left.
std::vector<Slot> merge(const std::vector<Slot>& forwards,
                        const std::vector<Slot>& backwards,
                        std::size_t warm_up) {
  std::vector<Slot> out;
  out.reserve(forwards.size() + backwards.size());
  warm_up = std::min(warm_up, forwards.size());
  std::size_t f = 0;
  std::size_t b = 0;
  while (f < warm_up) out.push_back(forwards[f++]);
  while (f < forwards.size()) {
    out.push_back(forwards[f++]);
    out.push_back(backwards[b++]);
  }
  while (b < backwards.size()) out.push_back(backwards[b++]);
  return out;
}

}  // namespace

std::vector<Slot> one_f_one_b(int stage, int stages, int micro_batches) {
  return merge(interleaved_side(TaskKind::forward, 1, 1, micro_batches),
               interleaved_side(TaskKind::backward, 1, 1, micro_batches),
               static_cast<std::size_t>(stages - 1 - stage));
}

std::vector<Slot> gpipe(int micro_batches) {
  return merge(interleaved_side(TaskKind::forward, 1, 1, micro_batches),
               interleaved_side(TaskKind::backward, 1, 1, micro_batches),
               static_cast<std::size_t>(micro_batches));
}

std::vector<Slot> interleaved(int stage, int stages, int chunks,
                              int micro_batches) {
  const auto forwards =
      interleaved_side(TaskKind::forward, stages, chunks, micro_batches);
  const auto backwards =
      interleaved_side(TaskKind::backward, stages, chunks, micro_batches);
  const int warm_up = 2 * (stages - 1 - stage) + (chunks - 1) * stages;
  // A last group smaller than the pipeline shifts which forward a backward
  // waits for; then only the full warm-up is free of deadlock.
  const bool whole = micro_batches % stages == 0;
  return merge(forwards, backwards,
               whole && chunks > 1 ? static_cast<std::size_t>(warm_up)
               : chunks == 1 ? static_cast<std::size_t>(stages - 1 - stage)
                             : forwards.size());
}

std::string to_string(const Slot& slot) {
  const char letter = slot.kind == TaskKind::forward          ? 'F'
                      : slot.kind == TaskKind::backward       ? 'B'
                      : slot.kind == TaskKind::backward_input ? 'I'
                                                              : 'W';
  std::string out = letter + std::to_string(slot.micro_batch);
  if (slot.chunk > 0) out += "." + std::to_string(slot.chunk);
  return out;
}

}  // namespace troupe::schedule
