#include "kernels/cuda/attention_choice.h"

#include <cstdio>
#include <cstdlib>

namespace troupe::kernels::cuda {

bool AttentionTimes::use_cudnn(AttentionBody wanted) const {
  if (!refusal.empty()) return false;
  switch (wanted) {
    case AttentionBody::own:
      return false;
    case AttentionBody::cudnn:
      return true;
    case AttentionBody::fastest:
      return cudnn > 0 && cudnn < own;
  }
  return false;
}

Result<AttentionTimes> try_both(const AttentionTrial& trial) {
  AttentionTimes times;
  const auto cudnn = trial.cudnn();
  TRY(times.own, trial.own());
  if (!cudnn) {
    times.refusal = cudnn.error().message;
    return times;
  }
  times.cudnn = *cudnn;
  TRY(const double apart, trial.difference());
  // Also of NaN.
  if (!(apart <= kLargestDifference)) {
    char text[128];
    std::snprintf(text, sizeof text,
                  "cuDNN's result differs by %.3g of its norm from the own "
                  "kernels'",
                  apart);
    times.refusal = text;
  }
  return times;
}

Result<AttentionBody> parse_attention_body(std::string_view text) {
  if (text.empty() || text == "fastest") return AttentionBody::fastest;
  if (text == "own") return AttentionBody::own;
  if (text == "cudnn") return AttentionBody::cudnn;
  return fail(Fault::input, "TROUPE_ATTENTION is " + std::string(text) +
                                "; it must be own, cudnn or fastest");
}

Result<AttentionBody> attention_body_from_environment() {
  const char* const set = std::getenv("TROUPE_ATTENTION");
  return parse_attention_body(set == nullptr ? "" : set);
}

}  // namespace troupe::kernels::cuda
