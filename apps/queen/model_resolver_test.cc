#include "queen/model_resolver.h"

#include <gtest/gtest.h>

namespace llorch::queen {
namespace {

using Presence = ModelResolver::Presence;

const security::Principal kAdmin{"token:a", "", {security::Scope::kAdmin}};
const security::Principal kInfer{"token:b", "", {security::Scope::kInfer}};
const std::map<std::string, std::string> kAliases{{"mine", "file:/models/mine.gguf"}, {"far", "hf:org/far@main"}};

ModelResolver resolver(bool infer_may_fetch = false, Presence others = Presence::kAbsent) {
  return {kAliases,
          [others](const std::string& ref) {
            return ref == "hf:org/here@main" || ref == "file:/held.gguf" ? Presence::kHere : others;
          },
          infer_may_fetch};
}

TEST(ModelResolver, an_admin_may_open_and_fetch) {
  for (const char* model : {"builtin:haiku", "file:/etc/shadow", "/x", "org/absent", "mine", "far"}) {
    const auto r = resolver().resolve(model, kAdmin);
    ASSERT_TRUE(r) << model;
    EXPECT_TRUE(r->access.file && r->access.fetch);
  }
  EXPECT_FALSE(resolver().resolve("nobody", kAdmin));
}

TEST(ModelResolver, a_name_that_is_nearly_right_is_told_to_who_may_know_the_names) {
  for (const auto& [typed, meant] : {std::pair("mnie", "mine"), {"MINE", "mine"}, {"builtin:haik", "builtin:haiku"}}) {
    const auto r = resolver().resolve(typed, kAdmin);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ErrorCode::kModelNotFound);
    EXPECT_EQ(r.error().message, fmt::format("there is no model '{}': did you mean '{}'?", typed, meant));
    const auto other = resolver().resolve(typed, kInfer);
    ASSERT_FALSE(other);
    EXPECT_EQ(not_found_of(other.error()).message, colony::no_such_model().message);
  }
  EXPECT_EQ(resolver().resolve("nobody", kAdmin).error().message, colony::no_such_model().message);
  EXPECT_EQ(resolver().resolve("NOBODY KNOWS", kAdmin).error().code, ErrorCode::kInvalidRequest);
}

TEST(ModelResolver, a_key_for_inference_uses_what_is_there) {
  for (const char* model : {"builtin:haiku", "file:/held.gguf", "/held.gguf", "org/here"}) {
    const auto r = resolver().resolve(model, kInfer);
    ASSERT_TRUE(r) << model;
    EXPECT_FALSE(r->access.file || r->access.fetch) << model << ": a hive opens and fetches nothing more";
  }
  for (const char* model : {"mine", "file:/models/mine.gguf"}) {
    const auto r = resolver().resolve(model, kInfer);
    ASSERT_TRUE(r) << "the operator has named it: " << model;
    EXPECT_TRUE(r->access.file);
    EXPECT_FALSE(r->access.fetch);
  }
}

TEST(ModelResolver, what_may_not_be_used_has_one_answer) {
  const auto refused = resolver().resolve("nobody", kInfer);
  ASSERT_FALSE(refused);
  for (const char* model : {"file:/etc/shadow", "file:/nothing/there", "/etc/passwd", "org/absent", "far",
                            "builtin:nobody", "nobody-else"}) {
    const auto r = resolver().resolve(model, kInfer);
    ASSERT_FALSE(r) << model;
    EXPECT_EQ(r.error().code, refused.error().code);
    EXPECT_EQ(r.error().message, refused.error().message) << model;
  }
}

TEST(ModelResolver, hives_that_sleep_say_themselves_what_they_have) {
  const auto r = resolver(false, Presence::kUnknown).resolve("org/absent", kInfer);
  ASSERT_TRUE(r);
  EXPECT_FALSE(r->access.fetch);
  EXPECT_FALSE(resolver(false, Presence::kUnknown).resolve("file:/etc/shadow", kInfer));
}

TEST(ModelResolver, the_setting_lets_them_fetch_and_no_more) {
  const auto r = resolver(true).resolve("org/absent", kInfer);
  ASSERT_TRUE(r);
  EXPECT_TRUE(r->access.fetch);
  EXPECT_FALSE(r->access.file);
  EXPECT_FALSE(resolver(true).resolve("file:/etc/shadow", kInfer));
}

}  // namespace
}  // namespace llorch::queen
