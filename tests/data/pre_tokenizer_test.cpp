// Words of the known patterns, worked out by hand from the expressions.
#include "data/pre_tokenizer.h"

#include <gmock/gmock.h>

namespace troupe::data {
namespace {

using testing::HasSubstr;
using Words = std::vector<std::string>;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool regex, bool blank = false) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", blank},
          {"trim_offsets", true},
          {"use_regex", regex}};
}

Json split(const std::string& pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json sequence(const std::vector<Json>& stages) {
  return {{"type", "Sequence"}, {"pretokenizers", stages}};
}

Result<Words> words(const Json& json, const std::string& text) {
  Findings findings;
  PreTokenizer cutter(json, "t.json: /pre_tokenizer", findings);
  if (!findings.ok()) return fail(findings.to_error());
  Words out;
  TRY_DO(cutter.cut(text, [&](std::string_view word) -> Result<void> {
    out.emplace_back(word);
    return {};
  }));
  return out;
}

struct Case {
  const char* text;
  Words words;
};

/// Contractions in small letters only; one blank goes to the word after it,
/// of several the last; signs, letters and numbers never share a word.
TEST(PreTokenizer, CutsAsGpt2) {
  const std::vector<Case> cases{
      {"Hello world", {"Hello", " world"}},
      {"I'm  here", {"I", "'m", " ", " here"}},
      {"IT'S", {"IT", "'", "S"}},
      {"we'll, they've", {"we", "'ll", ",", " they", "'ve"}},
      {"a   b", {"a", "  ", " b"}},
      {"x\n\n  y", {"x", "\n\n ", " y"}},
      {"end  ", {"end", "  "}},
      {"abc123!? 45", {"abc", "123", "!?", " 45"}},
      // A half and a superscript are numbers (\p{N}).
      {"\u00BD x\u00B2", {"\u00BD", " x", "\u00B2"}},
      {"d\u00E9j\u00E0 vu", {"d\u00E9j\u00E0", " vu"}},
      {"\u65E5\u672C\u8A9E", {"\u65E5\u672C\u8A9E"}},
      // A no-break space is white space (\s) but not the blank before a word.
      {"a\u00A0b", {"a", "\u00A0", "b"}},
      {"\U0001F600\U0001F600!", {"\U0001F600\U0001F600!"}},
      // A combining accent is no letter (\p{M}).
      {"e\u0301t", {"e", "\u0301", "t"}},
      {"", {}}};
  for (const Case& c : cases) {
    EXPECT_EQ(*words(byte_level(true), c.text), c.words) << c.text;
  }
}

/// Contractions in any letters; any one sign goes to the letters after it;
/// numbers in threes; line ends stay with signs or blanks before them.
TEST(PreTokenizer, CutsAsLlama3) {
  const Json json = sequence({split(kLlama3), byte_level(false)});
  const std::vector<Case> cases{
      {"Hello world", {"Hello", " world"}},
      {"IT'S 1234567", {"IT", "'S", " ", "123", "456", "7"}},
      {"(hello)", {"(hello", ")"}},
      {"a.b", {"a", ".b"}},
      {"x = 1;\n\n\ny", {"x", " =", " ", "1", ";\n\n\n", "y"}},
      {"  \n a", {"  \n", " a"}},
      {"a\t\tb", {"a", "\t", "\tb"}},
      {"a\r\n\r\n", {"a", "\r\n\r\n"}},
      {"a    b", {"a", "   ", " b"}},
      {"\u00BD\u00BD\u00BD\u00BD", {"\u00BD\u00BD\u00BD", "\u00BD"}},
      {"e\u0301t", {"e", "\u0301t"}},
      {"end  ", {"end", "  "}}};
  for (const Case& c : cases) {
    EXPECT_EQ(*words(json, c.text), c.words) << c.text;
  }
}

TEST(PreTokenizer, CutsStageAfterStage) {
  const Json digits{{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_EQ(*words(sequence({digits, byte_level(true)}), "ab12 c"),
            (Words{"ab", "1", "2", " c"}));
  EXPECT_EQ(
      *words(sequence({split("-"), split("b"), byte_level(false)}), "abc-b-d"),
      (Words{"a", "b", "c", "-", "b", "-", "d"}));
  // A sequence within a sequence; patterns that match nothing, and as text.
  Json text = split("");
  text["pattern"] = {{"String", "a.c"}};
  EXPECT_EQ(*words(sequence({sequence({text}), byte_level(false)}), "abca.cd"),
            (Words{"abc", "a.c", "d"}));
  EXPECT_EQ(*words(sequence({split("x*"), byte_level(false)}), "a\u00E9xxb"),
            (Words{"a\u00E9", "xx", "b"}));
  EXPECT_EQ(*words(byte_level(true, true), "a b"), (Words{" a", " b"}));
  EXPECT_EQ(*words(sequence({split("-"), byte_level(false, true)}), "a- b"),
            (Words{" a", " -", " b"}));
  Json kept = split("\\p{L}+");
  kept["behavior"] = "Removed";
  kept["invert"] = true;
  EXPECT_EQ(*words(sequence({kept, byte_level(false)}), "ab, c"),
            (Words{"ab", "c"}));
}

TEST(PreTokenizer, SaysWhatItDoesNotTake) {
  Json merged = split("a");
  merged["behavior"] = "MergedWithNext";
  Json removed = split("a");
  removed["behavior"] = "Removed";
  Json unknown = split("a");
  unknown["extra"] = 1;
  Json pattern = split("a");
  pattern["pattern"] = "a";
  const Json last = byte_level(false);
  const std::vector<std::pair<Json, const char*>> cases{
      {sequence({split("(a"), last}), "'(a' is not an expression"},
      {sequence({split("\\C"), last}), "is not an expression"},
      {sequence({split("(?<=a+)b"), last}), "is not an expression"},
      {sequence({split(std::string(70000, 'a')), last}), "70000 bytes"},
      {sequence({split(std::string(300, '(') + std::string(300, ')')), last}),
       "is not an expression"},
      {sequence({split(""), last}), "/pretokenizers/0/pattern/Regex: empty"},
      {sequence({merged, last}), "'MergedWithNext' is not supported"},
      {sequence({removed, last}), "'Removed' is not supported"},
      {sequence({unknown, last}), "/pretokenizers/0/extra: unknown key"},
      {sequence({pattern, last}), "/pretokenizers/0/pattern: expected an obj"},
      {sequence({split("a")}), "no ByteLevel"},
      {sequence({last, split("a")}), "'Split' after ByteLevel"},
      {sequence({}), "no ByteLevel"},
      {sequence(std::vector<Json>(100, split("a"))), "more than 64 stages"},
      {{{"type", "Sequence"}, {"pretokenizers", 3}}, "expected a list"},
      {{{"type", "ByteLevel"}, {"use_regex", "yes"}}, "use_regex"},
      {{{"type", "Metaspace"}}, "/pre_tokenizer/type: 'Metaspace'"}};
  for (const auto& [json, message] : cases) {
    const auto found = words(json, "text");
    ASSERT_FALSE(found.has_value()) << json;
    EXPECT_EQ(found.error().fault, Fault::input);
    EXPECT_THAT(found.error().message, HasSubstr(message));
  }
}

/// A nested repeat needs twice the steps for each letter more.
TEST(PreTokenizer, EndsExpressionsThatTakeForever) {
  std::string pairs;
  for (int i = 0; i < 40; ++i) pairs += "ab";
  const std::string letters(60, 'a');
  for (const auto& [pattern, text] :
       {std::pair{"(a+)+$", letters + "!"},
        std::pair{"(?:a|a)+[bc]", letters + "!"},
        std::pair{"(?:a|b|ab)*(?:c|d)", pairs + "!"}}) {
    const auto found =
        words(sequence({split(pattern), byte_level(false)}), text);
    ASSERT_FALSE(found.has_value()) << pattern;
    EXPECT_THAT(found.error().message, HasSubstr("cannot be used on a text"));
  }
  const auto recursion =
      words(sequence({split("(?:a(?R)?)+?[bc]"), byte_level(false)}),
            std::string(100000, 'a'));
  EXPECT_FALSE(recursion.has_value());
}

/// Long runs of one kind, which expressions look at from every place.
TEST(PreTokenizer, TakesLongRuns) {
  const std::string blanks(200000, ' ');
  const std::string letters(200000, 'x');
  for (const Json& json :
       {byte_level(true), sequence({split(kLlama3), byte_level(false)})}) {
    EXPECT_EQ(words(json, blanks)->size(), 1U);
    EXPECT_EQ(words(json, letters)->size(), 1U);
    EXPECT_EQ(words(json, blanks + "x")->size(), 2U);
  }
}

}  // namespace
}  // namespace troupe::data
