// The data of `llorch model suggest` (suggested_models.tsv).
#include "keeper/suggestions.h"

#include <gtest/gtest.h>

#include <set>

#include "colony/model_ref.h"

namespace llorch::keeper {
namespace {

TEST(Suggestions, each_is_a_model_with_all_its_facts) {
  const auto all = suggestions();
  ASSERT_GE(all.size(), 10U);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto ref = colony::parse_model_ref(all[i].model);
    ASSERT_TRUE(ref) << all[i].model;
    EXPECT_EQ(ref->kind, colony::ModelRef::Kind::kHub);
    EXPECT_FALSE(ref->file.empty()) << all[i].model << " names no file or quantization";
    EXPECT_GT(all[i].file_bytes, 50'000'000) << all[i].model;
    EXPECT_FALSE(all[i].licence.empty() || all[i].good_for.empty()) << all[i].model;
    EXPECT_TRUE((std::set<std::string>{"page", "alike", "licence", "-"}).contains(all[i].checked)) << all[i].checked;
    if (i > 0) {
      EXPECT_GE(all[i].file_bytes, all[i - 1].file_bytes) << all[i].model << " is out of order";
    }
    EXPECT_GT(all[i].memory_bytes(), all[i].file_bytes);
  }
}

}  // namespace
}  // namespace llorch::keeper
