// The bodies, one per operator, behind `run`. They trust their call: it has
// passed `check_call` (kernels/check.h).
#pragma once

#include "kernels/call.h"

namespace troupe::kernels::cpu {

void perform(const Gemm& call);
void perform(const AttentionForward& call);
void perform(const AttentionBackward& call);
void perform(const AttentionMerge& call);
void perform(const NormForward& call);
void perform(const NormBackward& call);
void perform(const Rotary& call);
void perform(const ActivationForward& call);
void perform(const ActivationBackward& call);
void perform(const Add& call);
void perform(const BiasAdd& call);
void perform(const BiasGradient& call);
void perform(const EmbeddingForward& call);
void perform(const EmbeddingBackward& call);
void perform(const CrossEntropyForward& call);
void perform(const CrossEntropyMerge& call);
void perform(const CrossEntropyBackward& call);
void perform(const AdamW& call);
void perform(const SquareSum& call);
void perform(const ClipFactor& call);
void perform(const Cast& call);
void perform(const CopyBlock& call);

}  // namespace troupe::kernels::cpu
