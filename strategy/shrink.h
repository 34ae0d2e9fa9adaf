// A small job with the structure of a large one, to run with real numbers.
#pragma once

#include <span>
#include <vector>

#include "strategy/load.h"

namespace troupe::strategy {

/// The plans with a small model, short sequences and micro-batches of at most
/// two sequences. Plans of one model get the same small one.
///
/// Model:  layers, stages, cuts, devices, tensor and context parallelism,
///         micro-batch counts, ZeRO, recomputation and order stay, and so do
///         kinds of norm, activation and positions, biases and tied tables.
///         Heads become the least common multiple of the tensor-parallel
///         degrees, twice that where the model groups them; a key head has as
///         many ranks as in the model; heads have 4 columns; FFN and
///         vocabulary (257, bytes) do not divide. The longest sequence gets 32
///         tokens (16 beyond 256 devices), more where context parallelism
///         needs them; shorter ones and windows keep their ratio to it.
/// Errors: infeasible, for degrees whose multiple is over 1024.
/// Requires: plans of the same model.
Result<std::vector<Plan>> shrunk(std::span<const Plan* const> plans);

}  // namespace troupe::strategy
