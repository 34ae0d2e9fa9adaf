// tokenizer.json: byte-level BPE against plain merging, and what is refused.
#include "data/tokenizer_json.h"

#include <gmock/gmock.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "data/corpus.h"
#include "small_tokenizer.h"

namespace troupe::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<std::vector<std::int32_t>> encode(const Json& json,
                                         const std::string& text) {
  TRY(const Tokenizer tokenizer, parse_tokenizer_json(json, "t.json", {}));
  std::vector<std::int32_t> out;
  TRY_DO(tokenizer.encode(text, out));
  return out;
}

RC_GTEST_PROP(TokenizerJson, MergesTheLowestRankedPairFirst, ()) {
  const SmallTokenizer small = random_tokenizer();
  const std::string text = random_text(60);
  const auto tokens = encode(small.json(), text);
  RC_ASSERT(tokens.has_value());
  RC_ASSERT(*tokens == small.encode(text));
}

/// The spellings of the tokens, one after the other, are those of the bytes.
RC_GTEST_PROP(TokenizerJson, KeepsEveryByteOfText, (bool regex, bool twice)) {
  const SmallTokenizer small = random_tokenizer();
  Json json = small.json();
  json["pre_tokenizer"]["use_regex"] = regex;
  const auto tokenizer = parse_tokenizer_json(json, "t.json", {});
  RC_ASSERT(tokenizer.has_value());
  const std::string text = random_text(200);
  std::vector<std::int32_t> tokens;
  RC_ASSERT(tokenizer->encode(text, tokens).has_value());
  std::string got;
  std::string want;
  for (const std::int32_t t : tokens) {
    got += small.tokens.at(static_cast<std::size_t>(t));
  }
  for (const char c : text) want += spelt(static_cast<unsigned char>(c));
  RC_ASSERT(got == want);
  if (!twice) return;  // words that were kept give the same
  std::vector<std::int32_t> again;
  RC_ASSERT(tokenizer->encode(text, again).has_value());
  RC_ASSERT(again == tokens);
}

/// Tokens: 0 to 255 bytes, 256 "ab", 257 "abab"; 258 <|endoftext|>.
Json abab() {
  SmallTokenizer small;
  for (int b = 0; b < 256; ++b) {
    small.tokens.push_back(spelt(static_cast<unsigned char>(b)));
  }
  small.tokens.insert(small.tokens.end(), {"ab", "abab"});
  small.merges = {{"a", "b"}, {"ab", "ab"}};
  return small.json();
}

TEST(TokenizerJson, FindsAddedTokensBeforeWords) {
  Json json = abab();
  json["added_tokens"].push_back(
      {{"id", 259}, {"content", "<|end"}, {"normalized", true}});
  json["added_tokens"].push_back(
      {{"id", 260}, {"content", "ba"}, {"normalized", false}});
  // The longest at a place counts: <|endoftext|>, not <|end.
  EXPECT_THAT(*encode(json, "ab<|endoftext|>x<|end"),
              ElementsAre(256, 258, 'x', 259));
  EXPECT_THAT(*encode(json, "abab"), ElementsAre('a', 260, 'b'));
  const auto tokenizer = parse_tokenizer_json(json, "t.json", {});
  EXPECT_EQ(tokenizer->vocabulary, 261);
  EXPECT_EQ(tokenizer->end, 258);
}

TEST(TokenizerJson, TakesWholeWordsWhereMergesAreIgnored) {
  Json json = abab();
  json["model"]["merges"].clear();
  EXPECT_THAT(*encode(json, "abab"), ElementsAre('a', 'b', 'a', 'b'));
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(*encode(json, "abab"), ElementsAre(257));
  EXPECT_THAT(*encode(json, "aba"), ElementsAre('a', 'b', 'a'));
}

TEST(TokenizerJson, PutsABlankBeforeAText) {
  Json json = abab();
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_THAT(*encode(json, "ab"), ElementsAre(' ', 256));
  EXPECT_THAT(*encode(json, " ab"), ElementsAre(' ', 256));
  EXPECT_THAT(*encode(json, "ab<|endoftext|>ab"),
              ElementsAre(' ', 256, 258, ' ', 256));
}

/// e and an acute accent are one character in NFC, bytes C3 A9.
TEST(TokenizerJson, NormalizesUnicode) {
  Json json = abab();
  EXPECT_EQ(encode(json, "e\xCC\x81")->size(), 3U);
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_THAT(*encode(json, "e\xCC\x81"), ElementsAre(0xC3, 0xA9));
  json["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers", {{{"type", "NFC"}}, {{"type", "NFD"}}}}};
  EXPECT_THAT(*encode(json, "\xC3\xA9"), ElementsAre('e', 0xCC, 0x81));
}

TEST(TokenizerJson, TakesUnknownBytesAsItIsTold) {
  Json json = abab();
  json["model"]["vocab"].erase("x");
  const auto none = encode(json, "axb");
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("byte 0x78 has no token"));
  json["model"]["unk_token"] = "ab";
  EXPECT_THAT(*encode(json, "axb"), ElementsAre('a', 256, 'b'));
}

