#include "kernels/cuda/cublaslt.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <string>

#include "kernels/dynamic_library.h"

namespace troupe::kernels::cuda {
namespace {

// Of key_of's flags.
constexpr std::uint32_t kTransposeA = 1, kTransposeB = 2, kAccumulate = 4,
                        kBias = 8, kOutSingle = 16, kSingle = 32, kTf32 = 64;

Result<void> checked(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return fail(Fault::io, fmt::format("cuBLASLt: {}: status {}", what,
                                     static_cast<int>(status)));
}

std::int64_t or_packed(std::int64_t ld, std::int64_t columns) {
  return ld == 0 ? columns : ld;
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

std::uint32_t alignment_of(const void* address) {
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | 16U;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

}  // namespace

GemmKey key_of(const Gemm& c) {
  GemmKey key{.m = c.m, .n = c.n, .k = c.k, .batch = c.batch};
  key.lda = or_packed(c.lda, c.transpose_a ? c.m : c.k);
  key.ldb = or_packed(c.ldb, c.transpose_b ? c.k : c.n);
  key.ldc = or_packed(c.ldc, c.n);
  key.flags =
      (c.transpose_a ? kTransposeA : 0) | (c.transpose_b ? kTransposeB : 0) |
      (c.accumulate ? kAccumulate : 0) | (c.bias != nullptr ? kBias : 0) |
      (c.out == DType::bf16 ? 0 : kOutSingle) |
      (c.dtype == DType::bf16 ? 0 : kSingle) |
      (c.dtype == DType::tf32 ? kTf32 : 0);
  // Of no bias it is the largest.
  key.alignment = std::min({alignment_of(c.a), alignment_of(c.b),
                            alignment_of(c.c), alignment_of(c.bias)});
  return key;
}

std::string to_string(const GemmKey& k) {
  return fmt::format("{} {} {} {} {} {} {} {} {}", k.m, k.n, k.k, k.batch,
                     k.lda, k.ldb, k.ldc, k.flags, k.alignment);
}

std::optional<GemmKey> parse_gemm_key(std::string_view text) {
  std::istringstream in{std::string(text)};
  GemmKey k;
  in >> k.m >> k.n >> k.k >> k.batch >> k.lda >> k.ldb >> k.ldc >> k.flags >>
      k.alignment;
  if (in.fail()) return std::nullopt;
  return k;
}

// The functions that are used, by their types in the header.
struct Lt::Table {
  void* library = nullptr;
  cublasLtHandle_t handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_operation = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_operation = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) set_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;

  template <typename F>
  bool find(F& function, const char* name) const {
    function = reinterpret_cast<F>(dlsym(library, name));
    return function != nullptr;
  }
  bool find_all() {
    return find(create, "cublasLtCreate") && find(destroy, "cublasLtDestroy") &&
           find(version, "cublasLtGetVersion") &&
           find(matmul, "cublasLtMatmul") &&
           find(heuristic, "cublasLtMatmulAlgoGetHeuristic") &&
           find(create_operation, "cublasLtMatmulDescCreate") &&
           find(destroy_operation, "cublasLtMatmulDescDestroy") &&
           find(set_operation, "cublasLtMatmulDescSetAttribute") &&
           find(create_layout, "cublasLtMatrixLayoutCreate") &&
           find(destroy_layout, "cublasLtMatrixLayoutDestroy") &&
           find(set_layout, "cublasLtMatrixLayoutSetAttribute") &&
           find(create_preference, "cublasLtMatmulPreferenceCreate") &&
           find(destroy_preference, "cublasLtMatmulPreferenceDestroy") &&
           find(set_preference, "cublasLtMatmulPreferenceSetAttribute");
  }
};

// A product as the library describes it; frees what it holds.
struct Lt::Problem {
  explicit Problem(const Table& functions) : table(functions) {}
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;
  ~Problem() {
    if (operation != nullptr) table.destroy_operation(operation);
    for (auto* layout : {a, b, c}) {
      if (layout != nullptr) table.destroy_layout(layout);
    }
  }

  template <typename V>
  Result<void> set(cublasLtMatmulDescAttributes_t what, V value) {
    return checked(table.set_operation(operation, what, &value, sizeof value),
                   "describing a product");
  }

  // A matrix stored row-major is its transpose stored column-major.
  Result<void> layout(cublasLtMatrixLayout_t& out, cudaDataType_t type,
                      std::int64_t stored_rows, std::int64_t stored_columns,
                      std::int64_t ld, std::int64_t batch) {
    TRY_DO(checked(table.create_layout(
                       &out, type, static_cast<std::uint64_t>(stored_columns),
                       static_cast<std::uint64_t>(stored_rows), ld),
                   "describing a matrix"));
    if (batch == 1) return {};
    const auto count = static_cast<std::int32_t>(batch);
    TRY_DO(checked(table.set_layout(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                    &count, sizeof count),
                   "describing a batch"));
    const std::int64_t stride = stored_rows * ld;
    return checked(
        table.set_layout(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                         &stride, sizeof stride),
        "describing a batch");
  }

