#include "tools/json_scanner.h"

#include <gtest/gtest.h>

namespace llorch::tools {
namespace {

/// Values: `jiter.from_json(text, partial_mode=True)`, by which Anthropic's SDK reads the arguments of a stream.
TEST(JsonScanner, what_breaks_off_is_closed_behind_its_last_whole_value) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({)", R"({})"},
      {R"({"a)", R"({})"},
      {R"({"a")", R"({})"},
      {R"({"a":)", R"({})"},
      {R"({"a": 1)", R"({"a": 1})"},
      {R"({"a": 12.)", R"({})"},
      {R"({"a": 1e)", R"({})"},
      {R"({"a": -)", R"({})"},
      {R"({"a": 1.5)", R"({"a": 1.5})"},
      {R"({"a": "x)", R"({})"},
      {R"({"a": "x", "b": "y\)", R"({"a": "x"})"},
      {R"({"a": tr)", R"({})"},
      {R"({"a":null)", R"({"a":null})"},
      {R"({"a": 1, )", R"({"a": 1})"},
      {R"({"a": [1, 2,)", R"({"a": [1, 2]})"},
      {R"({"a": [1, "x)", R"({"a": [1]})"},
      {R"({"a":[)", R"({"a":[]})"},
      {R"({"a":{"b)", R"({"a":{}})"},
      {R"({"a": {"b": 1, "c": ")", R"({"a": {"b": 1}})"},
      {R"({"a": {"b": [1]}})", R"({"a": {"b": [1]}})"},
      {"", "{}"},
      {"[1", "{}"},
  };
  for (const auto& [text, closed] : cases) EXPECT_EQ(closed_json(text), closed) << text;
}

}  // namespace
}  // namespace llorch::tools
