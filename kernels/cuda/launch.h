// What every .cu file gives: one `launch` per operator, for a call that
// `check_call` lets pass. Each checks that it has a kernel for it (types, head
// sizes), and puts its kernels on the device's stream without waiting for
// them.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "kernels/call.h"
#include "kernels/cuda/device.h"

namespace troupe::kernels::cuda {

Result<void> launch(const AttentionForward& call, const Device& device);
Result<void> launch(const AttentionBackward& call, const Device& device);
Result<void> launch(const AttentionMerge& call, const Device& device);

Result<void> launch(const NormForward& call, const Device& device);
Result<void> launch(const NormBackward& call, const Device& device);
Result<void> launch(const Rotary& call, const Device& device);
Result<void> launch(const ActivationForward& call, const Device& device);
Result<void> launch(const ActivationBackward& call, const Device& device);
Result<void> launch(const Add& call, const Device& device);
Result<void> launch(const BiasAdd& call, const Device& device);
Result<void> launch(const BiasGradient& call, const Device& device);
Result<void> launch(const EmbeddingForward& call, const Device& device);
Result<void> launch(const EmbeddingBackward& call, const Device& device);
Result<void> launch(const CrossEntropyForward& call, const Device& device);
Result<void> launch(const CrossEntropyMerge& call, const Device& device);
Result<void> launch(const CrossEntropyBackward& call, const Device& device);
Result<void> launch(const AdamW& call, const Device& device);
Result<void> launch(const SquareSum& call, const Device& device);
Result<void> launch(const ClipFactor& call, const Device& device);
Result<void> launch(const Cast& call, const Device& device);
Result<void> launch(const CopyBlock& call, const Device& device);

/// A matrix product without any library, for machines that lack cuBLASLt and
/// as a second opinion: right for every shape, fast for none.
Result<void> launch(const Gemm& call, const Device& device);

/// Occupies one multiprocessor for so long.
Result<void> launch_spin(std::uint64_t nanoseconds, const Device& device);

/// Any of the operators above, after `check_call`.
Result<void> launch_any(const Call& call, const Device& device);

/// The answer to a type that has no kernel.
tl::unexpected<Error> no_kernel(const char* operation, DType dtype);

}  // namespace troupe::kernels::cuda
