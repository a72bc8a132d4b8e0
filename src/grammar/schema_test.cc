// Keywords of JSON Schema, one by one: what is taken, what is not, and what is refused, where and by which name.
//
// Expected answers follow from the specification's text; the official suite and real schemas are held by
// tests/grammar_corpus_test.cc.
#include <gtest/gtest.h>

#include "grammar/matcher.h"
#include "grammar/number.h"
#include "grammar/schema_shape.h"

namespace llorch {
namespace {

bool accepts_whole(const Grammar& grammar, std::string_view text) {
  static const auto none = std::make_shared<const Vocabulary>(std::vector<std::string>(), std::vector<std::uint32_t>());
  Matcher matcher(std::make_shared<Constraint>(grammar, none));
  return matcher.advance(text) && matcher.can_end();
}

struct Case {
  const char* schema;
  std::vector<const char*> good, bad;
};

void expect(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const auto grammar = Grammar::from_json_schema(c.schema);
    ASSERT_TRUE(grammar) << c.schema << ": " << grammar.error().error().message;
    for (const char* text : c.good) EXPECT_TRUE(accepts_whole(*grammar, text)) << c.schema << " takes " << text;
    for (const char* text : c.bad) EXPECT_FALSE(accepts_whole(*grammar, text)) << c.schema << " does not take " << text;
  }
}

TEST(Schema, types_and_values) {
  expect({
      {"true",
       {"null", "[1, {\"a\": \"b\"}]", "-0.5e+7", "\"\\u00e9\"", "{\n  \"a\": 1\n}"},
       {"", "nul", "01", "[1,]", "{\"a\"}", "\"\n\"", "'a'", "\"\\ud800\"", "1."}},
      {R"({"type":"integer"})", {"0", "-12", "123456789012345678901234567890"}, {"1.5", "1.0", "1e3", "-", "\"1\""}},
      {R"({"type":["string","null"]})", {"null", "\"\""}, {"0", "true"}},
      {R"({"enum":["a","ab",1,null,{"k":[1,2]}]})",
       {"\"a\"", "\"ab\"", "1", "null", "{\"k\": [1, 2]}"},
       {"\"b\"", "\"abc\"", "{}", "[1,2]"}},
      {R"({"const":2.50})", {"2.5"}, {"2.50", "2", "25"}},
      {R"({"const":"\"\\\n\u0001é"})", {"\"\\\"\\\\\\n\\u0001\u00e9\""}, {"\"\\\"\\\\\\n\\u0001e\""}},
      {R"({"type":"string","enum":["a",1]})", {"\"a\""}, {"1"}},
      {R"({"type":"string","nullable":true})", {"null", "\"x\""}, {"1"}},
      {R"({"enum":["a","bb","ccc"],"minLength":2})", {"\"bb\"", "\"ccc\""}, {"\"a\""}},
  });
}

