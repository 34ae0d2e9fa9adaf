#include "data/corpus.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <fstream>

namespace troupe::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Corpus, IsCutAtEmptyLines) {
  const auto corpus = byte_corpus("ab\nc\n\n \t\r\nd", "text");
  ASSERT_TRUE(corpus.has_value());
  EXPECT_THAT(corpus->documents,
              ElementsAre(ElementsAre('a', 'b', '\n', 'c', '\n', 256),
                          ElementsAre('d', '\n', 256)));
  EXPECT_EQ(corpus->vocabulary, 257);
}

TEST(Corpus, TakesBytesThatAreNoText) {
  const std::string text{"\xff\0\x80", 3};
  const auto corpus = byte_corpus(text, "text");
  ASSERT_TRUE(corpus.has_value());
  EXPECT_THAT(corpus->documents,
              ElementsAre(ElementsAre(255, 0, 128, '\n', 256)));
}

TEST(Corpus, NeedsADocument) {
  for (const char* text : {"", "\n", "\n\n \t\r\n", "  "}) {
    const auto corpus = byte_corpus(text, "empty.txt");
    ASSERT_FALSE(corpus.has_value()) << text;
    EXPECT_EQ(corpus.error().fault, Fault::input);
    EXPECT_THAT(corpus.error().message, HasSubstr("empty.txt: no text"));
  }
}

/// Lines with something in them come back, in order, and nothing else.
RC_GTEST_PROP(Corpus, KeepsEveryLineWithText, ()) {
  const auto lines = *rc::gen::container<std::vector<std::string>>(
      rc::gen::container<std::string>(
          rc::gen::element('a', 'b', ' ', '\t', '\r', '\x80')));
  const auto empty = [](const std::string& line) {
    return line.find_first_not_of(" \t\r") == std::string::npos;
  };
  std::string text;
  std::vector<std::string> want(1);
  for (const std::string& line : lines) {
    text += line + "\n";
    if (!empty(line)) {
      want.back() += line + "\n";
    } else if (!want.back().empty()) {
      want.emplace_back();
    }
  }
  if (want.back().empty()) want.pop_back();
  if (*rc::gen::arbitrary<bool>() && !text.empty()) text.pop_back();
  const auto corpus = byte_corpus(text, "text");
  RC_ASSERT(corpus.has_value() == !want.empty());
  if (!corpus) return;
  std::vector<std::string> got;
  for (const auto& document : corpus->documents) {
    std::string& back = got.emplace_back();
    for (std::size_t i = 0; i + 1 < document.size(); ++i) {
      back += static_cast<char>(document[i]);
    }
    RC_ASSERT(document.back() == kEndOfDocument);
  }
  RC_ASSERT(got == want);
}

TEST(Corpus, IsReadFromAFile) {
  const auto path =
      std::filesystem::path(testing::TempDir()) / "troupe_corpus_test.txt";
  std::ofstream(path) << "one\n\ntwo\n";
  const auto text = read_text(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(text.has_value()) << text.error().message;
  const auto corpus = byte_corpus(*text, path.string());
  ASSERT_TRUE(corpus.has_value()) << corpus.error().message;
  EXPECT_EQ(corpus->documents.size(), 2U);
  const auto gone = read_text(path);
  ASSERT_FALSE(gone.has_value());
  EXPECT_EQ(gone.error().fault, Fault::input);
  EXPECT_THAT(gone.error().message, HasSubstr(path.string()));
}

TEST(Corpus, SampleHasDocumentsOfManyLengths) {
  std::vector<std::size_t> lengths;
  for (const auto& d : sample_corpus().documents) lengths.push_back(d.size());
  EXPECT_GT(lengths.size(), 8U);
  EXPECT_LT(*std::ranges::min_element(lengths), 16U);
  EXPECT_GT(*std::ranges::max_element(lengths), 100U);
}

}  // namespace
}  // namespace troupe::data
