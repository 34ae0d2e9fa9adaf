// Attention by cuDNN without a GPU: its graphs against a library that checks
// rules only, and, where cuDNN is installed, against cuDNN itself.
#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <memory>

#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/cudnn_attention.h"

namespace troupe::kernels::cuda {
namespace {

using cudnn::AttentionOperands;
using cudnn::AttentionPlan;
using cudnn::AttentionProblem;
using cudnn::Descriptor;
using cudnn::Library;
using ::testing::HasSubstr;

constexpr Bytes kPlenty{std::int64_t{60} << 30};

class FakeCudnn : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto set =
        find<void(std::size_t, std::int64_t, std::int64_t, bool, bool)>(
            "cudnnFakeSet");
    set_ = set;
    set_(91900, 2, 1 << 20, false, true);
  }
  template <typename F>
  F* find(const char* name) {
    void* library = dlopen(TROUPE_FAKE_CUDNN, RTLD_NOW);
    return reinterpret_cast<F*>(dlsym(library, name));
  }
  int alive() { return find<int()>("cudnnFakeAlive")(); }
  int runs() { return find<int()>("cudnnFakeRuns")(); }
  int made(cudnn::Object kind) {
    return find<int(int)>("cudnnFakeMade")(static_cast<int>(kind));
  }
  static Result<AttentionPlan> plan(const AttentionProblem& problem,
                                    Bytes workspace = kPlenty) {
    TRY(auto library, Library::open(TROUPE_FAKE_CUDNN));
    int handle = 0;
    return AttentionPlan::make(library, problem, {.handle = &handle},
                               workspace);
  }
  void (*set_)(std::size_t, std::int64_t, std::int64_t, bool, bool) = nullptr;
};

AttentionProblem some_problem() {
  AttentionProblem p{.own_keys = true, .causal = true, .sequences = 2};
  p.max_q = p.max_kv = 256;
  p.heads = 4;
  p.kv_heads = 2;
  p.head_dim = 64;
  p.q_ld = p.kv_ld = 512;
  p.out_ld = 256;
  p.q_tokens = 512;
  return p;
}

std::vector<AttentionProblem> problems() {
  std::vector<AttentionProblem> all;
  for (const unsigned bits : {0U, 1U, 2U, 3U}) {
    for (const int lengths : {0, 1, 2}) {
      for (const int mask : {0, 1, 2}) {
        AttentionProblem p = some_problem();
        p.backward = bits > 0;
        p.deterministic = (bits & 1U) != 0;
        p.ragged = lengths > 0;
        p.own_keys = lengths < 2;
        if (lengths == 2) p.max_kv = 512;
        p.causal = mask > 0;
        p.window = mask == 2 ? 64 : 0;
        p.sums_by_tokens = bits == 2 && p.ragged;
        if (bits == 3) p.kv_heads = 4;
        all.push_back(p);
      }
    }
  }
  return all;
}

AttentionOperands somewhere() {
  static std::byte memory[16];
  void* const at = memory;
  return {.q = at,
          .k = at,
          .v = at,
          .out = at,
          .lse = at,
          .d_out = at,
          .dq = at,
          .dk = at,
          .dv = at,
          .q_lengths = at,
          .kv_lengths = at,
          .q_offsets = at,
          .kv_offsets = at,
          .out_offsets = at,
          .lse_offsets = at};
}

TEST_F(FakeCudnn, EveryGraphKeepsTheRulesAndBindsEveryOperand) {
  const int before = alive();
  int expected = 0;
  for (const AttentionProblem& problem : problems()) {
    auto made = plan(problem);
    ASSERT_TRUE(made) << to_string(problem) << ": " << made.error().message;
    // The library's own 1 MiB, and what the graph keeps in memory.
    EXPECT_GE(made->workspace().v, 1 << 20);
    std::vector<std::byte> memory(
        static_cast<std::size_t>(made->workspace().v));
    const auto ran = made->run(nullptr, somewhere(), 0.125F, memory.data());
    ASSERT_TRUE(ran) << to_string(problem) << ": " << ran.error().message;
    EXPECT_EQ(runs(), ++expected);
  }
  EXPECT_EQ(alive(), before);
}

// Forward: two products, two reductions. Backward: five products, the row
// sums, and, for grouped heads, two sums over each group.
TEST_F(FakeCudnn, GraphsHaveTheProductsOfAttention) {
  AttentionProblem p = some_problem();
  ASSERT_TRUE(plan(p));
  EXPECT_EQ(made(cudnn::Object::matmul_operation), 2);
  EXPECT_EQ(made(cudnn::Object::reduction_operation), 2);
  set_(91900, 2, 1 << 20, false, true);
  p.backward = true;
  ASSERT_TRUE(plan(p));
  EXPECT_EQ(made(cudnn::Object::matmul_operation), 5);
  EXPECT_EQ(made(cudnn::Object::reduction_operation), 3);
  EXPECT_EQ(made(cudnn::Object::reshape_operation), 3);
}

