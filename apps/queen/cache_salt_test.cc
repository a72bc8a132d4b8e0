#include "queen/cache_salt.h"

#include <gtest/gtest.h>

#include <set>

namespace llorch::queen {
namespace {

std::string salt(boost::json::object body, std::string_view principal) {
  EXPECT_FALSE(salt_cache(body, principal));
  EXPECT_FALSE(body.contains("prompt_cache_key")) << "a worker prefers it to the salt";
  return std::string(body.at("cache_salt").as_string());
}

TEST(CacheSalt, parts_keys_and_what_a_client_asks_for) {
  std::set<std::string> salts;
  int count = 0;
  for (const char* principal : {"token:a", "token:b", "token:a1:x"})
    for (const boost::json::object& body :
         {boost::json::object{}, boost::json::object{{"cache_salt", ""}}, boost::json::object{{"cache_salt", "x"}},
          boost::json::object{{"prompt_cache_key", "x"}}, boost::json::object{{"prompt_cache_key", "1:x"}},
          boost::json::object{{"cache_salt", "x"}, {"prompt_cache_key", "y"}},
          boost::json::object{{"cache_salt", "y"}, {"prompt_cache_key", "x"}}})
      salts.insert(salt(body, principal)), ++count;
  EXPECT_EQ(static_cast<int>(salts.size()), count) << "two of them share a cache";
  EXPECT_EQ(salt({{"cache_salt", "x"}}, "token:a"), salt({{"cache_salt", "x"}}, "token:a"));
  EXPECT_EQ(salt({{"cache_salt", nullptr}}, "token:a"), salt({}, "token:a"));
}

TEST(CacheSalt, other_types_are_refused_by_name) {
  for (const char* field : {"cache_salt", "prompt_cache_key"})
    for (const boost::json::value& v : {boost::json::value(1), boost::json::value(boost::json::object()),
                                        boost::json::value(std::string(257, 'x'))}) {
      boost::json::object body{{field, v}};
      const auto bad = salt_cache(body, "token:a");
      ASSERT_TRUE(bad);
      EXPECT_EQ(bad->field, field);
      EXPECT_EQ(bad->error.code, ErrorCode::kInvalidRequest);
    }
}

}  // namespace
}  // namespace llorch::queen
