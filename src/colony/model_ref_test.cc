#include "colony/model_ref.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

TEST(ModelRef, every_form_has_one_spelling) {
  const std::pair<const char*, const char*> forms[] = {
      {"builtin:haiku", "builtin:haiku"},
      {"/models/a.gguf", "file:/models/a.gguf"},
      {"file:/models/a.gguf", "file:/models/a.gguf"},
      {"org/repo", "hf:org/repo@main"},
      {"hf:Org/Re-po.v1@abc123:Q4_K_M", "hf:Org/Re-po.v1@abc123:Q4_K_M"},
      {"org/repo:sub/model.gguf", "hf:org/repo@main:sub/model.gguf"},
      {"qwen", "qwen"},
  };
  for (const auto& [given, known] : forms) {
    const auto ref = parse_model_ref(given);
    ASSERT_TRUE(ref) << given << ": " << ref.error().message;
    EXPECT_EQ(ref->text(), known);
    EXPECT_EQ(parse_model_ref(ref->text())->text(), known) << "the spelling is not stable";
  }
}

TEST(ModelRef, hostile_ones_are_refused_and_not_repeated) {
  for (const std::string bad :
       {"", "a b", "$(id)", "`id`", "org/../x", "../x", "org/repo:../../etc/passwd", "org/repo;rm", "a\nb", "file:rel",
        "hf:org", "hf:a/b/c", "builtin:../x", "org/repo@", "org/repo:", "UPPER", "./rel.gguf"}) {
    const auto ref = parse_model_ref(bad);
    ASSERT_FALSE(ref) << bad;
    EXPECT_EQ(ref.error().code, ErrorCode::kInvalidRequest);
    EXPECT_FALSE(bad.size() > 3 && ref.error().message.contains(bad)) << ref.error().message;
  }
}

TEST(ModelRef, no_two_repositories_share_a_folder_of_the_cache) {
  // huggingface_hub, validate_repo_id: no "--", no "..", no "-" or "." at an end, no ".git".
  for (const char* bad : {"a--b/c", "a/b--c", "a-/b", "a/-b", "-a/b", "a/b-", "a./b", "a/.b", "a/b..c", "a/b.git"})
    EXPECT_FALSE(parse_model_ref(bad)) << bad;
  for (const char* good : {"a-b/c", "a/b-c", "a_b/c.d-1", "_a/b_"}) EXPECT_TRUE(parse_model_ref(good)) << good;
}

TEST(ModelRef, the_limit_holds_for_the_full_spelling) {  // found by fuzzing: "/..." was taken, "file:/..." refused
  const auto longest = parse_model_ref("/" + std::string(506, 'a'));
  ASSERT_TRUE(longest) << longest.error().message;
  EXPECT_EQ(longest->text().size(), 512U);
  EXPECT_TRUE(parse_model_ref(longest->text()));
  const auto longer = parse_model_ref("/" + std::string(507, 'a'));
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().code, ErrorCode::kInvalidRequest);
}

TEST(ModelRef, quantizations_in_file_names) {
  EXPECT_EQ(quant_in_name("qwen2.5-0.5b-instruct-q4_k_m.gguf"), "Q4_K_M");
  EXPECT_EQ(quant_in_name("Model-Q8_0.gguf"), "Q8_0");
  EXPECT_EQ(quant_in_name("model.bf16.gguf"), "BF16");
  EXPECT_EQ(quant_in_name("model-iq4_xs.gguf"), "IQ4_XS");
  EXPECT_EQ(quant_in_name("model.IQ3_XXS.gguf"), "IQ3_XXS");
  EXPECT_EQ(quant_in_name("model.gguf"), "");
}

}  // namespace
}  // namespace llorch::colony
