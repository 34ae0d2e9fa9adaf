// Operators that have no kernel yet.
#include "kernels/cuda/launch.h"

namespace troupe::kernels::cuda {

Result<void> launch(const NormForward& /*call*/, const Device& /*device*/) {
  return no_kernel("NormForward", DType::bf16);
}
Result<void> launch(const NormBackward& /*call*/, const Device& /*device*/) {
  return no_kernel("NormBackward", DType::bf16);
}
Result<void> launch(const Rotary& /*call*/, const Device& /*device*/) {
  return no_kernel("Rotary", DType::bf16);
}
Result<void> launch(const ActivationForward& /*call*/, const Device& /*device*/) {
  return no_kernel("ActivationForward", DType::bf16);
}
Result<void> launch(const ActivationBackward& /*call*/, const Device& /*device*/) {
  return no_kernel("ActivationBackward", DType::bf16);
}
Result<void> launch(const Add& /*call*/, const Device& /*device*/) {
  return no_kernel("Add", DType::bf16);
}
Result<void> launch(const BiasAdd& /*call*/, const Device& /*device*/) {
  return no_kernel("BiasAdd", DType::bf16);
}
Result<void> launch(const BiasGradient& /*call*/, const Device& /*device*/) {
  return no_kernel("BiasGradient", DType::bf16);
}
Result<void> launch(const EmbeddingForward& /*call*/, const Device& /*device*/) {
  return no_kernel("EmbeddingForward", DType::bf16);
}
Result<void> launch(const EmbeddingBackward& /*call*/, const Device& /*device*/) {
  return no_kernel("EmbeddingBackward", DType::bf16);
}
Result<void> launch(const CrossEntropyForward& /*call*/, const Device& /*device*/) {
  return no_kernel("CrossEntropyForward", DType::bf16);
}
Result<void> launch(const CrossEntropyMerge& /*call*/, const Device& /*device*/) {
  return no_kernel("CrossEntropyMerge", DType::bf16);
}
Result<void> launch(const CrossEntropyBackward& /*call*/, const Device& /*device*/) {
  return no_kernel("CrossEntropyBackward", DType::bf16);
}
Result<void> launch(const AdamW& /*call*/, const Device& /*device*/) {
  return no_kernel("AdamW", DType::bf16);
}
Result<void> launch(const SquareSum& /*call*/, const Device& /*device*/) {
  return no_kernel("SquareSum", DType::bf16);
}
Result<void> launch(const ClipFactor& /*call*/, const Device& /*device*/) {
  return no_kernel("ClipFactor", DType::bf16);
}
Result<void> launch(const Cast& /*call*/, const Device& /*device*/) {
  return no_kernel("Cast", DType::bf16);
}
Result<void> launch(const CopyBlock& /*call*/, const Device& /*device*/) {
  return no_kernel("CopyBlock", DType::bf16);
}
Result<void> launch(const Gemm& /*call*/, const Device& /*device*/) {
  return no_kernel("Gemm", DType::bf16);
}

}  // namespace troupe::kernels::cuda