TEST(TokenizerJson, RefusesTextThatIsNotUtf8) {
  for (const char* text : {"a\xFF", "\xC3", "\xC0\x80", "\xED\xA0\x80",
                           "\xF4\x90\x80\x80", "\xE2\x82"}) {
    const auto tokens = encode(abab(), text);
    ASSERT_FALSE(tokens.has_value()) << text;
    EXPECT_THAT(tokens.error().message, HasSubstr("is not UTF-8"));
  }
}

TEST(TokenizerJson, EndsDocumentsOfACorpus) {
  const auto tokenizer = parse_tokenizer_json(abab(), "t.json", {});
  ASSERT_TRUE(tokenizer.has_value());
  const auto corpus = make_corpus("abab\n\nb\n", "text", *tokenizer);
  ASSERT_TRUE(corpus.has_value());
  EXPECT_THAT(corpus->documents, ElementsAre(ElementsAre(257, '\n', 258),
                                             ElementsAre('b', '\n', 258)));
  EXPECT_EQ(corpus->vocabulary, 259);
  EXPECT_EQ(token_count(*corpus), 6);
  const auto bad = make_corpus("a\n\nb\n\xFF\n", "text", *tokenizer);
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message, HasSubstr("text: the document of line 3"));
}

Result<std::int32_t> end_of(const Json& json, const EndSource& source) {
  TRY(const Tokenizer t, parse_tokenizer_json(json, "t.json", source));
  return t.end;
}

TEST(TokenizerJson, DecidesWhatEndsADocument) {
  Json json = abab();
  EXPECT_EQ(end_of(json, {}), 258);
  EXPECT_EQ(end_of(json, {.asked = "ab"}), 256);
  EXPECT_EQ(end_of(json, {.configured = "abab", .file = "c.json"}), 257);
  json["post_processor"] = {{"type", "Sequence"},
                            {"processors",
                             {{{"type", "ByteLevel"}},
                              {{"type", "TemplateProcessing"},
                               {"single",
                                {{{"SpecialToken", {{"id", "a"}}}},
                                 {{"Sequence", {{"id", "A"}}}},
                                 {{"SpecialToken", {{"id", "b"}}}}}}}}}};
  EXPECT_EQ(end_of(json, {}), 'b');
  EXPECT_EQ(end_of(json, {.asked = "ab"}), 256);
  for (const auto& [source, words] :
       {std::pair{EndSource{.asked = "no"}, "--end-token 'no'"},
        std::pair{EndSource{.configured = "no", .file = "c.json"},
                  "c.json: /eos_token 'no'"}}) {
    const auto end = end_of(json, source);
    ASSERT_FALSE(end.has_value());
    EXPECT_THAT(end.error().message, HasSubstr(words));
  }
  json = abab();
  json["added_tokens"][0]["content"] = "<fin>";
  const auto none = end_of(json, {});
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("name it with --end-token"));
}

/// A folder of its own with files, for a test.
struct Folder {
  std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) / "troupe_tokenizer_test";
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path write(const std::string& name,
                              const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return path / name;
  }
};

TEST(TokenizerJson, IsReadWithItsConfiguration) {
  const Folder folder;
  const auto path = folder.write("tokenizer.json", abab().dump());
  const auto alone = read_tokenizer(path);
  ASSERT_TRUE(alone.has_value()) << alone.error().message;
  EXPECT_EQ(alone->end, 258);
  EXPECT_EQ(alone->name, path.string());
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "ab"}})");
  const auto configured = read_tokenizer(path);
  ASSERT_TRUE(configured.has_value());
  EXPECT_EQ(configured->end, 256);
  EXPECT_NE(configured->hash, alone->hash);
  EXPECT_EQ(read_tokenizer(path, "abab")->end, 257);
  folder.write("tokenizer_config.json", R"({"eos_token": 3})");
  const auto bad = read_tokenizer(path);
  ASSERT_FALSE(bad.has_value());
  EXPECT_THAT(bad.error().message, HasSubstr("/eos_token: expected"));
}

struct Refusal {
  const char* where;  ///< JSON pointer
  Json value;
  const char* words;
};