TEST(Schema, strings) {
  expect({
      {R"({"type":"string","minLength":1,"maxLength":3})",
       {"\"a\"", "\"\u20ac\u20ac\u20ac\"", "\"\\ud83d\\ude00bc\"", "\"\\n\\\"\\\\\""},
       {"\"\"", "\"abcd\"", "\"\\u0061bcd\""}},
      {R"({"type":"string","pattern":"b+c"})", {"\"abbcd\"", "\"bc\""}, {"\"bb\"", "\"\"", "\"b\\u0063\""}},
      {R"({"type":"string","pattern":"^(a|b)$","minLength":1})", {"\"a\""}, {"\"ab\"", "\"c\""}},
      {R"({"type":"string","pattern":"^a+$","maxLength":3,"minLength":2})",
       {"\"aa\"", "\"aaa\""},
       {"\"a\"", "\"aaaa\""}},
      {R"({"type":"string","pattern":"^$|^x"})", {"\"\"", "\"xy\""}, {"\"y\""}},
      {R"({"type":"string","not":{"pattern":"a"}})", {"\"b\"", "\"\""}, {"\"a\"", "\"bab\"", "1"}},
      // Some engines call NBSP a space, and some do not: it stands in neither.
      {R"({"type":"string","pattern":"^a\\sb$"})", {"\"a b\""}, {"\"a\u00a0b\"", "\"axb\""}},
      {R"({"type":"string","not":{"pattern":"\\s"}})", {"\"ab\"", "\"\""}, {"\"a b\"", "\"a\u00a0b\"", "\"\ufeff\""}},
      {R"({"type":"string","not":{"pattern":"\\S"}})", {"\" \"", "\"\""}, {"\"a\"", "\"\u00a0\"", "\"\u3000\""}},
      {R"({"type":"string","allOf":[{"pattern":"a"},{"pattern":"b"}]})", {"\"ab\"", "\"bca\""}, {"\"a\"", "\"b\""}},
      {R"({"type":"string","format":"date"})",
       {"\"2024-02-29\"", "\"2000-02-29\"", "\"1999-12-31\""},
       {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"2024-1-01\""}},
      {R"({"type":"string","format":"ipv4"})", {"\"192.168.0.255\""}, {"\"256.1.1.1\"", "\"1.1.1\"", "\"01.1.1.1\""}},
      {R"({"type":"string","format":"ipv6"})",
       {"\"::\"", "\"1::8\"", "\"2001:db8::1:0:0:1\"", "\"::ffff:1.2.3.4\"", "\"1:2:3:4:5:6:7:8\""},
       {"\"1:2:3\"", "\"1::2::3\"", "\"12345::\"", "\"1:2:3:4:5:6:7:8:9\""}},
      {R"({"type":"string","format":"uuid"})",
       {"\"123e4567-e89b-12d3-A456-426614174000\""},
       {"\"123e4567e89b12d3a456426614174000\""}},
      // What these formats have beyond what is produced of them is not without them either.
      {R"({"type":"string","not":{"format":"email"}})",
       {"\"a\"", "\"\""},
       {"\"a@b.c\"", R"("\"a b\"@b.c")", "\"a@[1.2.3.4]\""}},
      {R"({"type":"string","not":{"format":"date"}})", {"\"x\"", "\"2024-2-1\""}, {"\"0000-01-01\"", "\"2024-02-29\""}},
      {R"({"type":"string","not":{"format":"time"}})", {"\"12\""}, {"\"12:00:00Z\"", "\"15:59:60-08:00\""}},
      {R"({"type":"string","not":{"format":"uuid"}})",
       {"\"2eb8aa08-aa98\"", "\"\""},
       {"\"2eb8aa08-aa98-11ea-b4aa-73b441d163-80\"", "\"2eb8aa08-aa98-11ea-b4aa-73b441d16380\""}},
      {R"({"type":"string","not":{"format":"duration"}})", {"\"1d\""}, {"\"p1d\"", "\"P1D\""}},
      {R"({"type":"string","not":{"format":"hostname"}})", {"\"a b\""}, {"\"b\u00fccher.example\"", "\"a--b.c\""}},
      {R"({"type":"string","format":"a-format-of-somebody"})", {"\"anything\""}, {}},
  });
}

TEST(Schema, every_format_compiles) {
  for (const char* name : {"date", "time", "date-time", "duration", "email", "idn-email", "hostname", "idn-hostname",
                           "ipv4", "ipv6", "uuid", "uri", "uri-reference", "iri", "iri-reference", "uri-template",
                           "json-pointer", "relative-json-pointer"}) {
    const PatternDfa dfa = format_dfa(name);
    ASSERT_TRUE(dfa.certain && dfa.possible) << name;
    EXPECT_FALSE(dfa.certain->empty()) << name;
    EXPECT_FALSE(dfa.certain->accepts("\x01 ")) << name;
    // What certainly has a format may have it.
    const auto both =
        Grammar::from_json_schema(fmt::format(R"({{"type":"string","format":"{0}","not":{{"format":"{0}"}}}})", name));
    EXPECT_FALSE(both) << name;
  }
}

