#include "results/text.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "base/json.h"

namespace troupe::results {
namespace {

TEST(Utf8, KeepsValidTextAndReplacesTheRest) {
  EXPECT_EQ(valid_utf8("a\u00E9\u20AC\U0001F600"), "a\u00E9\u20AC\U0001F600");
  // A lone continuation, an overlong slash, a surrogate, beyond U+10FFFF, a
  // truncated sequence.
  for (const char* bad :
       {"\x80", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82"}) {
    const std::string fixed_text = valid_utf8(bad);
    EXPECT_EQ(fixed_text.find(bad), std::string::npos);
    EXPECT_EQ(valid_utf8(fixed_text), fixed_text);
  }
}

RC_GTEST_PROP(Utf8, AnyBytesBecomeValidJson, (const std::string& bytes)) {
  // Both throw when the text is not UTF-8, which fails the property.
  RC_ASSERT(!Json(valid_utf8(bytes)).dump().empty());
  RC_ASSERT(Json::parse(json_string(bytes)).is_string());
}

TEST(Cell, TakesAwayEscapeSequencesAndLength) {
  EXPECT_EQ(cell("\x1B[31mred\x07"), "?[31mred?");
  EXPECT_EQ(cell("a\nb\tc"), "a?b?c");
  EXPECT_EQ(cell("\u202Ereversed"), "?reversed");
  EXPECT_EQ(cell("abcdefghij", 8), "abcde...");
  EXPECT_EQ(cell("abcdefgh", 8), "abcdefgh");
  EXPECT_EQ(width_of(cell(std::string(500, 'x'))), 60u);
}

TEST(Padding, CountsCharactersNotBytes) {
  EXPECT_EQ(left("\u00E9", 3), "\u00E9  ");
  EXPECT_EQ(right("\u00E9", 3), "  \u00E9");
  EXPECT_EQ(left("long", 2), "long");
}

TEST(Html, LeavesNoMarkup) {
  EXPECT_EQ(html("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;");
}

RC_GTEST_PROP(Html, NeverOpensATagOrClosesAnAttribute,
              (const std::string& bytes)) {
  const std::string out = html(bytes);
  RC_ASSERT(out.find_first_of("<>\"'") == std::string::npos);
}

TEST(Csv, QuotesOnlyWhatMustBe) {
  EXPECT_EQ(csv_field("plain"), "plain");
  EXPECT_EQ(csv_field("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_field("say \"hi\""), "\"say \"\"hi\"\"\"");
  EXPECT_EQ(csv_field("two\r\nlines"), "\"two\r\nlines\"");
  EXPECT_EQ(csv_field(" edge"), "\" edge\"");
  EXPECT_EQ(csv_field(""), "");
}

TEST(Numbers, ReadWell) {
  EXPECT_EQ(thousands(0), "0");
  EXPECT_EQ(thousands(999), "999");
  EXPECT_EQ(thousands(-1234567), "-1,234,567");
  EXPECT_EQ(percent(0.4512), "45.1 %");
  EXPECT_EQ(percent(NAN), "-");
  EXPECT_EQ(short_count(1140000), "1.14 M");
  EXPECT_EQ(short_count(999.7), "1.00 k");
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(fixed(1.50, 2), "1.5");
  EXPECT_EQ(fixed(-0.0001, 2), "0");
  EXPECT_EQ(fixed(INFINITY), "0");
}

RC_GTEST_PROP(Numbers, ExactReadsBackAsTheSameDouble, (double value)) {
  RC_PRE(std::isfinite(value));
  RC_ASSERT(std::stod(exact(value)) == value);
}

}  // namespace
}  // namespace troupe::results
