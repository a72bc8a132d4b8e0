// JSON from files that nobody vouches for: depth, size and memory are bounded, errors say what is wrong.
#include "format/json.h"
#include "format/json_keys.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>

#include "base/test_memory.h"
#include "base/test_own_new.h"
#include "test_data.h"

namespace llorch {
namespace {

long peak_memory_kb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(Json, reads_values_and_keeps_integers_exact) {
  const auto v = json::parse(R"({"a":18446744073709551615,"b":-1,"c":1.5,"d":"x","e":null,"f":[true]})", "t");
  ASSERT_TRUE(v) << v.error().message;
  const json::object& o = v->get_object();
  EXPECT_EQ(json::find_unsigned(o, "a"), 18446744073709551615ull);
  EXPECT_FALSE(json::find_unsigned(o, "b"));
  EXPECT_EQ(json::find_number(o, "c"), 1.5);
  EXPECT_EQ(json::find_text(o, "d"), "x");
  EXPECT_EQ(json::find(o, "e"), nullptr);
  EXPECT_EQ(json::find_array(o, "f")->size(), 1u);
}

TEST(Json, damage_is_an_error_that_names_the_file) {
  for (const char* bad : {"", "{", "[1,]", "{\"a\":}", "nul", "1 2", "\"\xff\"", "{\"a\":1e}"}) {
    const auto v = json::parse(bad, "config.json");
    ASSERT_FALSE(v) << bad;
    EXPECT_NE(v.error().message.find("config.json"), std::string::npos);
  }
}

TEST(Json, a_key_that_stands_twice_is_named_by_its_place) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a":1,"a":2})", "a"},
      {R"({"a":{"b":[1,{"c":1,"d":[],"c":2}]}})", "a.b[1].c"},
      {R"([{"a":1},[[],{}],{"function":{"name":1,"n\u0061me":2}}])", "[2].function.name"},
  };
  for (const auto& [text, place] : cases) EXPECT_EQ(json::doubled_key(text).value(), place) << text;
  for (const char* text : {R"({"a":{"a":1},"b":{"a":1}})", R"([{"a":1},{"a":1}])", R"({"a":["a","a"]})", "1"})
    EXPECT_EQ(json::doubled_key(text).value(), std::nullopt) << text;
}

TEST(Json, a_dense_or_deep_megabyte_is_refused_quickly_and_small) {
  std::string numbers = "[0", nested(1'000'000, '['), empties = "[[]";
  while (numbers.size() < 1'000'000) numbers += ",0";
  while (empties.size() < 1'000'000) empties += ",[]";
  for (std::string* text : {&numbers, &empties}) *text += "]";
  for (const std::string& text : {numbers, nested, empties}) {
    const long before = peak_memory_kb();
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(json::parse(text, "t"));
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (kSanitized) {
      std::printf("time and memory not checked under sanitizers: they are not the product's own there\n");
      continue;
    }
    EXPECT_LT(ms, 100);
    EXPECT_LT(peak_memory_kb() - before, 16 * 1024);
  }
}

TEST(Json, a_limit_is_looked_at_while_a_text_is_parsed) {
  std::string text = "[\"\u00e4\"";
  while (text.size() < 1'000'000) text += ",{\"k\":[1.25,\"\u00e4\",null]}";
  text += "]";
  const auto whole = json::parse(text, "t");
  ASSERT_TRUE(whole);
  WorkLimit enough(10'000'000), little(200'000);
  EXPECT_EQ(json::parse(text, "t", &enough).value(), *whole);  // cuts change nothing
  EXPECT_GE(enough.used(), text.size());
  EXPECT_EQ(json::parse(text, "t", &little).error().code, ErrorCode::kInvalidRequest);
  EXPECT_LE(little.used(), 200'000u);
  const auto stop = std::make_shared<std::atomic<bool>>(true);
  WorkLimit cancelled(10'000'000, WorkLimit::Clock::time_point::max(), stop);
  EXPECT_EQ(json::parse(text, "t", &cancelled).error().code, ErrorCode::kCancelled);
}

/// Small values lie in chunks of 4 KiB, and the list of those grew by one at a time: a copy of it for each chunk.
TEST(Json, many_small_values_cost_few_copies_of_the_list_of_chunks) {  // 15.25
  LLORCH_NEEDS_OWN_NEW();
  std::string text = "[0";
  while (text.size() < 1'000'000) text += ",{\"k\":[1.25,\"\u00e4\",null]}";
  text += "]";
  const std::int64_t before = allocations;
  const auto values = json::parse(text, "t");
  const std::int64_t of_parsing = allocations - before;  // values and chunks come from malloc(), the list from new
  ASSERT_TRUE(values) << values.error().message;
  EXPECT_GT(of_parsing, 5) << "the list does not come from new any more";
  EXPECT_LT(of_parsing, 50) << "thousands of chunks";
}

}  // namespace
}  // namespace llorch