TEST(Schema, numbers_are_compared_digit_by_digit) {
  expect({
      {R"({"type":"integer","minimum":-5,"exclusiveMaximum":120})",
       {"-5", "0", "119", "99"},
       {"-6", "120", "1000", "-50"}},
      {R"({"type":"number","minimum":0.1,"maximum":10.25})",
       {"0.1", "0.10", "10.25", "10.2499", "1"},
       {"0.09999", "10.2500001", "10.3", "11", "0", "-1", "1e1"}},
      {R"({"type":"number","minimum":0})", {"0", "1e5", "0.5"}, {"-1", "-0.5"}},
      {R"({"type":"number","exclusiveMinimum":0})", {"0.001", "7"}, {"0", "0.0", "0.000", "-1"}},
      {R"({"type":"integer","multipleOf":7})", {"0", "7", "-14", "700"}, {"1", "6", "-8"}},
      {R"({"type":"number","multipleOf":0.25})", {"0.25", "1.5", "3", "-0.75"}, {"0.3", "0.125"}},
      {R"({"type":"integer","multipleOf":6,"minimum":10,"maximum":40})", {"12", "36"}, {"6", "42", "13"}},
      {R"({"type":"integer","not":{"multipleOf":3}})", {"1", "-5"}, {"0", "9", "-3"}},
      {R"({"type":"integer","not":{"enum":[3,5]},"minimum":2,"maximum":6})", {"2", "4", "6"}, {"3", "5", "7"}},
      {R"({"type":"number","not":{"type":"integer"}})", {"0.5", "1.05"}, {"1", "1.0", "2.00"}},
      {R"({"$schema":"http://json-schema.org/draft-04/schema#","type":"integer","minimum":3,"exclusiveMinimum":true})",
       {"4"},
       {"3"}},
  });
}

TEST(Schema, bounds_agree_with_arithmetic) {
  const double bounds[] = {-120.5, -100, -7.25, -1, -0.5, 0, 0.05, 1, 9, 9.99, 10, 99.5, 100, 101};
  for (const double low : bounds)
    for (const double high : bounds)
      for (const bool open : {false, true}) {
        if (low > high || (low == high && open)) continue;
        const std::string schema =
            fmt::format(R"({{"type":"number","{}":{},"{}":{}}})", open ? "exclusiveMinimum" : "minimum", low,
                        open ? "exclusiveMaximum" : "maximum", high);
        const auto grammar = Grammar::from_json_schema(schema);
        ASSERT_TRUE(grammar) << schema;
        for (int hundredths = -13000; hundredths <= 13000; hundredths += 5) {
          const double value = hundredths / 100.0;
          const bool inside = open ? low < value && value < high : low <= value && value <= high;
          const std::string text = fmt::format("{}", value);
          ASSERT_EQ(accepts_whole(*grammar, text), inside) << schema << " and " << text;
          hundredths += hundredths % 1000 == 0 ? 0 : 35;
        }
      }
}

