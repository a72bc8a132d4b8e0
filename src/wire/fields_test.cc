// What a request's body may cost before anything is known of it.
#include "wire/fields.h"

#include <gtest/gtest.h>

#include "format/json.h"

namespace llorch::wire {
namespace {

/// An object of `count` keys, some hundred kilobytes.
std::string body_of_keys(int count) {
  std::string body = "{";
  for (int i = 0; i < count; ++i) body += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":[0]";
  return body + "}";
}

ErrorCode refusal(const std::string& body, WorkLimit limit) {
  const auto read = parse_body(body, &limit);
  return read ? ErrorCode::kInternal : read.error().code;
}

TEST(Body, a_limit_is_looked_at_while_it_is_read_and_while_its_keys_are_compared) {
  const std::string body = body_of_keys(20'000);
  WorkLimit parsing(1u << 30), both(1u << 30);
  ASSERT_TRUE(json::parse(body, "the body", &parsing));
  ASSERT_TRUE(parse_body(body, &both));
  EXPECT_GE(both.used(), parsing.used() + 20'000) << "a unit for each key at least";
  EXPECT_EQ(refusal(body, WorkLimit(1000)), ErrorCode::kInvalidRequest);
  EXPECT_EQ(refusal(body, WorkLimit(parsing.used())), ErrorCode::kInvalidRequest) << "the keys were compared unlimited";
  EXPECT_EQ(refusal(body, WorkLimit(1u << 30, WorkLimit::Clock::now())), ErrorCode::kOperationTimeout);
  const auto cancelled = std::make_shared<std::atomic<bool>>(true);
  EXPECT_EQ(refusal(body, WorkLimit(1u << 30, WorkLimit::Clock::time_point::max(), cancelled)), ErrorCode::kCancelled);
}

TEST(Body, a_key_is_found_twice_on_both_sides_of_a_portion) {
  const std::string tail = R"("twice":1,"long":")" + std::string(200'000, 'x') + R"(","twice":2})";
  const auto read = parse_body("{" + tail);
  ASSERT_FALSE(read);
  EXPECT_TRUE(read.error().message.contains("twice in one object")) << read.error().message;
  // The same name in another object is no second one; a key may lie on a portion's border.
  for (std::size_t before = 65'526; before < 65'540; ++before) {
    const std::string fine = R"({"a":")" + std::string(before, 'x') + R"(","twice":{"twice":1}})";
    EXPECT_TRUE(parse_body(fine)) << before;
    const std::string bad = R"({"twice":")" + std::string(before, 'x') + R"(","twice":{"a":1}})";
    EXPECT_FALSE(parse_body(bad)) << before;
  }
}

TEST(Fields, of_thousands_of_violations_an_answer_names_some) {
  const boost::json::object nothing;
  Fields fields(nothing);
  for (int i = 0; i < 10'000; ++i) fields.violation("messages[" + std::to_string(i) + "]", "role", "is missing");
  EXPECT_EQ(fields.violations().size(), kViolationsMax);
  EXPECT_EQ(fields.violations().front().field, "messages[0]");
}

}  // namespace
}  // namespace llorch::wire
