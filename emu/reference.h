// What one device alone comes to: the truth that every strategy must equal.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "data/batch.h"
#include "exec/interpreter.h"

namespace troupe::emu {

/// A training step by its results.
struct Snapshot {
  double loss = 0;
  double gradient_norm = 0;
  double rounding = 0;  ///< of the type that the arithmetic is in, relative
  /// Whole tensors by parameter, row-major; gradients before clipping.
  std::map<std::string, std::vector<double>> gradients, parameters;
};

/// Sequences of a batch as a single pipeline's micro-batches, one each.
data::Batch one_by_one(const data::Batch& batch);
/// The micro-batches of that pipeline.
schedule::MicroBatches one_by_one(
    std::span<const schedule::MicroBatches> pipelines);

/// Runs the steps on one rank.
///
/// Requires: a program of one rank whose micro-batches are `one_by_one` of
///           the batches'.
Result<std::vector<Snapshot>> run_alone(const exec::Program& program,
                                        const std::vector<data::Batch>& batches,
                                        const exec::Training& training,
                                        std::uint64_t seed);

/// Largest deviations from the truth, relative to the largest number of each
/// tensor. A gradient of which the truth has only rounding errors (a key's bias
/// moves all scores alike, so its gradient is zero) is compared relative to
/// the norm of all gradients, and its parameter, which AdamW moves by the
/// sign of that rounding, is not compared.
struct Deviation {
  double gradients = 0, parameters = 0, loss = 0;
  /// By group of parameters ("attention.query", "embedding.tokens").
  std::map<std::string, double> by_group = {};
  /// Groups of which only rounding errors have a gradient.
  std::set<std::string> undetermined = {};
  void merge(const Deviation& other);
  double largest() const;
};

/// Compares everything that a rank holds after a step: the summed gradients
/// and master parameters of its part of the optimizer layout, and the
/// parameters that its blocks use.
Result<Deviation> compare(const exec::Weights& weights, exec::Device& device,
                          const Snapshot& truth);

}  // namespace troupe::emu