TEST_F(FakeCudnn, RefusalsSayWhy) {
  const auto why = [](const auto& made) {
    EXPECT_FALSE(made);
    EXPECT_EQ(made.error().fault, Fault::unavailable);
    return made.error().message;
  };
  AttentionProblem p = some_problem();
  p.backward = true;
  set_(91900, 0, 1 << 20, false, true);
  EXPECT_THAT(why(plan(p)), HasSubstr("no plan"));
  set_(91900, 1, 1 << 20, false, true);
  EXPECT_THAT(why(plan(p)), HasSubstr("the first plan is refused"));
  set_(91900, 2, std::int64_t{70} << 30, false, true);
  EXPECT_THAT(why(plan(p)), HasSubstr("71680 MiB of workspace"));
  set_(91900, 2, 1 << 20, true, true);
  EXPECT_THAT(why(plan(p)), HasSubstr("depend on chance"));
  p.deterministic = false;
  EXPECT_TRUE(plan(p));
}

TEST_F(FakeCudnn, OldLibrariesAndOthersAreNotUsed) {
  set_(91001, 2, 0, false, true);
  const auto old = Library::open(TROUPE_FAKE_CUDNN);
  ASSERT_FALSE(old);
  EXPECT_THAT(old.error().message, HasSubstr("cuDNN is 9.10.1"));
  const auto absent = Library::open("/nowhere/libcudnn.so.9");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message, HasSubstr("LD_LIBRARY_PATH"));
  const auto other = Library::open(TROUPE_FAKE_NCCL);
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("lacks cudnnGetVersion"));
  set_(91900, 2, 0, false, false);
  auto library = Library::open(TROUPE_FAKE_CUDNN);
  ASSERT_TRUE(library);
  const auto handle = cudnn::Handle::create(*library, nullptr);
  ASSERT_FALSE(handle);
  EXPECT_THAT(handle.error().message, HasSubstr("creating a handle"));
}

TEST(CudnnAttention, KnowsWhatIsNotSupported) {
  const auto why = [](AttentionProblem p, DType dtype, bool aligned,
                      int major) -> std::string {
    const auto answer = cudnn::supported(p, dtype, aligned, major, 91500);
    return answer ? "" : answer.error().message;
  };
  AttentionProblem p = some_problem();
  EXPECT_EQ(why(p, DType::bf16, true, 9), "");
  EXPECT_THAT(why(p, DType::fp32, true, 9), HasSubstr("bf16"));
  EXPECT_THAT(why(p, DType::bf16, false, 9), HasSubstr("16 bytes"));
  p.ragged = true;
  EXPECT_EQ(why(p, DType::bf16, true, 9), "");
  EXPECT_THAT(why(p, DType::bf16, true, 8), HasSubstr("Hopper"));
  p.ragged = false;
  p.max_q = 257;
  EXPECT_THAT(why(p, DType::bf16, true, 9), HasSubstr("sees a key"));
  p.causal = false;
  EXPECT_EQ(why(p, DType::bf16, true, 9), "");
  p.backward = true;
  p.max_kv = 257;
  EXPECT_THAT(why(p, DType::bf16, true, 9), HasSubstr("from 9.16 on"));
  EXPECT_TRUE(cudnn::supported(p, DType::bf16, true, 9, 91600));
  p.max_kv = 256;
  EXPECT_EQ(why(p, DType::bf16, true, 9), "");
  p.max_q = p.max_kv = 1;
  EXPECT_FALSE(cudnn::supported(p, DType::bf16, true, 9, 91600));
  p = some_problem();
  for (const std::int64_t dim : {72, 104, 256}) {
    p.head_dim = dim;
    EXPECT_EQ(why(p, DType::bf16, true, 9), "") << dim;
  }
  for (const std::int64_t dim : {37, 100, 264}) {
    p.head_dim = dim;
    EXPECT_THAT(why(p, DType::bf16, true, 9), HasSubstr("multiple of 8"));
  }
}

// A stream of packed documents needs a plan for each power of two only.
TEST(CudnnAttention, RaggedProblemsAreRoundedUp) {
  const std::int32_t starts[2]{};
  AttentionForward call;
  call.sizes = {.sequences = 5,
                .q_tokens = 900,
                .kv_tokens = 900,
                .max_q = 300,
                .max_kv = 300,
                .heads = 2,
                .kv_heads = 1,
                .head_dim = 64,
                .window = 300,
                .q_starts = starts,
                .kv_starts = starts};
  AttentionProblem p = cudnn::problem_of(call);
  EXPECT_TRUE(p.ragged);
  EXPECT_TRUE(p.own_keys);
  EXPECT_EQ(p.sequences, 8);
  EXPECT_EQ(p.max_q, 512);
  EXPECT_EQ(p.q_tokens, 1024);
  EXPECT_EQ(p.window, 0) << "no sequence is longer than the window";
  EXPECT_EQ(p.q_ld, 128);
  call.sizes.uniform = true;
  p = cudnn::problem_of(call);
  EXPECT_FALSE(p.ragged);
  EXPECT_EQ(p.max_q, 300);
}

