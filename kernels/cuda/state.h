// Inside of a Context, for the sources of kernels that use the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cuda.h"
#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn_attention.h"

namespace troupe::kernels::cuda {

/// An error of the runtime, with what was tried.
Result<void> checked(cudaError_t code, const char* what);

/// What attention by cuDNN needs, opened at the first call that may use it.
struct FusedAttention {
  AttentionChoice choice{};
  bool opened = false;
  std::string refusal{};  ///< why the library cannot be used
  std::shared_ptr<const cudnn::Library> library{};
  std::unique_ptr<cudnn::Handle> handle{};
  Buffer workspace{};
  std::map<cudnn::AttentionProblem, cudnn::AttentionPlan> plans{};
  std::map<cudnn::AttentionProblem, AttentionTimes> times{};
  /// What cuDNN was not asked for, and why.
  std::map<std::pair<cudnn::AttentionProblem, DType>, std::string>
      unsupported{};
};

struct Context::State {
  Device device;
  std::string gpu;  ///< name, for the lines of `choices`
  GemmChoice choice;
  std::unique_ptr<Lt> lt;  ///< opened at the first matrix product
  Buffer workspace;        ///< of the library
  /// By shape; what each was chosen from is in the line itself.
  std::map<GemmKey, LtAlgorithm> algorithms;
  FusedAttention attention;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();
};

/// Seconds of one run of `body`, which puts work on the context's stream:
/// median of several timings, each of enough runs that starting them is
/// hidden.
///
/// Errors: of `body` and of the driver.
Result<double> time_of_runs(const std::function<Result<void>()>& body,
                            Context& context);

/// Opens cuDNN at the first call. Errors: unavailable, with the reason.
Result<void> open_attention(Context& context);

/// Matrix product by cuBLASLt, or by the own kernel where that is asked for
/// or the library knows no way.
Result<void> run_gemm(const Gemm& call, Context& context);

/// Attention by the body that is chosen for its problem.
Result<void> run_attention(const AttentionForward& call, Context& context);
Result<void> run_attention(const AttentionBackward& call, Context& context);

/// The lines of `choices` about attention, and one of them read back; lines
/// of other GPUs or versions are passed over.
std::string attention_choices(const Context::State& state);
void load_attention_choice(const std::string& line, Context::State& state);

}  // namespace troupe::kernels::cuda
