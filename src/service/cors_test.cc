#include "service/cors.h"

#include <gtest/gtest.h>

namespace llorch::service {
namespace {

std::string allowed(const std::vector<std::string>& configured, const std::string& origin) {
  return CorsPolicy::make(configured).value().answer(origin).allow_origin;
}

TEST(Cors, exact_origins_alone_are_allowed) {
  const std::vector<std::string> own = {"http://Localhost:3000/", "https://app.example:443", "chrome-extension://abc"};
  for (const char* good : {"http://localhost:3000", "https://app.example", "chrome-extension://abc"})
    EXPECT_EQ(allowed(own, good), good);
  for (const char* bad : {"http://localhost", "http://localhost:30000", "https://localhost:3000", "null", "",
                          "http://app.example", "https://app.example.evil", "https://evil.app.example", "*"})
    EXPECT_EQ(allowed(own, bad), "") << bad;
  EXPECT_EQ(allowed({}, "http://localhost:3000"), "");
  EXPECT_EQ(allowed({"*"}, "http://evil.example"), "*");
  EXPECT_EQ(allowed({"null"}, "null"), "null");
}

TEST(Cors, caches_are_told_that_answers_differ) {
  EXPECT_TRUE(CorsPolicy::make({"http://a"}).value().answer(std::nullopt).varies);
  EXPECT_FALSE(CorsPolicy::make({"http://a", "*"}).value().answer("http://a").varies);
  EXPECT_FALSE(CorsPolicy().answer("http://a").varies);
}

TEST(Cors, what_is_no_origin_is_refused) {
  for (const char* bad : {"", "localhost", "http://", "://a", "http://a/b", "http://u@a", "http://a b", "http://*.a",
                          "http://a//", "http://a?b"})
    EXPECT_FALSE(CorsPolicy::make({bad})) << bad;
}

TEST(Cors, headers_that_a_client_asks_for_are_allowed_where_they_are_names) {
  const auto given = [](const char* wanted) {
    net::Headers headers;
    add_preflight_headers(headers, "GET", wanted);
    return headers.get("Access-Control-Allow-Headers").value();
  };
  EXPECT_TRUE(given("x-stainless-os").ends_with(", x-stainless-os"));
  EXPECT_EQ(given("a: b"), given(""));
  EXPECT_EQ(given(std::string(2000, 'a').c_str()), given(""));
}

}  // namespace
}  // namespace llorch::service
