// Which settings of a model are in force: those that the queen was told over those of her file, key by key.
#include "queen/settings_table.h"

#include <gtest/gtest.h>

namespace llorch::queen {
namespace {

colony::ModelSettings made(std::initializer_list<std::pair<const char*, const char*>> values) {
  colony::ModelSettings out;
  for (const auto& [key, value] : values) EXPECT_TRUE(out.set(key, value)) << key;
  return out;
}

TEST(SettingsTable, what_was_told_comes_before_the_file_and_a_model_before_its_repository) {
  const auto ref = colony::parse_model_ref("org/repo:Q4_K_M").value(),
             all = colony::parse_model_ref("org/repo").value();
  SettingsTable table({{all.text(), made({{"ctx", "1"}, {"threads", "1"}, {"top-k", "1"}})},
                       {ref.text(), made({{"ctx", "2"}, {"threads", "2"}})}},
                      {{all.text(), made({{"ctx", "3"}, {"max-batch", "3"}})}});
  EXPECT_EQ(table.of(ref), made({{"ctx", "3"}, {"threads", "2"}, {"top-k", "1"}, {"max-batch", "3"}}));
  EXPECT_EQ(table.of(all), made({{"ctx", "3"}, {"threads", "1"}, {"top-k", "1"}, {"max-batch", "3"}}));
  EXPECT_TRUE(table.kept(ref).empty());
  table.keep(ref, made({{"ctx", "4"}}));
  EXPECT_EQ(table.of(ref).context(), 4);
  EXPECT_EQ(table.in_file(ref).context(), 2);
  table.keep(ref, {});
  table.keep(all, {});
  EXPECT_EQ(table.of(ref).context(), 2);
  EXPECT_EQ(table.models(), (std::set<std::string>{all.text(), ref.text()}));
  EXPECT_TRUE(table.of(colony::parse_model_ref("builtin:haiku").value()).empty());
}

}  // namespace
}  // namespace llorch::queen
