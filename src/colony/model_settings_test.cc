// Settings of models: each is checked by its kind, and found by the reference or its repository.
#include "colony/model_settings.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

const std::string kLongPath = "/" + std::string(4095, 'x');

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
    EXPECT_EQ(s.text(key), value);
    EXPECT_EQ(s.arguments(), (std::vector<std::string>{std::string("--") + key, value}));
  }
  for (const auto& [key, value, why] :
       {std::tuple("ctx", std::string_view("0"), "'ctx' must be a whole number from 1 to 16777216"),
        {"ctx", "8k", "whole number"},
        {"kv-type", "f8", "f32, f16, q8_0"},
        {"temperature", "hot", "a number from 0 to 2"},
        {"temperature", "2.1", "a number"},
        {"temperature", "nan", "a number"},
        {"top-p", "", "a number"},
        {"top-p", std::string_view("0.5\0x", 5), "a number"},
        {"top-p", std::string_view("0.5\0", 4), "a number"},
        {"top-p", "\t0.5", "a number"},
        {"top-p", "0.5 ", "a number"},
        {"top-p", "+0.5", "a number"},
        {"top-p", "0x1p-1", "a number"},
        {"device", std::string_view("cpu\0", 4), "'device' must be"},
        {"ctx", "0128", "whole number"},
        {"top-k", "00", "whole number"},
        {"temperature", "00.5", "a number"},
        {"keep-alive", "05m", "a time"},
        {"chat-template", "x.jinja", "an absolute path"},
        {"chat-template", "/x\ny", "without control characters"},
        {"chat-template", "/x\x1b[1m", "without control characters"},
        {"chat-template", std::string_view("/x\0", 3), "without control characters"},
        {"chat-template", kLongPath, "at most 4095 bytes"},
        {"device", "tpu", "'device' must be cpu, gpu (any GPU) or one such as cuda:0"},
        {"keep-alive", "0", "'keep-alive' must be a time such as 90s, 5m or 2h"},
        {"keep-alive", "-1", "a time"},
        {"keep-alive", "5mm", "a time"},
        {"keep-alive", "m", "a time"},
        {"keep-alive", "9223372036854775807h", "a time"},
        {"contxt", "1", "did you mean 'context'?"},
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

TEST(ModelSettings, have_the_names_that_people_use_and_are_taken_back) {
  ModelSettings s;
  ASSERT_TRUE(s.set("context", "64") && s.set("kv_type", "f32") && s.set("slots", "2"));
  EXPECT_EQ(s.json(), (boost::json::object{{"ctx", "64"}, {"kv-type", "f32"}, {"max-batch", "2"}}));
  ASSERT_TRUE(s.unset("context"));
  EXPECT_TRUE(s.unset("top-p"));
  EXPECT_EQ(s.context(), 0);
  EXPECT_FALSE(s.unset("ctxx"));
}

TEST(ModelSettings, of_queen_and_hive_are_no_flags_of_a_worker) {
  ModelSettings s;
  ASSERT_TRUE(s.set("device", "gpu0") && s.set("keep-alive", "2h"));
  EXPECT_TRUE(s.arguments().empty());
  EXPECT_EQ(s.device(), "cuda:0");
  EXPECT_EQ(s.keep_alive(), 7200);
  ASSERT_TRUE(s.set("keep-alive", "90"));
  EXPECT_EQ(s.keep_alive(), 90);
  ASSERT_TRUE(s.set("keep-alive", "always"));
  EXPECT_EQ(s.keep_alive(), ModelSettings::kAlways);
  EXPECT_EQ(ModelSettings().keep_alive(), std::nullopt);
  EXPECT_EQ(ModelSettings().device(), "");
}

TEST(ModelSettings, are_described_as_they_are_taken) {
  for (const auto& v : ModelSettings::description()) {
    const auto& o = v.as_object();
    const std::string key(o.at("key").as_string()), type(o.at("type").as_string());
    ModelSettings s;
    const auto takes = [&](const boost::json::value& value) {
      return s.set(key, value.is_string() ? std::string(value.get_string()) : boost::json::serialize(value))
          .has_value();
    };
    if (type == "integer" || type == "number") EXPECT_TRUE(takes(o.at("low")) && takes(o.at("high"))) << key;
    if (type == "choice")
      for (const auto& value : o.at("values").as_array()) EXPECT_TRUE(takes(value)) << key;
    EXPECT_FALSE(takes("none of these")) << key;
  }
}

TEST(ModelSettings, of_a_file_come_before_those_of_its_repository) {
  SettingsByModel all;
  ASSERT_TRUE(all["hf:org/repo@main"].set("ctx", "1") && all["hf:org/repo@main"].set("threads", "3"));
  ASSERT_TRUE(all["hf:org/repo@main:Q4_K_M"].set("ctx", "2"));
  const auto context = [&](const char* ref) {
    const ModelSettings found = settings_for(all, *parse_model_ref(ref));
    return found.empty() ? -1 : found.context();
  };
  EXPECT_EQ(context("org/repo:Q4_K_M"), 2);
  EXPECT_EQ(context("org/repo:Q8_0"), 1);
  EXPECT_EQ(context("org/repo@other:Q8_0"), -1);
  EXPECT_EQ(context("builtin:haiku"), -1);
  EXPECT_EQ(settings_for(all, *parse_model_ref("org/repo:Q4_K_M")).text("threads"), "3");  // of which it says nothing
}

}  // namespace
}  // namespace llorch::colony
