// cuBLASLt, opened when first needed: a machine without the library can still
// start the program.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "kernels/call.h"

namespace troupe::kernels::cuda {

/// What decides the algorithm of a matrix product.
struct GemmKey {
  std::int64_t m = 0, n = 0, k = 0, batch = 1, lda = 0, ldb = 0, ldc = 0;
  /// Bits: both transposes, accumulate, bias, fp32 output, fp32 operands.
  std::uint32_t flags = 0;
  /// The largest power of two up to 16 that divides every address.
  std::uint32_t alignment = 16;
  auto operator<=>(const GemmKey&) const = default;
};
GemmKey key_of(const Gemm& call);
std::string to_string(const GemmKey& key);
std::optional<GemmKey> parse_gemm_key(std::string_view text);

/// An algorithm as the library stores it (its 64 bytes may be kept on disk
/// for the same version of the library), with its workspace.
struct LtAlgorithm {
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
  double seconds = 0;  ///< as measured when chosen; 0 for a first suggestion
  bool runs = true;    ///< false: none of the suggestions did
};

/// The library with a handle, for one GPU.
class Lt {
 public:
  /// Errors: unavailable, with the loader's reason.
  static Result<std::unique_ptr<Lt>> open();
  ~Lt();
  Lt(const Lt&) = delete;
  Lt& operator=(const Lt&) = delete;

  std::size_t version() const;

  /// The library's suggestions, best first; empty where it has none.
  Result<std::vector<LtAlgorithm>> suggest(const Gemm& call, int most,
                                           Bytes workspace);
  Result<void> multiply(const Gemm& call, const LtAlgorithm& algorithm,
                        void* workspace, void* stream);

 private:
  struct Table;
  struct Problem;
  struct Preference;
  Lt();
  Result<void> describe(const Gemm& call, Problem& problem);
  /// Described at the first call of its key: that takes as long as starting a
  /// small product.
  Result<Problem*> problem_for(const Gemm& call);
  std::unique_ptr<Table> table_;
  std::map<GemmKey, std::unique_ptr<Problem>> problems_;
};

}  // namespace troupe::kernels::cuda
