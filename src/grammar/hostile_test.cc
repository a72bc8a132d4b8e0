// Small grammars that would take a stack, a machine's memory or minutes if their work were not counted: each ends
// within a second, compiled or refused.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>

#include "grammar/grammar.h"
#include "test_data.h"

namespace llorch {
namespace {

constexpr double kSecondsMax = kSanitized ? 20 : 1;

/// `count` times what `f` gives for a number, with `between` between.
template<class F>
std::string list(int count, const F& f, std::string_view between = ",") {
  std::string out;
  for (int i = 0; i < count; ++i) out.append(i ? between : "").append(f(i));
  return out;
}

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

}  // namespace
}  // namespace llorch
