// Rotary positions for contexts longer than a model was first trained with.
#pragma once

namespace troupe::kernels {

/// Slower turns for long contexts, as Llama 3.1 has them. A pair that turns
/// f times per position makes f `original` turns in the context it was
/// trained with: under `low` it turns `factor` times slower, over `high` as
/// before, and in between a linear mix of both. A factor of 1 is none.
///
/// Source: "rope_scaling" of type "llama3" in the models' config.json.
struct RotaryScaling {
  double factor = 1, low = 1, high = 4;
  double original = 8192;  ///< positions
  bool operator==(const RotaryScaling&) const = default;
};

/// Turns per position of a pair, scaled.
constexpr double scaled_turns(double turns, const RotaryScaling& s) {
  const double all = turns * s.original;
  if (s.factor == 1 || all > s.high) return turns;
  if (all < s.low) return turns / s.factor;
  const double keep = (all - s.low) / (s.high - s.low);
  return turns * ((1 - keep) / s.factor + keep);
}

}  // namespace troupe::kernels