TEST(Schema, objects) {
  expect({
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{}},"required":["b"],"additionalProperties":false})",
       {R"({"b": null})", R"({"a":1,"b":2})", "{\n\t\"a\": 1,\n\t\"b\": []\n}"},
       {"{}", R"({"a":1})", R"({"b":1,"a":1})", R"({"b":1,"c":1})", R"({"a":1,"b":2,})", R"({,"b":1})"}},
      {R"({"properties":{"a":{"type":"integer"}}})",
       {"{}", R"({"ab":"x"})", R"({"a":1,"b":2,"":3})", "7"},
       {R"({"a":"x"})", R"({"b":1,"a":2})", R"({"\u0061":"x"})"}},
      {R"({"type":"object","additionalProperties":{"type":"boolean"}})",
       {"{}", R"({"x":true,"y":false})"},
       {R"({"x":1})"}},
      {R"({"type":"object","patternProperties":{"^x":{"type":"integer"},"y$":{"minimum":5}},"additionalProperties":false})",
       {R"({"x":1})", R"({"zy":7})", R"({"xy":7})"},
       {R"({"xy":1})", R"({"x":"s"})", R"({"z":1})", R"({"xy":"s"})"}},
      {R"({"type":"object","properties":{"xa":{"maximum":3}},"patternProperties":{"^x":{"type":"integer"}}})",
       {R"({"xa":2})", R"({"xb":9,"q":[]})"},
       {R"({"xa":4})", R"({"xa":"s"})", R"({"xb":"s"})"}},
      {R"({"type":"object","propertyNames":{"maxLength":2,"pattern":"^[ab]"}})",
       {"{}", R"({"a":1,"bb":2})"},
       {R"({"abb":1})", R"({"c":1})"}},
      {R"({"type":"object","properties":{"a":true,"b":true,"c":true},"additionalProperties":false,"minProperties":2})",
       {R"({"a":1,"c":2})", R"({"a":1,"b":1,"c":2})"},
       {"{}", R"({"b":1})"}},
      {R"({"type":"object","properties":{"a":true,"b":true},"maxProperties":2})",
       {"{}", R"({"a":1,"z":2})", R"({"y":1,"z":2})"},
       {R"({"a":1,"b":1,"z":2})", R"({"x":1,"y":1,"z":2})"}},
      {R"({"type":"object","patternProperties":{"\\s":{"type":"integer"}},"additionalProperties":{"type":"boolean"}})",
       {R"({"a b":1})", R"({"ab":true})"},
       {R"({"a b":true})", "{\"a\u00a0b\":1}", "{\"a\u00a0b\":true}", R"({"ab":1})"}},
      {R"({"type":"object","not":{"patternProperties":{"\\s":{"type":"integer"}}},"properties":{"ab":true}})",
       {R"({"a b":"x"})"},
       {R"({"ab":"x"})", "{\"a\u00a0b\":\"x\"}"}},
      {R"({"type":"object","minProperties":1})", {R"({"q":1})"}, {"{}"}},
      {R"({"type":"object","required":["k"]})", {R"({"k":1})", R"({"k":1,"z":2})"}, {"{}", R"({"kk":1})"}},
      {R"({"type":"object","properties":{"a":true,"b":true,"c":true},"dependentRequired":{"a":["b"]},"additionalProperties":false})",
       {"{}", R"({"a":1,"b":2})", R"({"b":1,"c":2})"},
       {R"({"a":1})", R"({"a":1,"c":2})"}},
      {R"({"type":"object","properties":{"a":true,"b":true},"dependencies":{"a":{"properties":{"b":{"type":"integer"}},"required":["b"]}}})",
       {"{}", R"({"a":1,"b":2})", R"({"b":"s"})"},
       {R"({"a":1})", R"({"a":1,"b":"s"})"}},
  });
}

TEST(Schema, arrays) {
  expect({
      {R"({"type":"array","items":{"type":"integer"}})", {"[]", "[1]", "[1, 2,\n  3]"}, {"[\"a\"]", "[1 2]", "[,1]"}},
      {R"({"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}],"items":false})",
       {"[]", "[\"a\"]", "[\"a\",1]"},
       {"[1]", "[\"a\",1,2]"}},
      {R"({"type":"array","items":[{"type":"string"}],"additionalItems":{"type":"null"}})",
       {"[]", "[\"a\",null,null]"},
       {"[null]", "[\"a\",1]"}},
      {R"({"type":"array","minItems":2,"maxItems":3,"items":{"const":1}})",
       {"[1,1]", "[1,1,1]"},
       {"[1]", "[1,1,1,1]", "[]"}},
      {R"({"type":"array","contains":{"const":"x"},"items":{"type":"string"},"maxItems":3})",
       {"[\"x\"]", "[\"a\",\"x\",\"b\"]"},
       {"[]", "[\"a\"]", "[\"a\",\"x\",\"b\",\"x\"]", "[1,\"x\"]"}},
      {R"({"type":"array","contains":{"const":1}})", {"[1]", "[2,3,1,4,5]"}, {"[]", "[2,3]"}},
      {R"({"type":"array","uniqueItems":true,"maxItems":1})", {"[]", "[1]"}, {"[1,1]"}},
  });
}