  const Table& table;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
};

struct Lt::Preference {
  explicit Preference(const Table& functions) : table(functions) {}
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  ~Preference() {
    if (handle != nullptr) table.destroy_preference(handle);
  }
  const Table& table;
  cublasLtMatmulPreference_t handle = nullptr;
};

Lt::Lt() : table_(std::make_unique<Table>()) {}

Lt::~Lt() {
  problems_.clear();
  if (table_->handle != nullptr) table_->destroy(table_->handle);
  // The library stays loaded: its own threads may still be ending.
}

Result<std::unique_ptr<Lt>> Lt::open() {
  std::unique_ptr<Lt> lt(new Lt());
  Table& table = *lt->table_;
  const std::string name = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  const std::array<std::string, 2> places{
      name, std::string(TROUPE_CUDA_LIBRARIES) + "/" + name};
  TRY(table.library, open_library("cuBLASLt", places));
  if (!table.find_all()) {
    return fail(Fault::unavailable, name + " lacks a function that is needed");
  }
  TRY_DO(checked(table.create(&table.handle), "creating a handle"));
  return lt;
}

std::size_t Lt::version() const { return table_->version(); }

// Row-major C = A B is column-major C' = B' A': the library's first operand
// is our B.
Result<void> Lt::describe(const Gemm& call, Problem& p) {
  const GemmKey key = key_of(call);
  const auto compute = call.dtype == DType::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                 : CUBLAS_COMPUTE_32F;
  TRY_DO(checked(table_->create_operation(&p.operation, compute, CUDA_R_32F),
                 "describing a product"));
  const auto transposed = [](bool yes) {
    return static_cast<std::int32_t>(yes ? CUBLAS_OP_T : CUBLAS_OP_N);
  };
  TRY_DO(p.set(CUBLASLT_MATMUL_DESC_TRANSA, transposed(call.transpose_b)));
  TRY_DO(p.set(CUBLASLT_MATMUL_DESC_TRANSB, transposed(call.transpose_a)));
  if (call.bias != nullptr) {
    TRY_DO(p.set(CUBLASLT_MATMUL_DESC_EPILOGUE,
                 static_cast<std::uint32_t>(CUBLASLT_EPILOGUE_BIAS)));
    TRY_DO(p.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                 static_cast<std::int32_t>(type_of(call.dtype))));
  }
  const std::int64_t a_rows = call.transpose_a ? call.k : call.m;
  const std::int64_t a_columns = call.transpose_a ? call.m : call.k;
  const std::int64_t b_rows = call.transpose_b ? call.n : call.k;
  const std::int64_t b_columns = call.transpose_b ? call.k : call.n;
  TRY_DO(p.layout(p.a, type_of(call.dtype), b_rows, b_columns, key.ldb,
                  call.batch));
  TRY_DO(p.layout(p.b, type_of(call.dtype), a_rows, a_columns, key.lda,
                  call.batch));
  return p.layout(p.c, type_of(call.out), call.m, call.n, key.ldc, call.batch);
}

Result<Lt::Problem*> Lt::problem_for(const Gemm& call) {
  std::unique_ptr<Problem>& p = problems_[key_of(call)];
  if (p == nullptr) {
    auto made = std::make_unique<Problem>(*table_);
    TRY_DO(describe(call, *made));
    p = std::move(made);
  }
  if (call.bias != nullptr) {
    TRY_DO(p->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias));
  }
  return p.get();
}

Result<std::vector<LtAlgorithm>> Lt::suggest(const Gemm& call, int most,
                                             Bytes workspace) {
  TRY(Problem* const described, problem_for(call));
  Problem& p = *described;
  Preference preference(*table_);
  TRY_DO(checked(table_->create_preference(&preference.handle),
                 "creating a preference"));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what,
                          auto value) {
    return checked(
        table_->set_preference(preference.handle, what, &value, sizeof value),
        "setting a preference");
  };
  TRY_DO(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                static_cast<std::uint64_t>(workspace.v)));
  // Parts of a sum are added in fp32, never in the type of the result.
  TRY_DO(prefer(
      CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)));
  const std::uint32_t alignment = key_of(call).alignment;
  for (const auto what : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    TRY_DO(prefer(what, alignment));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> found(
      static_cast<std::size_t>(std::max(most, 1)));
  int count = 0;
  const auto status = table_->heuristic(
      table_->handle, p.operation, p.a, p.b, p.c, p.c, preference.handle,
      static_cast<int>(found.size()), found.data(), &count);
  std::vector<LtAlgorithm> out;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return out;
  TRY_DO(checked(status, "asking for an algorithm"));
  for (int i = 0; i < count; ++i) {
    const auto& result = found[static_cast<std::size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    out.push_back({result.algo, result.workspaceSize, 0});
  }
  return out;
}

Result<void> Lt::multiply(const Gemm& call, const LtAlgorithm& algorithm,
                          void* workspace, void* stream) {
  TRY(Problem* const described, problem_for(call));
  const Problem& p = *described;
  const float one = 1, beta = call.accumulate ? 1.0F : 0.0F;
  return checked(
      table_->matmul(table_->handle, p.operation, &one, call.b, p.a, call.a,
                     p.b, &beta, call.c, p.c, call.c, p.c, &algorithm.algorithm,
                     workspace, algorithm.workspace,
                     static_cast<cudaStream_t>(stream)),
      "multiplying");
}

}  // namespace troupe::kernels::cuda
