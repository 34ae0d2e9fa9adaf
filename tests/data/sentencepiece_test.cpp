// Models that spm_train makes here, against spm_encode; damaged ones.
#include "data/sentencepiece.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "base/file.h"
#include "data/corpus.h"

namespace troupe::data {
namespace {

using testing::HasSubstr;

int run(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str());
}

/// Models of the sample text in a folder of their own.
class SentencePiece : public testing::Test {
 protected:
  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      testing::UnitTest::GetInstance()->current_test_info()->name();

  void SetUp() override {
    if (run("command -v spm_train && command -v spm_encode") != 0) {
      GTEST_SKIP() << "spm_train and spm_encode are not there (Debian's "
                      "package sentencepiece)";
    }
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / "text.txt") << sample_text();
    std::ofstream(folder_ / "lines.txt")
        << sample_text() << "caf\u00E9 \U0001F600  two blanks\n"
        << "\uFF21\uFF22 \u2167 full-width, a number in one sign\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path train(const std::string& name,
                              const std::string& options) const {
    const auto prefix = folder_ / name;
    EXPECT_EQ(run(fmt::format("spm_train --input={} --model_prefix={} "
                              "--hard_vocab_limit=false {}",
                              (folder_ / "text.txt").string(), prefix.string(),
                              options)),
              0);
    return prefix.string() + ".model";
  }
};

constexpr const char* kUnigram = "--vocab_size=120 --model_type=unigram";
/// As Llama 2: bytes for what is unknown, text as it is.
constexpr const char* kLikeLlama =
    "--vocab_size=400 --model_type=bpe --byte_fallback=true "
    "--normalization_rule_name=identity --remove_extra_whitespaces=false "
    "--split_digits=true";

TEST_F(SentencePiece, GivesTheTokensOfItsOwnProgram) {
  for (const auto& [name, options] :
       {std::pair{"unigram", kUnigram}, std::pair{"llama", kLikeLlama},
        std::pair{"bpe", "--vocab_size=130 --model_type=bpe"}}) {
    const auto path = train(name, options);
    const auto tokenizer = read_tokenizer(path);
    ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
    EXPECT_EQ(tokenizer->end, 2);  // spm_train: <unk>, <s>, </s>
    const auto ids = folder_ / "ids.txt";
    ASSERT_EQ(
        std::system(fmt::format("spm_encode --model={} "
                                "--output_format=id <{} >{} 2>/dev/null",
                                path.string(), (folder_ / "lines.txt").string(),
                                ids.string())
                        .c_str()),
        0);
    std::ifstream text(folder_ / "lines.txt");
    std::ifstream expected(ids);
    std::string line;
    std::string numbers;
    int lines = 0;
    while (std::getline(text, line) && std::getline(expected, numbers)) {
      std::vector<std::int32_t> want;
      std::istringstream words(numbers);
      for (std::int32_t id = 0; words >> id;) want.push_back(id);
      std::vector<std::int32_t> got;
      ASSERT_TRUE(tokenizer->encode(line, got).has_value());
      EXPECT_EQ(got, want) << name << ": " << line;
      for (const auto id : got) EXPECT_LT(id, tokenizer->vocabulary);
      ++lines;
    }
    EXPECT_GT(lines, 20);
  }
}

TEST_F(SentencePiece, EndsDocumentsAsTheModelOrTheUserSays) {
  const auto path = train("m", std::string(kUnigram) + " --eos_id=-1");
  const auto none = read_tokenizer(path);
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("the model has no eos"));
  const auto begin = read_tokenizer(path, "<s>");
  ASSERT_TRUE(begin.has_value()) << begin.error().message;
  EXPECT_EQ(begin->end, 1);
  const auto wrong = read_tokenizer(path, "<fin>");
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, HasSubstr("--end-token <fin>"));
  const auto corpus = make_corpus("A stage.\n\nA bubble.\n", "text", *begin);
  ASSERT_TRUE(corpus.has_value());
  EXPECT_EQ(corpus->documents.size(), 2U);
  for (const auto& document : corpus->documents) {
    EXPECT_EQ(document.back(), 1);
    EXPECT_GT(document.size(), 2U);
  }
  std::vector<std::int32_t> tokens;
  EXPECT_FALSE(begin->encode("\xFF", tokens).has_value());
}

/// Cut off anywhere or with bytes changed: an error, or a model that cuts
/// text; never an end of the program.
TEST_F(SentencePiece, SurvivesDamagedModels) {
  const auto path = train("m", kUnigram);
  const std::string whole = *read_file(path);
  std::mt19937 random(1);
  const std::string text(sample_text().substr(0, 300));
  int errors = 0;
  for (int i = 0; i < 200; ++i) {
    std::string damaged = whole;
    if (i % 4 == 0) {
      damaged.resize(random() % whole.size());
    } else {
      for (int k = 0; k < 1 + i % 20; ++k) {
        damaged[random() % damaged.size()] = static_cast<char>(random());
      }
    }
    auto tokenizer = read_sentencepiece("m.model", damaged, "");
    if (!tokenizer) {
      EXPECT_EQ(tokenizer.error().fault, Fault::input);
      EXPECT_THAT(tokenizer.error().message, HasSubstr("m.model"));
      ++errors;
      continue;
    }
    std::vector<std::int32_t> tokens;
    (void)tokenizer->encode(text + "\uFF21\u2167", tokens);
  }
  EXPECT_GT(errors, 50);
}

TEST(SentencePieceFile, IsNotSomethingElse) {
  for (const std::string& content :
       {std::string(), std::string("hello"), std::string(1000, '\xFF'),
        std::string(1000, '\0'), std::string("\x0A\xFF\xFF\xFF\xFF\x0F")}) {
    const auto tokenizer = read_sentencepiece("m.model", content, "");
    ASSERT_FALSE(tokenizer.has_value());
    EXPECT_EQ(tokenizer.error().fault, Fault::input);
    EXPECT_THAT(tokenizer.error().message,
                HasSubstr("m.model: not a SentencePiece model"));
  }
}

}  // namespace
}  // namespace troupe::data