TEST(Schema, combinations) {
  expect({
      {R"({"anyOf":[{"type":"string","maxLength":1},{"type":"string","minLength":3},{"type":"integer"}]})",
       {"\"a\"", "\"abc\"", "1"},
       {"\"ab\"", "null"}},
      {R"({"oneOf":[{"type":"integer","multipleOf":2},{"type":"integer","multipleOf":3}]})",
       {"2", "3", "9"},
       {"6", "1", "0"}},
      {R"({"oneOf":[{"properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k"]},{"properties":{"k":{"const":"b"}},"required":["k"]}],"type":"object"})",
       {R"({"k":"a","x":1})", R"({"k":"b","x":"s"})"},
       {R"({"k":"a","x":"s"})", R"({"k":"c"})", "{}"}},
      {R"({"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":true,"b":true}})",
       {R"({"a":1})", R"({"b":1})"},
       {"{}", R"({"a":1,"b":1})"}},
      {R"({"oneOf":[{"type":"object","properties":{"foo":{"type":"string"}},"additionalProperties":false},{"type":"object","properties":{"bar":{"type":"string"}},"additionalProperties":false}]})",
       {R"({"foo":"x"})", R"({"bar":"x"})"},
       {"{}", R"({"foo":"x","bar":"y"})", R"({"foo":1})"}},
      {R"({"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"a":{"minimum":3},"b":{"type":"null"}}}],"type":"object"})",
       {R"({"a":3})", R"({"a":4,"b":null})"},
       {R"({"a":2})", R"({"a":"s"})", R"({"a":3,"b":1})", "{}"}},
      {R"({"if":{"properties":{"t":{"const":1}},"required":["t"]},"then":{"required":["x"]},"else":{"required":["y"]},"type":"object","properties":{"t":true,"x":true,"y":true}})",
       {R"({"t":1,"x":0})", R"({"t":2,"y":0})", R"({"y":0})"},
       {R"({"t":1})", R"({"t":1,"y":0})", R"({"t":2,"x":0})", "{}"}},
      {R"({"not":{"type":["string","object"]}})", {"1", "null", "[]", "1.5"}, {"\"\"", "{}"}},
      {R"({"type":"object","not":{"required":["a","b"]},"properties":{"a":true,"b":true}})",
       {"{}", R"({"a":1})", R"({"b":1})"},
       {R"({"a":1,"b":1})"}},
      {R"({"type":"string","not":{"enum":["a","ab"]}})", {"\"b\"", "\"abc\"", "\"\""}, {"\"a\"", "\"ab\""}},
      {R"({"type":"boolean","not":{"const":true}})", {"false"}, {"true"}},
  });
}

