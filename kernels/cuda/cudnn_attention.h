// Fused attention as cuDNN does it: the graphs of forward and backward.
#pragma once

#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "kernels/call.h"
#include "kernels/cuda/cudnn_graph.h"

namespace troupe::kernels::cuda::cudnn {

/// What decides the graph of an attention call.
struct AttentionProblem {
  bool backward = false;
  /// Lengths and places of sequences are known on the GPU only; otherwise
  /// they lie one after the other, each of max_q queries and max_kv keys.
  bool ragged = false;
  /// Keys are of the queries' own tokens, so that lengths are equal.
  bool own_keys = false;
  bool causal = false;
  /// Backward only: sums do not depend on chance.
  bool deterministic = true;
  /// Ragged backward: sums in memory lie by tokens, which takes less of it.
  bool sums_by_tokens = false;
  std::int64_t sequences = 0, max_q = 0, max_kv = 0;
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t q_ld = 0, kv_ld = 0, out_ld = 0;
  std::int64_t window = 0;    ///< keys; 0: none
  std::int64_t q_tokens = 0;  ///< of ragged problems: at least as many

  auto operator<=>(const AttentionProblem&) const = default;
};

/// The problem of a call: for ragged sequences, their number and the longest
/// are rounded up to a power of two, so that a stream of packed documents
/// needs few plans (further sequences are empty).
AttentionProblem problem_of(const AttentionForward& call);
AttentionProblem problem_of(const AttentionBackward& call, bool deterministic,
                            int gpu_major);

/// The spelling of a problem in files of choices, and back.
std::string to_string(const AttentionProblem& problem);
std::optional<AttentionProblem> parse_problem(std::string_view text);

/// Whether a graph is worth asking for: what is known to be unsupported, or
/// would differ from this project's meaning of attention.
///
/// Errors: unavailable, with the reason.
/// Source: the checks of NVIDIA's cudnn-frontend (sdpa_support_surface.h).
Result<void> supported(const AttentionProblem& problem, DType dtype,
                       bool aligned, int gpu_major, std::size_t version);

/// Operands on the GPU. Of ragged problems also what `AttentionLengths` of
/// attention_operands.h fills; of others lse is by sequence, head, query.
struct AttentionOperands {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  void* out = nullptr;  ///< read by backward
  void* lse = nullptr;  ///< read by backward
  const void* d_out = nullptr;
  void* dq = nullptr;
  void* dk = nullptr;
  void* dv = nullptr;
  void* q_lengths = nullptr;   ///< int32, one for each sequence
  void* kv_lengths = nullptr;  ///< likewise
  void* q_offsets = nullptr;   ///< int64 in elements, one more
  void* kv_offsets = nullptr;
  void* out_offsets = nullptr;
  void* lse_offsets = nullptr;
};

/// A plan for calls of one problem.
class AttentionPlan {
 public:
  /// Errors: unavailable where cuDNN has no plan within `workspace`.
  static Result<AttentionPlan> make(std::shared_ptr<const Library> library,
                                    const AttentionProblem& problem,
                                    const Target& target, Bytes workspace);

  Bytes workspace() const;
  /// `scale` is of the scores. Puts the work on the handle's stream.
  Result<void> run(void* handle, const AttentionOperands& operands, float scale,
                   void* workspace);

  /// Parts of the graph that runs need to find again.
  struct Bound {
    Tensor tensor{};
    const void* AttentionOperands::* from = nullptr;
    void* AttentionOperands::* to = nullptr;
  };
  struct Scalar {
    Tensor tensor{};
    float real = 0;
    std::int32_t whole = 0;
    bool is_real = true;
  };
  struct Inner {  ///< memory of the graph itself, in the workspace
    Tensor tensor{};
    std::int64_t bytes = 0;
  };

 private:
  friend class AttentionGraph;
  Plan plan_;
  std::vector<Bound> bound_;
  std::vector<Scalar> scalars_;  ///< the first is the scale
  std::vector<Inner> inner_;
};

}  // namespace troupe::kernels::cuda::cudnn
