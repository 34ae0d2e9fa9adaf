// The CUDA bodies on a GPU against the CPU's; skipped where there is none.
#include "kernels/cuda.h"

#include <gmock/gmock.h>

#include <optional>
#include <random>

#include "tests/kernels/cuda_perform.h"

namespace troupe::kernels {
namespace {

using testing::Case;

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = cuda::Context::create(0);
    if (!created) GTEST_SKIP() << created.error().message;
    context_.emplace(std::move(*created));
  }

  void expect_all(const std::vector<Case>& cases, std::uint64_t seed,
                  std::int64_t offset = 0) {
    const auto perform = testing::perform_on(*context_, offset);
    for (const Case& one : cases) {
      for (const DType dtype : {DType::fp32, DType::bf16}) {
        const auto outcome = testing::compare(one, dtype, perform);
        ASSERT_TRUE(outcome) << one.name << ": " << outcome.error().message;
        EXPECT_TRUE(outcome->ok())
            << one.name << " " << name_of(dtype) << ": " << outcome->note
            << " (error " << outcome->error << ", seed " << seed << ")";
      }
    }
  }

  std::optional<cuda::Context> context_;
  const std::uint64_t seed_ = std::random_device{}();
};

TEST_F(Cuda, OperatorsMatchTheCpu) {
  expect_all(testing::operator_cases(seed_), seed_);
}

TEST_F(Cuda, GemmMatchesTheCpu) {
  expect_all(testing::gemm_cases(seed_), seed_);
}

TEST_F(Cuda, AttentionMatchesTheCpu) {
  expect_all(testing::attention_cases(seed_), seed_);
}

// Wherever it has a plan: every graph, lengths made on the GPU, and what is
// mended after, on outputs that hold NaN.
TEST_F(Cuda, AttentionByCudnnMatchesTheCpu) {
  for (const bool deterministic : {true, false}) {
    auto made = cuda::Context::create(
        0, {},
        {.body = cuda::AttentionBody::cudnn, .deterministic = deterministic});
    ASSERT_TRUE(made);
    const auto info = cuda::device_info(0);
    ASSERT_TRUE(info);
    if (!::testing::Matches(::testing::MatchesRegex("[0-9.]+"))(info->cudnn)) {
      GTEST_SKIP() << info->cudnn;
    }
    context_.emplace(std::move(*made));
    expect_all(testing::attention_cases(seed_), seed_);
    for (const auto& one : context_->attention_report()) {
      std::printf("own: %s: %s\n", one.problem.c_str(), one.refusal.c_str());
    }
  }
}

// The first call decides; the second is by the body chosen.
TEST_F(Cuda, TheFasterAttentionIsChosenAndReadBack) {
  expect_all(testing::attention_cases(1), 1);
  for (const auto& one : context_->attention_report()) {
    EXPECT_EQ(one.refusal.find("differs"), std::string::npos)
        << one.problem << ": " << one.refusal;
    EXPECT_GT(one.own, 0) << one.problem;
  }
  const std::string choices = context_->choices();
  auto reader = cuda::Context::create(0);
  ASSERT_TRUE(reader);
  ASSERT_TRUE(reader->load_choices(choices));
  context_.emplace(std::move(*reader));
  expect_all(testing::attention_cases(1), 1);
}

// Eight bytes on: an fp64 or a pair is aligned, no 16-byte access is.
TEST_F(Cuda, OperatorsTakeAnyAlignmentOfElements) {
  expect_all(testing::operator_cases(seed_), seed_, 8);
  expect_all(testing::gemm_cases(seed_), seed_, 8);
}

TEST_F(Cuda, OwnKernelMatchesWithoutTheLibrary) {
  auto own = cuda::Context::create(0, {.own_kernel = true});
  ASSERT_TRUE(own);
  context_.emplace(std::move(*own));
  expect_all(testing::gemm_cases(seed_), seed_);
}

TEST_F(Cuda, ChosenAlgorithmsAreKeptAndReadBack) {
  auto chooser = cuda::Context::create(0, {.candidates = 4});
  ASSERT_TRUE(chooser);
  context_.emplace(std::move(*chooser));
  expect_all(testing::gemm_cases(1), 1);
  const std::string choices = context_->choices();
  EXPECT_THAT(choices, ::testing::HasSubstr("gemm-choice 1;"));
  auto reader = cuda::Context::create(0);
  ASSERT_TRUE(reader);
  // Damaged lines and those of other machines are passed over.
  ASSERT_TRUE(reader->load_choices("gemm-choice 1;other;1;1\n\n" + choices +
                                   choices.substr(0, choices.size() / 2)));
  EXPECT_EQ(reader->choices(), choices);
  context_.emplace(std::move(*reader));
  expect_all(testing::gemm_cases(1), 1);
}

TEST_F(Cuda, EventsMeasureTime) {
  const Bytes size{64 << 20};
  auto buffer = context_->allocate(size);
  auto before = context_->event(), after = context_->event();
  ASSERT_TRUE(buffer && before && after);
  ASSERT_TRUE(context_->record(*before));
  ASSERT_TRUE(context_->fill(buffer->data(), 1, size));
  ASSERT_TRUE(context_->record(*after));
  const auto seconds = context_->elapsed(*before, *after);
  ASSERT_TRUE(seconds);
  EXPECT_GT(*seconds, 0);
}

TEST_F(Cuda, SaysWhatMemoryItLacks) {
  const auto buffer = context_->allocate(Bytes{std::int64_t{1} << 50});
  ASSERT_FALSE(buffer);
  EXPECT_THAT(buffer.error().message, ::testing::HasSubstr("MiB free"));
}

// Needs no GPU: the reason is told, whether CUDA is built in or not.
TEST(CudaAnywhere, AGpuThatIsNotThereIsUnavailable) {
  const auto context = cuda::Context::create(99);
  ASSERT_FALSE(context);
  EXPECT_EQ(context.error().fault, Fault::unavailable);
  EXPECT_FALSE(context.error().message.empty());
}

}  // namespace
}  // namespace troupe::kernels
