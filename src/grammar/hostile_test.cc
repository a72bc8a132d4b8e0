// Small grammars that would take a stack, a machine's memory or minutes if their work were not counted: each ends
// within a second, compiled or refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>

#include "grammar/grammar.h"
#include "test_data.h"

namespace llorch {
namespace {

// Of this process' own time. Half a second where nobody else computes; a core that is shared is half as fast, or less.
constexpr double kSecondsMax = kSanitized ? 20 : 3;

/// `count` times what `f` gives for a number, with `between` between.
template<class F>
std::string list(int count, const F& f, std::string_view between = ",") {
  std::string out;
  for (int i = 0; i < count; ++i) out.append(i ? between : "").append(f(i));
  return out;
}
std::string same(int count, std::string_view text) {
  return list(count, [&](int) { return text; });
}
std::string numbers(int from, int to) {
  return list(to - from, [&](int i) { return std::to_string(from + i); });
}
std::string names(int count, std::string_view prefix = "n") {
  return list(count, [&](int i) { return fmt::format("\"{}{}\"", prefix, i); });
}
std::string refs(int count) { return same(count, R"({"$ref":"#/$defs/a"})"); }

enum class Kind { kSchema, kRegex, kGbnf };
enum class Ending { kCompiled, kTooLarge, kNothing, kEither };

void ends(const char* what, Kind kind, const std::string& text, Ending ending) {
  const std::clock_t begin = std::clock();  // of this process: others may be busy
  const auto grammar = kind == Kind::kSchema  ? Grammar::from_json_schema(text)
                       : kind == Kind::kRegex ? Grammar::from_regex(text)
                                              : Grammar::from_gbnf(text);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  const std::string answer = grammar ? "compiled" : grammar.error().error().message;
  fmt::print("{}: {:.3f} s, {}\n", what, seconds, answer.substr(0, 120));
  EXPECT_LT(seconds, kSecondsMax) << what;
  if (ending == Ending::kEither) return;
  EXPECT_EQ(grammar.has_value(), ending == Ending::kCompiled) << what << ": " << answer;
  const auto says = [&](std::string_view part) { return answer.find(part) != answer.npos; };
  if (ending == Ending::kTooLarge) {
    EXPECT_TRUE(says("too much work") || says("too many") || says("more than") || says("too long"))
        << what << ": " << answer;
  } else if (ending == Ending::kNothing) {
    EXPECT_TRUE(says("no text can satisfy it")) << what << ": " << answer;
  }
}
void ends(const char* what, const std::string& schema, Ending ending) { ends(what, Kind::kSchema, schema, ending); }

TEST(Hostile, repetitions_of_repetitions) {
  ends("gbnf ?", Kind::kGbnf, "root ::= \"a\"" + std::string(50'000, '?'), Ending::kTooLarge);
  ends("gbnf *", Kind::kGbnf, "root ::= \"a\"" + std::string(50'000, '*'), Ending::kTooLarge);
  ends("gbnf {2}", Kind::kGbnf,
       "root ::= \"a\"" + list(
                              50'000, [](int) { return "{2}"; }, ""),
       Ending::kTooLarge);
  const std::string marks(250, '?');
  ends("gbnf groups", Kind::kGbnf,
       "root ::= " + std::string(150, '(') + "\"a\"" +
           list(
               150, [&](int) { return ")" + marks; }, ""),
       Ending::kTooLarge);
  ends("gbnf ???", Kind::kGbnf, "root ::= \"a\"???", Ending::kCompiled);
  ends("gbnf literal", Kind::kGbnf, "root ::= \"" + std::string(4'000'000, 'a') + "\"", Ending::kTooLarge);
  ends("regex text", Kind::kRegex, std::string(4'000'000, 'a'), Ending::kTooLarge);
}

TEST(Hostile, sets_repeated) {
  const std::string set = "[" +
                          list(
                              1'000, [](int i) { return fmt::format("\\\\u{:04x}", 0x1000 + 2 * i); }, "") +
                          "]";
  for (const char* count : {"{59000}", "{0,59000}", "{300}", "*", "{9}{9}"})
    ends(count, fmt::format(R"({{"type":"string","pattern":"{}{}"}})", set, count), Ending::kEither);
  const std::string large = list(
      20'000, [](int i) { return fmt::format("\\\\u{:04x}", 0x1000 + 2 * i); }, "");
  ends("a large set", fmt::format(R"({{"type":"string","pattern":"[{}]{{59000}}"}})", large), Ending::kTooLarge);
  ends("patterns too large",
       R"({"type":"object","properties":{)" +
           list(300,
                [&](int i) {
                  return fmt::format(R"("p{}":{{"type":"string","pattern":"^{}{}{{390}}$"}})", i, i, set);
                }) +
           "}}",
       Ending::kTooLarge);
  ends("unrolled many times",
       R"({"type":"array","prefixItems":[)" +
           list(3'000, [](int i) { return fmt::format(R"({{"type":"string","pattern":"^{}a{{0,70000}}$"}})", i); }) +
           "]}",
       Ending::kTooLarge);
}

TEST(Hostile, rules_that_may_be_empty) {
  for (const bool backwards : {false, true}) {
    constexpr int kRules = 40'000;
    std::string rules, root = "root ::=";
    for (int i = 0; i < kRules; ++i) {
      rules += fmt::format("a{} ::= \"\"\n", i);
      root += fmt::format(" a{}", backwards ? kRules - 1 - i : i);
    }
    ends("empty rules", Kind::kGbnf, rules + root, Ending::kCompiled);
  }
}

TEST(Hostile, schemas_joined_many_times) {
  const auto joined = [](const std::string& part) {
    return fmt::format(R"({{"$defs":{{"a":{}}},"allOf":[{}]}})", part, refs(10'000));
  };
  ends("required", joined(R"({"required":[)" + names(10'000) + "]}"), Ending::kTooLarge);
  ends("not enum", joined(R"({"not":{"enum":[)" + numbers(0, 10'000) + "]}}"), Ending::kTooLarge);
  ends("not required", joined(R"({"not":{"required":[)" + names(10'000) + "]}}"), Ending::kTooLarge);
  ends("enum", joined(R"({"enum":[)" + names(10'000) + "]}"), Ending::kTooLarge);
  ends("properties",
       joined(R"({"properties":{)" + list(10'000, [](int i) { return fmt::format("\"n{}\":{{}}", i); }) + "}}"),
       Ending::kTooLarge);
  ends("patternProperties",
       joined(R"({"patternProperties":{)" + list(1'000, [](int i) { return fmt::format("\"n{}\":{{}}", i); }) + "}}"),
       Ending::kTooLarge);
  ends("prefixItems", joined(R"({"prefixItems":[)" + same(10'000, R"({"type":"null"})") + "]}"), Ending::kTooLarge);
  ends("anyOf", joined(R"({"anyOf":[)" + same(10'000, "{}") + "]}"), Ending::kTooLarge);
  ends("unknown keywords", joined("{" + list(10'000, [](int i) { return fmt::format("\"n{}\":0", i); }) + "}"),
       Ending::kTooLarge);
  ends("dependentRequired", joined(R"({"dependentRequired":{"n":[)" + names(10'000) + "]}}"), Ending::kEither);
  ends("multiples", joined(R"({"multipleOf":1,"not":{"enum":[1,2,3,4,5,6,7,8,9]}})"), Ending::kEither);
  ends("not pattern", R"({"$defs":{"a":{"not":{"pattern":"(a|b)*a(a|b){11}"}}},"anyOf":[)" + refs(20'000) + "]}",
       Ending::kTooLarge);
  ends("not additionalProperties", joined(R"({"not":{"additionalProperties":false}})"), Ending::kEither);
}

TEST(Hostile, negations) {
  ends("not prefixItems", R"({"not":{"prefixItems":[)" + same(20'000, "{}") + "]}}", Ending::kTooLarge);
  ends("not items", R"({"not":{"items":[)" + same(20'000, "{}") + "]}}", Ending::kTooLarge);
  ends("not oneOf", R"({"not":{"oneOf":[)" + same(20'000, "{}") + "]}}", Ending::kTooLarge);
  ends("not oneOf, fewer", R"({"not":{"oneOf":[)" + same(1'000, R"({"type":"string"})") + "]}}", Ending::kTooLarge);
  ends("not anyOf", R"({"not":{"anyOf":[)" + same(20'000, R"({"type":"string"})") + "]}}", Ending::kEither);
  ends("not allOf", R"({"not":{"allOf":[)" + same(20'000, "{}") + "]}}", Ending::kNothing);
  ends("not properties",
       R"({"not":{"properties":{)" + list(20'000, [](int i) { return fmt::format("\"n{}\":false", i); }) + "}}}",
       Ending::kTooLarge);
}

TEST(Hostile, alternatives) {
  ends("anyOf false", R"({"anyOf":[)" + same(20'000, "false") + "]}", Ending::kNothing);
  ends("anyOf, the last one holds", R"({"anyOf":[)" + same(20'000, "false") + ",true]}", Ending::kCompiled);
  ends("anyOf of types", R"({"type":"null","anyOf":[)" + same(20'000, R"({"type":"string"})") + "]}", Ending::kNothing);
  const std::string apart =
      R"({"anyOf":[)" + list(20, [](int i) { return fmt::format(R"({{"minimum":{}}})", i); }) + "]}";
  ends("anyOf by anyOf", R"({"type":"number","allOf":[)" + same(6, apart) + R"(,{"anyOf":[false,false]}]})",
       Ending::kTooLarge);
  ends("oneOf", R"({"oneOf":[)" + same(5'000, "{}") + "]}", Ending::kTooLarge);
  ends("oneOf consts", R"({"oneOf":[)" + list(2'000, [](int i) { return fmt::format(R"({{"const":{}}})", i); }) + "]}",
       Ending::kTooLarge);
  ends("an enum in each",
       fmt::format(R"({{"enum":[{}],"anyOf":[{}]}})", numbers(0, 100'000), same(20'000, R"({"type":"string"})")),
       Ending::kEither);
}

TEST(Hostile, values) {
  const std::string many = numbers(0, 50'000), others = numbers(25'000, 75'000);
  ends("enum by enum", fmt::format(R"({{"enum":[{}],"allOf":[{{"enum":[{}]}}]}})", many, others), Ending::kCompiled);
  ends("enum by not enum", fmt::format(R"({{"enum":[{}],"not":{{"enum":[{}]}}}})", many, others), Ending::kCompiled);
  ends("enum by all of another", fmt::format(R"({{"enum":[{}],"not":{{"enum":[{}]}}}})", many, many), Ending::kNothing);
  ends("enum with a bound", fmt::format(R"({{"enum":[{}],"minimum":3}})", many), Ending::kCompiled);
  ends("enum of texts with a bound", fmt::format(R"({{"enum":[{}],"minLength":3}})", names(50'000)), Ending::kCompiled);
  ends("texts by texts", fmt::format(R"({{"enum":[{}],"allOf":[{{"enum":[{}]}}]}})", names(50'000), names(50'000)),
       Ending::kCompiled);
  ends("large numbers",
       fmt::format(R"({{"enum":[{}]}})", list(300'000, [](int i) { return fmt::format("{}e300", i); })),
       Ending::kTooLarge);
  ends("numbers that are too large", R"({"enum":[1e999,2]})", Ending::kEither);
  ends("an object by an enum of objects",
       fmt::format(R"({{"type":"object","const":{{"a":[{}]}},"properties":{{"a":{{"enum":[{}]}}}}}})",
                   numbers(0, 2'000), same(200, "[" + numbers(0, 1'999) + ",0]")),
       Ending::kEither);
  ends("excluded numbers", fmt::format(R"({{"type":"number","not":{{"enum":[{}]}}}})", many), Ending::kEither);
}

TEST(Hostile, names_and_patterns) {
  const std::string properties = list(20'000, [](int i) { return fmt::format("\"n{}\":{{}}", i); });
  const std::string patterns = list(1'000, [](int i) { return fmt::format("\"q{}\":{{}}", i); });
  const std::string long_names =
      list(10'000, [](int i) { return fmt::format("\"{}{}\":{{}}", i, std::string(150, 'b')); });
  ends("names by patterns",
       fmt::format(R"({{"type":"object","properties":{{{}}},"patternProperties":{{{}}}}})", long_names, patterns),
       Ending::kTooLarge);
  ends("names", fmt::format(R"({{"type":"object","properties":{{{}}}}})", properties), Ending::kEither);
  ends("names, no others",
       fmt::format(R"({{"type":"object","properties":{{{}}},"additionalProperties":false}})", properties),
       Ending::kEither);
  ends("required by a pattern that is refused",
       fmt::format(R"({{"type":"object","required":[{}],"allOf":[{{"additionalProperties":{{"$dynamicRef":"#"}}}},)"
                   R"({{"additionalProperties":{{"type":"null"}}}}]}})",
                   names(20'000)),
       Ending::kEither);
  ends("resources",
       R"({"$defs":{)" +
           list(20'000, [](int i) { return fmt::format(R"("d{}":{{"$id":"http://x.test/{}"}})", i, i); }) +
           R"(},"allOf":[)" + list(20'000, [](int i) { return fmt::format(R"({{"$ref":"http://x.test/{}"}})", i); }) +
           "]}",
       Ending::kCompiled);
}

}  // namespace
}  // namespace llorch
