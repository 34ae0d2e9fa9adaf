// Inside of a Context, for the sources of kernels that use the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cuda.h"
#include "kernels/cuda/cublaslt.h"

namespace troupe::kernels::cuda {

/// An error of the runtime, with what was tried.
Result<void> checked(cudaError_t code, const char* what);

struct Context::State {
  Device device;
  std::string gpu;  ///< name, for the lines of `choices`
  GemmChoice choice;
  std::unique_ptr<Lt> lt;  ///< opened at the first matrix product
  Buffer workspace;        ///< of the library
  /// By shape; what each was chosen from is in the line itself.
  std::map<GemmKey, LtAlgorithm> algorithms;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();
};

/// Matrix product by cuBLASLt, or by the own kernel where that is asked for
/// or the library knows no way.
Result<void> run_gemm(const Gemm& call, Context& context);

}  // namespace troupe::kernels::cuda
