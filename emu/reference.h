// What one device alone comes to: the truth that every strategy must equal.
#pragma once

#include <functional>
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
  /// What deviations of parameters are relative to, see Deviation.
  std::map<std::string, std::vector<double>> scales;
};

/// Sequences of several batches as one pipeline's micro-batches, one each.
data::Batch one_by_one(std::span<const data::Batch> batches);
/// Their lengths.
std::vector<std::int32_t> lengths_of(const data::Batch& one_by_one);

/// A program of one rank whose micro-batches are of one sequence, of these
/// lengths.
using ProgramFor =
    std::function<Result<exec::Program>(std::span<const std::int32_t>)>;

/// Runs the steps on one rank. `first_step`: steps done before.
Result<std::vector<Snapshot>> run_alone(
    const ProgramFor& program_for,
    const std::vector<std::vector<data::Batch>>& batches,
    const exec::Training& training, const exec::Values& start,
    std::int64_t first_step = 0);

/// Largest deviations from the truth.
///
/// Model:  a gradient's is relative to the largest number of its tensor, or to
///         the norm of all gradients where the tensor is nothing but rounding
///         errors (a key's bias moves all scores alike: its gradient is zero).
///         A parameter's is relative to the largest number of its tensor plus
///         what AdamW makes of a gradient's deviation: it divides by the size
///         of each gradient g, so that a deviation of 1 relative to the largest
///         gradient G moves the parameter by rate G / |g| in every step.
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
/// parameters that its blocks use (with `copies`).
Result<Deviation> compare(const exec::Weights& weights, exec::Device& device,
                          const Snapshot& truth, bool copies = true);

}  // namespace troupe::emu
