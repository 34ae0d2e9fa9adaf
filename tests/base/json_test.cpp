// Reading JSON that people, or enemies, write.
#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

namespace troupe {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string error_of(const std::string& text) {
  const Result<Json> json = parse_json(text, "f.json");
  return json ? "" : json.error().message;
}

TEST(ParseJson, AllowsComments) {
  const Result<Json> json = parse_json("{ // one\n \"a\": /* two */ 1 }", "f");
  ASSERT_TRUE(json) << json.error().message;
  EXPECT_EQ((*json)["a"], 1);
}

TEST(ParseJson, SaysWhereTheSyntaxIsWrong) {
  EXPECT_THAT(error_of("{\n  \"a\": 1,,\n}"), HasSubstr("line 2, column 10"));
  EXPECT_THAT(error_of("[1, 2"), HasSubstr("line 1, column 5"));
  EXPECT_THAT(error_of(""), HasSubstr("line 1, column 1"));
  EXPECT_THAT(error_of("{} {}"), HasSubstr("line 1"));
  EXPECT_THAT(error_of("[\"\xff\"]"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(std::string("[1\0]", 4)), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("NaN"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("[Infinity]"), HasSubstr("not valid JSON"));
}

TEST(ParseJson, RefusesRepeatedKeysAndSaysWhere) {
  const std::string error = error_of("{\"a\": 1,\n \"a\": 2}");
  EXPECT_THAT(error, HasSubstr("key 'a' appears twice"));
  EXPECT_THAT(error, HasSubstr("line 2, column 4"));
  EXPECT_EQ(error_of(R"({"a": {"a": [{"a": 1}, {"a": 2}]}})"), "");
  EXPECT_THAT(error_of(R"([{"x": 1}, {"b": {}, "b": []}])"),
              HasSubstr("key 'b'"));
  EXPECT_THAT(error_of(R"({"a": 1, "\u0061": 2})"), HasSubstr("twice"));
}

TEST(ParseJson, RefusesNumbersThatOverflowAndSaysWhere) {
  const std::string error = error_of("{\"a\":\n  1e999}");
  EXPECT_THAT(error, HasSubstr("number overflow"));
  EXPECT_THAT(error, HasSubstr("line 2"));
  EXPECT_THAT(error, Not(HasSubstr("json.exception")));
  EXPECT_THAT(error_of("[-1e999]"), HasSubstr("number overflow"));
}

TEST(ParseJson, RefusesNestingBombs) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(error_of(nested(64)), "");
  EXPECT_THAT(error_of(nested(65)), HasSubstr("deeper than 64"));
  EXPECT_THAT(error_of(nested(2'000'000)), HasSubstr("deeper than 64"));
  EXPECT_THAT(error_of(std::string(2'000'000, '[')), HasSubstr("deeper"));
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_THAT(error_of(objects), HasSubstr("deeper than 64"));
}

// A quote in a comment once hid the brackets after it from the check, and
// brackets in a comment counted.
TEST(ParseJson, CountsNestingOutsideCommentsAndStrings) {
  const std::string many(100'000, '[');
  EXPECT_THAT(error_of("// it's \"\n" + many), HasSubstr("deeper than 64"));
  EXPECT_THAT(error_of("/* \" */" + many), HasSubstr("deeper than 64"));
  EXPECT_EQ(error_of("// " + many + "\n[1]"), "");
  EXPECT_EQ(error_of("/* " + many + " */ [1]"), "");
  EXPECT_EQ(error_of("[\"\\\"" + many + "\"]"), "");
  EXPECT_EQ(error_of("[\"// \", [\"/*\"]]"), "");
}

TEST(ParseJson, SurvivesManyProblemsQuickly) {
  std::string text = "{\"a\": 0";
  for (int i = 0; i < 100'000; ++i) text += ",\"a\":0";
  EXPECT_THAT(error_of(text + "}"), HasSubstr("twice"));
}

RC_GTEST_PROP(ParseJson, NeverCrashesOnAnyText, ()) {
  const auto text = *rc::gen::container<std::string>(
      rc::gen::oneOf(rc::gen::elementOf(std::string("{}[]\",:/*\n\\eE+-.019")),
                     rc::gen::arbitrary<char>()));
  const Result<Json> json = parse_json(text, "f");
  if (json) {
    const Result<Json> again = parse_json(to_text(*json), "again");
    RC_ASSERT(again.has_value());
    RC_ASSERT(*again == *json);
  } else {
    RC_ASSERT(!json.error().message.empty());
  }
}

TEST(WholeNumber, AcceptsOnlyWholeNumbersThatFit) {
  EXPECT_EQ(whole_number(Json::parse("7")), 7);
  EXPECT_EQ(whole_number(Json::parse("-7")), -7);
  EXPECT_EQ(whole_number(Json::parse("1e3")), 1000);
  EXPECT_EQ(whole_number(Json::parse("2.0")), 2);
  EXPECT_EQ(whole_number(Json::parse("-0.0")), 0);
  EXPECT_EQ(whole_number(Json::parse("9223372036854775807")),
            std::numeric_limits<std::int64_t>::max());
  EXPECT_FALSE(whole_number(Json::parse("9223372036854775808")));
  EXPECT_FALSE(whole_number(Json::parse("99999999999999999999")));
  EXPECT_FALSE(whole_number(Json::parse("1e300")));
  EXPECT_FALSE(whole_number(Json::parse("1.5")));
  EXPECT_FALSE(whole_number(Json::parse("\"7\"")));
  EXPECT_FALSE(whole_number(Json::parse("true")));
  EXPECT_FALSE(whole_number(Json::parse("null")));
  EXPECT_FALSE(whole_number(Json(NAN)));
}

class Object : public testing::Test {
 protected:
  JsonObject open(const char* text) {
    json_ = Json::parse(text);
    return JsonObject(json_, "f.json", findings_);
  }
  std::string errors() const {
    return findings_.ok() ? "" : findings_.to_error().message;
  }
  Json json_;
  Findings findings_;
};

TEST_F(Object, ReportsEverythingAtOnce) {
  JsonObject o = open(R"({"a": "x", "b": -1, "d": 0, "laeyrs": 1})");
  EXPECT_EQ(o.integer("a", kPositive), 1);
  EXPECT_EQ(o.integer("b", kNotNegative, 5), 5);
  EXPECT_EQ(o.integer("c", kPositive), 1);
  EXPECT_GT(o.real("d", kPositiveReal), 0);
  EXPECT_EQ(o.small("layers", kPositive, 3), 3);
  o.finish();
  EXPECT_THAT(errors(), HasSubstr("f.json: /a: expected a whole number from 1"
                                  " to 1099511627776, found \"x\""));
  EXPECT_THAT(errors(), HasSubstr("f.json: /b: expected a whole number"));
  EXPECT_THAT(errors(), HasSubstr("f.json: /c: missing"));
  EXPECT_THAT(errors(), HasSubstr("f.json: /d: expected a number above 0"));
  EXPECT_THAT(errors(), HasSubstr("f.json: /laeyrs: unknown key (did you mean "
                                  "'layers'?)"));
}

TEST_F(Object, NamesTheLimitThatWasPassed) {
  JsonObject o = open(R"({"share": 7, "big": 1e12})");
  o.real("share", {1e-300, 1});
  o.small("big", {0, std::int64_t{1} << 40});
  EXPECT_THAT(errors(),
              HasSubstr("/share: expected a number from 1e-300 to 1"));
  EXPECT_THAT(errors(), HasSubstr("from 0 to 1073741824"));
}

TEST_F(Object, NeverLetsNotANumberThrough) {
  json_ = Json{{"a", NAN}, {"b", std::numeric_limits<double>::infinity()}};
  JsonObject o(json_, "f", findings_);
  EXPECT_EQ(o.real("a", kNotNegativeReal), 0);
  EXPECT_EQ(o.real("b", kNotNegativeReal, 2.0), 2.0);
  EXPECT_EQ(o.integer("a", kPositive), 1);
  EXPECT_FALSE(findings_.ok());
}

TEST_F(Object, WalksIntoListsAndObjects) {
  JsonObject o = open(R"({"list": [{"x": 1}, 5, {"x": "y"}], "o": {"z": 0}})");
  std::vector<JsonObject> list = o.objects("list");
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].integer("x", kPositive), 1);
  list[2].integer("x", kPositive);
  std::optional<JsonObject> inner = o.object("o");
  ASSERT_TRUE(inner);
  inner->finish();
  EXPECT_FALSE(o.object("absent", true));
  o.finish();
  EXPECT_THAT(errors(), HasSubstr("/list/1: expected an object, found 5"));
  EXPECT_THAT(errors(), HasSubstr("/list/2/x: expected"));
  EXPECT_THAT(errors(), HasSubstr("/o/z: unknown key"));
}

TEST_F(Object, ReadsWordsOfAClosedSet) {
  enum class Fruit { apple, pear };
  static constexpr std::array<std::pair<const char*, Fruit>, 2> kFruits{
      {{"apple", Fruit::apple}, {"pear", Fruit::pear}}};
  JsonObject o = open(R"({"a": "pear", "b": "aple", "c": 3})");
  EXPECT_EQ(o.choice<Fruit>("a", kFruits), Fruit::pear);
  EXPECT_EQ(o.choice<Fruit>("b", kFruits, Fruit::pear), Fruit::pear);
  EXPECT_EQ(o.choice<Fruit>("d", kFruits, Fruit::pear), Fruit::pear);
  o.choice<Fruit>("c", kFruits);
  EXPECT_THAT(errors(), HasSubstr("/b: expected one of apple, pear (did you "
                                  "mean 'apple'?)"));
  EXPECT_THAT(errors(), HasSubstr("/c: expected one of"));
  EXPECT_THAT(errors(), Not(HasSubstr("/d")));
}

TEST_F(Object, ReadsIntegersBooleansAndText) {
  JsonObject o = open(R"({"n": [1, 2.0, "x", 1e99], "t": 1, "s": [], "m": 4})");
  EXPECT_EQ(o.integers("n", kNotNegative).size(), 4u);
  EXPECT_FALSE(o.boolean("t"));
  EXPECT_EQ(o.text("s"), "");
  o.integers("m", kNotNegative);
  EXPECT_TRUE(o.integers("gone", kNotNegative, true).empty());
  EXPECT_THAT(errors(), HasSubstr("/n/2"));
  EXPECT_THAT(errors(), HasSubstr("/n/3"));
  EXPECT_THAT(errors(), HasSubstr("/t: expected true or false, found 1"));
  EXPECT_THAT(errors(), HasSubstr("/s: expected a text"));
  EXPECT_THAT(errors(), HasSubstr("/m: expected a list of whole numbers"));
}

TEST_F(Object, StaysSmallWithAMillionUnknownKeys) {
  json_ = Json::object();
  for (int i = 0; i < 100'000; ++i) json_["k" + std::to_string(i)] = 0;
  JsonObject o(json_, "f", findings_);
  o.finish();
  EXPECT_LE(findings_.all().size(), 1001u);
  EXPECT_THAT(errors(), HasSubstr("and 99980 more"));
}

}  // namespace
}  // namespace troupe
