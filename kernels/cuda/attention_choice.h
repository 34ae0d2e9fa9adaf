// Which of two bodies does an attention: the own kernels or cuDNN's. Plain
// C++ that knows no GPU.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kernels/cuda.h"

namespace troupe::kernels::cuda {

/// What each body takes for one problem.
struct AttentionTimes {
  double own = 0, cudnn = 0;  ///< seconds; 0: not run
  std::string refusal{};      ///< why cuDNN is not used; empty where it may be

  bool use_cudnn(AttentionBody wanted) const;
  bool operator==(const AttentionTimes&) const = default;
};

/// The largest difference that two right bodies can have, as a share of the
/// result's norm: both round weights and results to bf16 (2^-9 each) and sum
/// in fp32, so that this is four times what is to be expected.
inline constexpr double kLargestDifference = 1.0 / 64;

/// Runs of the two bodies on one call's operands.
struct AttentionTrial {
  std::function<Result<double>()> cudnn;  ///< seconds
  std::function<Result<double>()> own;    ///< seconds; it runs last
  /// Norm of the difference of the two results over that of the own one.
  std::function<Result<double>()> difference;
};

/// Times both. What cuDNN cannot do, or does differently, is a refusal.
///
/// Errors: of the own body.
Result<AttentionTimes> try_both(const AttentionTrial& trial);

/// "own", "cudnn" or "fastest"; empty is `fastest`.
/// Errors: input, naming TROUPE_ATTENTION.
Result<AttentionBody> parse_attention_body(std::string_view text);

}  // namespace troupe::kernels::cuda