std::vector<Refusal> refusals() {
  const char* const added = "/added_tokens/0/content";
  return {
      {"/model", nullptr, "t.json: /model: expected an object"},
      {"/model/type", "WordPiece", "/model/type: 'WordPiece' is not supported"},
      {"/model/type", 3, "/model/type"},
      {"/model/byte_fallback", true, "give the tokenizer.model"},
      {"/model/byte_fallback", "yes", "/model/byte_fallback"},
      {"/model/fuse_unk", true, "/model/fuse_unk"},
      {"/model/dropout", 0.1, "/model/dropout: 0.1 is not supported"},
      {"/model/end_of_word_suffix", "</w>", "/model/end_of_word_suffix"},
      {"/model/continuing_subword_prefix", "##", "##"},
      {"/model/ignore_merges", 1, "/model/ignore_merges"},
      {"/model/unk_token", "<unk>", "/model/unk_token: \"<unk>\" is not in"},
      {"/model/unk_token", 7, "/model/unk_token"},
      {"/model/vocab", Json::array(), "/model/vocab: expected an object"},
      {"/model/vocab", Json::object(), "/model/vocab: expected an object"},
      {"/model/vocab/a", -1, "/model/vocab/a: expected a whole number"},
      {"/model/vocab/a", 1e18, "/model/vocab/a"},
      {"/model/vocab/a", "97", "/model/vocab/a"},
      {"/model/vocab/a", 98, "number 98 is another token's too"},
      {"/model/merges", Json::object(), "/model/merges: expected a list"},
      {"/model/merges/0", "a", "/model/merges/0: expected \"a b\""},
      {"/model/merges/0", "a b c", "/model/merges/0"},
      {"/model/merges/0", 3, "/model/merges/0"},
      {"/model/merges/0", {"a", "b", "c"}, "/model/merges/0"},
      {"/model/merges/0", "a zzz", "'zzz' is not in /model/vocab"},
      {"/model/merges/1", "b a", "'ba' is not in /model/vocab"},
      {"/model/extra", 1, "/model/extra: unknown key"},
      {"/extra", 1, "/extra: unknown key"},
      {"/added_tokens", 3, "/added_tokens: expected a list"},
      {"/added_tokens/0", "x", "/added_tokens/0: expected an object"},
      {"/added_tokens/0/id", 5, "number 5 is another token's too"},
      {"/added_tokens/0/id", nullptr, "/added_tokens/0/id"},
      {"/added_tokens/0/lstrip", true, "/added_tokens/0/lstrip: true"},
      {"/added_tokens/0/single_word", true, "/added_tokens/0/single_word"},
      {added, "", "/added_tokens/0/content: 0 bytes"},
      {added, std::string(2000, 'x'), "2000 bytes"},
      {added, "ab", "'ab' is 258 here and 256 before"},
      {"/normalizer", "NFC", "/normalizer: expected an object"},
      {"/normalizer", {{"type", "Lowercase"}}, "/normalizer/type: 'Lowercase'"},
      {"/normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}}}}},
       "/normalizer/normalizers/0/type: 'Prepend'"},
      {"/normalizer", {{"type", "Sequence"}}, "/normalizer/normalizers"},
      {"/pre_tokenizer", nullptr, "/pre_tokenizer: no ByteLevel"},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, "'Whitespace' is not supp"},
      {"/pre_tokenizer", {{"type", 3}}, "/pre_tokenizer/type"}};
}

TEST(TokenizerJson, SaysWhatItDoesNotTake) {
  for (const Refusal& refusal : refusals()) {
    Json json = abab();
    json[Json::json_pointer(refusal.where)] = refusal.value;
    const auto tokenizer = parse_tokenizer_json(json, "t.json", {});
    ASSERT_FALSE(tokenizer.has_value()) << refusal.where << refusal.value;
    EXPECT_EQ(tokenizer.error().fault, Fault::input);
    EXPECT_THAT(tokenizer.error().message, HasSubstr(refusal.words));
  }
  for (const Json& root : {Json(), Json(3), Json::array(), Json::object()}) {
    EXPECT_FALSE(parse_tokenizer_json(root, "t.json", {}).has_value());
  }
}

TEST(TokenizerJson, IsNotReadFromSomethingElse) {
  const Folder folder;
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"model":)";
  for (const auto& [name, text] :
       {std::pair{"a.json", std::string()}, std::pair{"b.json", deep},
        std::pair{"c.json", std::string("\xFF\xFE{}")},
        std::pair{"d.json", abab().dump().substr(0, 1000)},
        std::pair{"e.txt", std::string("{]")}}) {
    const auto tokenizer = read_tokenizer(folder.write(name, text));
    ASSERT_FALSE(tokenizer.has_value()) << name;
    EXPECT_EQ(tokenizer.error().fault, Fault::input);
    EXPECT_THAT(tokenizer.error().message, HasSubstr(name));
  }
  const auto gone = read_tokenizer(folder.path / "gone.json");
  ASSERT_FALSE(gone.has_value());
  EXPECT_THAT(gone.error().message, HasSubstr("gone.json"));
}

/// Bytes of the file are changed at random: an error, or a tokenizer that
/// cuts text.
RC_GTEST_PROP(TokenizerJson, SurvivesDamage, ()) {
  std::string text = abab().dump();
  const int changes = *rc::gen::inRange(1, 4);
  for (int i = 0; i < changes; ++i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
    text[at] = *rc::gen::element('"', '{', ']', '0', '9', '-', ',', 'a', '\\');
  }
  const auto json = parse_json(text, "t.json");
  if (!json) return;
  const auto tokenizer = parse_tokenizer_json(*json, "t.json", {});
  if (!tokenizer) {
    RC_ASSERT(!tokenizer.error().message.empty());
    return;
  }
  std::vector<std::int32_t> tokens;
  if (!tokenizer->encode("ab abab <|endoftext|>", tokens)) return;
  for (const std::int32_t t : tokens) {
    RC_ASSERT(t >= 0);
    RC_ASSERT(t < tokenizer->vocabulary);
  }
}

}  // namespace
}  // namespace troupe::data
