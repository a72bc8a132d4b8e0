#include "colony/model_access.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

ModelRef ref(std::string_view text) { return *parse_model_ref(text); }

TEST(ModelAccess, what_is_here_may_be_used_and_the_rest_needs_its_right) {
  const ModelAccess none, file{true, false}, fetch{false, true};
  EXPECT_TRUE(none.allows(ref("builtin:haiku"), false));
  EXPECT_FALSE(none.allows(ref("file:/etc/shadow"), false));
  EXPECT_FALSE(none.allows(ref("org/name"), false));
  EXPECT_TRUE(none.allows(ref("file:/m.gguf"), true));
  EXPECT_TRUE(none.allows(ref("org/name"), true));
  EXPECT_TRUE(file.allows(ref("file:/m.gguf"), false));
  EXPECT_FALSE(file.allows(ref("org/name"), false));
  EXPECT_TRUE(fetch.allows(ref("org/name"), false));
  EXPECT_FALSE(fetch.allows(ref("file:/m.gguf"), false));
  EXPECT_FALSE(ModelAccess::all().allows(ref("an-alias"), true)) << "who asks has not resolved it";
}

TEST(ModelAccess, words_come_back_and_others_are_refused) {
  for (const bool file : {false, true})
    for (const bool fetch : {false, true}) {
      const auto read = parse_model_access(ModelAccess{file, fetch}.text());
      ASSERT_TRUE(read);
      EXPECT_EQ(read->file, file);
      EXPECT_EQ(read->fetch, fetch);
    }
  for (const char* bad : {"", "everything", "file,", "file,none", ",fetch", "file fetch"})
    EXPECT_FALSE(parse_model_access(bad)) << bad;
}

}  // namespace
}  // namespace llorch::colony