TEST(CudnnAttention, ProblemsAreReadBackAsWritten) {
  for (const AttentionProblem& p : problems()) {
    EXPECT_EQ(cudnn::parse_problem(to_string(p)), p);
  }
  for (const char* text : {"", "1 2 3", "64 1 1 1 1 1 1 1 1 1 1 1", "x"}) {
    EXPECT_FALSE(cudnn::parse_problem(text)) << text;
  }
}

AttentionTrial trial(Result<double> cudnn, Result<double> own, double apart) {
  return {.cudnn = [=] { return cudnn; },
          .own = [=] { return own; },
          .difference = [=]() -> Result<double> { return apart; }};
}

TEST(AttentionChoice, TheFasterBodyIsTakenIfItsResultIsRight) {
  const auto faster = try_both(trial(1e-3, 2e-3, 0.004));
  ASSERT_TRUE(faster);
  EXPECT_TRUE(faster->use_cudnn(AttentionBody::fastest));
  EXPECT_FALSE(faster->use_cudnn(AttentionBody::own));
  const auto slower = try_both(trial(2e-3, 1e-3, 0.004));
  ASSERT_TRUE(slower);
  EXPECT_FALSE(slower->use_cudnn(AttentionBody::fastest));
  EXPECT_TRUE(slower->use_cudnn(AttentionBody::cudnn));
  for (const double apart : {0.1, std::nan("")}) {
    const auto wrong = try_both(trial(1e-3, 2e-3, apart));
    ASSERT_TRUE(wrong);
    EXPECT_FALSE(wrong->use_cudnn(AttentionBody::cudnn));
    EXPECT_THAT(wrong->refusal, HasSubstr("differs by"));
  }
}

TEST(AttentionChoice, ARefusalLeavesTheOwnBody) {
  const auto none =
      try_both(trial(fail(Fault::unavailable, "no plan"), 2e-3, 0));
  ASSERT_TRUE(none);
  EXPECT_FALSE(none->use_cudnn(AttentionBody::cudnn));
  EXPECT_EQ(none->refusal, "no plan");
  EXPECT_EQ(none->own, 2e-3);
  EXPECT_FALSE(try_both(trial(1e-3, fail(Fault::io, "broken"), 0)));
}

TEST(AttentionChoice, TheEnvironmentsWordIsChecked) {
  EXPECT_EQ(parse_attention_body(""), AttentionBody::fastest);
  EXPECT_EQ(parse_attention_body("own"), AttentionBody::own);
  EXPECT_EQ(parse_attention_body("cudnn"), AttentionBody::cudnn);
  const auto wrong = parse_attention_body("flash");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("own, cudnn or fastest"));
}

// What cuDNN asks of a GPU, of an H100; the numbers are the datasheet's and
// those of CUDA's table of compute capability 9.0.
constexpr std::string_view kHopper = R"({"maxGridSize": [2147483647, 65535,
65535], "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536,
"multiProcessorCount": 132, "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
"maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
"maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024,
"maxThreadsPerSM": 2048, "pciDeviceId": 0, "isTccDriver": 0,
"supportCoopLaunch": 1, "totalGlobalMem": 85000000000, "smClockRateKHz":
1980000, "memClockRateKHz": 2619000, "l2CacheSize": 52428800, "cudaDeviceId":
0, "deviceVer": 900, "driverVer": 13000, "deviceName": "H100"})";

// cuDNN itself compiles a kernel for the graphs that differ most. Only their
// loading is a pretence, by a stand-in for the driver.
TEST(CudnnItself, HasPlansForTheGraphs) {
  ASSERT_NE(dlopen(TROUPE_FAKE_DRIVER, RTLD_NOW | RTLD_GLOBAL), nullptr);
  const auto library = Library::open();
  if (!library) GTEST_SKIP() << library.error().message;
  auto device = Descriptor::of(*library, cudnn::Object::device);
  ASSERT_TRUE(device);
  ASSERT_TRUE(device->set(cudnn::Attribute::device_json, cudnn::Type::text,
                          std::span<const char>(kHopper)));
  const auto finished = device->finish();
  ASSERT_TRUE(finished) << finished.error().message;
  AttentionProblem dense = some_problem();
  AttentionProblem ring = some_problem();
  ring.ragged = true;
  ring.own_keys = false;
  ring.window = 100;
  AttentionProblem gradient = some_problem();
  gradient.backward = true;
  AttentionProblem packed = ring;
  packed.backward = true;
  packed.head_dim = 128;
  packed.q_ld = packed.kv_ld = 1024;
  packed.out_ld = 512;
  packed.deterministic = false;
  packed.sums_by_tokens = true;
  for (const AttentionProblem& problem : {dense, ring, gradient, packed}) {
    const auto plan =
        AttentionPlan::make(*library, problem, {.device = &*device}, kPlenty);
    EXPECT_TRUE(plan) << to_string(problem) << ": " << plan.error().message;
  }
}

}  // namespace
}  // namespace troupe::kernels::cuda
