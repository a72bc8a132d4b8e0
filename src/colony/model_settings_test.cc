// Settings of models: each is checked by its kind, and found by the reference or its repository.
#include "colony/model_settings.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

TEST(ModelSettings, are_checked_where_they_are_written) {
  for (const auto& [key, value] : {std::pair("ctx", "8192"),
                                   {"threads", "4"},
                                   {"max-batch", "1"},
                                   {"kv-type", "q8_0"},
                                   {"chat-template", "/etc/x.jinja"},
                                   {"temperature", "0.6"},
                                   {"top-p", "1"},
                                   {"min-p", "0"},
                                   {"top-k", "0"},
                                   {"repetition-penalty", "1.1"}}) {
    ModelSettings s;
    EXPECT_TRUE(s.set(key, value)) << key;
    EXPECT_EQ(s.arguments(), (std::vector<std::string>{std::string("--") + key, value}));
  }
  for (const auto& [key, value, why] : {std::tuple("ctx", "0", "'ctx' must be a whole number from 1 to 16777216"),
                                        {"ctx", "8k", "whole number"},
                                        {"kv-type", "f8", "f32, f16, q8_0"},
                                        {"temperature", "hot", "a number from 0 to 2"},
                                        {"temperature", "2.1", "a number"},
                                        {"temperature", "nan", "a number"},
                                        {"top-p", "", "a number"},
                                        {"chat-template", "x.jinja", "an absolute path"},
                                        {"ctxx", "1", "'ctxx' is no setting of a model: did you mean 'ctx'?"},
                                        {"api-key", "x", "is no setting"}}) {
    ModelSettings s;
    const Status set = s.set(key, value);
    ASSERT_FALSE(set) << key << ' ' << value;
    EXPECT_TRUE(set.error().message.contains(why)) << set.error().message;
    EXPECT_TRUE(s.empty());
  }
}

TEST(ModelSettings, go_over_a_wire) {
  ModelSettings s;
  EXPECT_EQ(s.context(), 0);
  EXPECT_EQ(s.parallel(), 8);
  ASSERT_TRUE(s.set("ctx", "64") && s.set("max-batch", "2") && s.set("top-p", "0.5"));
  EXPECT_EQ(s.context(), 64);
  EXPECT_EQ(s.parallel(), 2);
  EXPECT_EQ(*ModelSettings::from_json(s.json()), s);
  EXPECT_FALSE(ModelSettings::from_json({{"ctx", 64}}));
  EXPECT_FALSE(ModelSettings::from_json({{"listen", "0.0.0.0"}}));
  EXPECT_FALSE(ModelSettings::from_json(boost::json::array()));
}

TEST(ModelSettings, of_a_file_come_before_those_of_its_repository) {
  SettingsByModel all;
  ASSERT_TRUE(all["hf:org/repo@main"].set("ctx", "1"));
  ASSERT_TRUE(all["hf:org/repo@main:Q4_K_M"].set("ctx", "2"));
  const auto context = [&](const char* ref) {
    const ModelSettings* found = find_settings(all, *parse_model_ref(ref));
    return found ? found->context() : -1;
  };
  EXPECT_EQ(context("org/repo:Q4_K_M"), 2);
  EXPECT_EQ(context("org/repo:Q8_0"), 1);
  EXPECT_EQ(context("org/repo@other:Q8_0"), -1);
  EXPECT_EQ(context("builtin:haiku"), -1);
}

}  // namespace
}  // namespace llorch::colony