TEST(Schema, references) {
  expect({
      {R"({"$ref":"#/$defs/t%25","$defs":{"t%":{"type":"object","properties":{"c":{"type":"array","items":{"$ref":"#"}}},"additionalProperties":false}}})",
       {"{}", R"({"c":[{},{"c":[{"c":[]}]}]})"},
       {R"({"c":[1]})", R"({"d":1})"}},
      {R"({"$ref":"#/definitions/a~1b","definitions":{"a/b":{"type":"null"}}})", {"null"}, {"1"}},
      {R"({"properties":{"x":{"$ref":"other.json#/$defs/i"}},"$id":"http://x.test/root.json","$defs":{"o":{"$id":"other.json","$defs":{"i":{"type":"integer"}}}}})",
       {R"({"x":1})"},
       {R"({"x":"s"})"}},
      {R"({"$ref":"#named","$defs":{"n":{"$anchor":"named","type":"null"}}})", {"null"}, {"1"}},
      {R"({"$ref":"#/$defs/a","minimum":5,"$defs":{"a":{"type":"integer"}}})", {"5"}, {"4", "5.5"}},
      {R"({"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/a","minimum":5,"definitions":{"a":{"type":"integer"}}})",
       {"4"},
       {"\"s\""}},
  });
}

TEST(Schema, whitespace_is_bounded) {
  expect({{R"({"type":"array","items":{"type":"integer"}})",
           {"[1, 2]", "[\n  1,\n  2\n]", "[1,\r\n\t2]", "[ 1 ]"},
           {"[1,  2]", "[1,\n\n2]", " [1]", "[1] "}}});
  const auto compiled = [](JsonWhitespace whitespace) {
    SchemaOptions options;
    options.whitespace = whitespace;
    return *Grammar::from_json_schema(R"({"type":"object","properties":{"a":{"type":"array"}}})", options);
  };
  EXPECT_TRUE(accepts_whole(compiled(JsonWhitespace::kCompact), R"({"a":[1,2]})"));
  EXPECT_FALSE(accepts_whole(compiled(JsonWhitespace::kCompact), R"({"a":[1, 2]})"));
  EXPECT_TRUE(accepts_whole(compiled(JsonWhitespace::kSpaced), R"({"a": [1, 2]})"));
  EXPECT_FALSE(accepts_whole(compiled(JsonWhitespace::kSpaced), R"({"a":[1, 2]})"));
}

TEST(Schema, refusals_name_the_place_and_the_keyword) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"properties":{"a":{"type":"array","uniqueItems":true}}})", "/properties/a", "uniqueItems"},
      {R"({"type":"object","unevaluatedProperties":false})", "", "unevaluatedProperties"},
      {R"({"items":{"$ref":"http://elsewhere.test/x.json"}})", "/items", "$ref"},
      {R"({"$ref":"#/nowhere"})", "", "$ref"},
      {R"({"$ref":"#"})", "", "$ref"},
      {R"({"anyOf":[{"$ref":"#"}]})", "", "$ref"},
      {R"j({"allOf":[{"type":"string","pattern":"(?=a)"}]})j", "/allOf/0", "pattern"},
      {R"({"type":"string","format":"regex"})", "", "format"},
      {R"({"not":{"propertyNames":{"maxLength":3}}})", "/not", "not"},
      {R"({"properties":{"a/b~":{"$dynamicRef":"#x"}}})", "/properties/a~1b~0", "$dynamicRef"},
      {R"({"type":"object","minProperties":3})", "", "minProperties"},
      {R"({"type":"strin"})", "", "type"},
      {R"({"required":true})", "", "required"},
      {R"({"properties":{"a":7}})", "/properties/a", "$schema"},
      {R"({"type":"string","minLength":-1})", "", "minLength"},
      {R"({"type":"integer","minimum":5,"maximum":3})", "", "grammar"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "", "grammar"},
      {"{\"a\":", "", "$schema"},
      {"7", "", "$schema"},
  };
  for (const auto& [schema, pointer, keyword] : cases) {
    const auto grammar = Grammar::from_json_schema(schema);
    ASSERT_FALSE(grammar) << schema;
    EXPECT_EQ(grammar.error().pointer, pointer) << schema << ": " << grammar.error().message;
    EXPECT_EQ(grammar.error().keyword, keyword) << schema << ": " << grammar.error().message;
    EXPECT_EQ(grammar.error().error().code, ErrorCode::kUnsupportedValue);
  }
}

TEST(Schema, hostile_schemas_end) {
  std::string deep, many = R"({"enum":[)", ors = R"({"allOf":[)", names = R"({"type":"object","properties":{)";
  for (int i = 0; i < 30000; ++i) deep += R"({"items":)";
  for (int i = 0; i < 50000; ++i) many += fmt::format("{}\"value {}\"", i ? "," : "", i);
  for (int i = 0; i < 40; ++i)
    ors += fmt::format(R"({}{{"anyOf":[{{"required":["a{}"]}},{{"required":["b{}"]}},{{"type":"string"}}]}})",
                       i ? "," : "", i, i);
  for (int i = 0; i < 20000; ++i)
    names += fmt::format(R"({}"name {}":{{"type":"string","maxLength":{}}})", i ? "," : "", i, i + 1);
  EXPECT_FALSE(Grammar::from_json_schema(deep));
  const auto enums = Grammar::from_json_schema(many + "]}");
  ASSERT_TRUE(enums) << enums.error().message;
  EXPECT_TRUE(accepts_whole(*enums, "\"value 49999\""));
  EXPECT_FALSE(accepts_whole(*enums, "\"value 50000\""));
  EXPECT_FALSE(Grammar::from_json_schema(ors + "]}"));
  (void)Grammar::from_json_schema(names + "}}");
  for (
      const char* schema : {
          R"({"type":"string","pattern":"^(a?){5000}(a|b)*a(a|b){60}$"})",
          R"({"type":"string","pattern":"(x+x+)+y(a|b|ab)*c{0,9999}"})",
          R"({"type":"array","minItems":4000000000,"items":{"type":"array","minItems":4000000000}})",
          R"({"type":"integer","multipleOf":999999999989,"minimum":1e300})",
          R"({"type":"number","minimum":-1e308,"maximum":1e308,"multipleOf":1e-308})",
          R"({"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/a"}]},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"})",
          R"({"not":{"not":{"not":{"$ref":"#"}}}})",
          R"({"oneOf":[{"$ref":"#"},{"not":{"$ref":"#"}}]})",
          R"({"type":"object","patternProperties":{"a":{},"b":{},"c":{},"d":{},"e":{},"f":{},"g":{},"h":{}},"minProperties":100000})",
      })
    (void)Grammar::from_json_schema(schema);  // ends, one way or the other
}

}  // namespace
}  // namespace llorch
