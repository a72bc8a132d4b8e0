// What a model server says of a repository: believed only as far as no name leaves its folder.
#include "colony/hub_listing.h"

#include <gtest/gtest.h>

#include "base/path_name.h"

namespace llorch::colony {
namespace {

std::string listing(const std::string& files, const std::string& sha = "0123abcd") {
  return R"({"sha":")" + sha + R"(","siblings":[)" + files + "]}";
}
std::string file(const std::string& name) { return R"({"rfilename":")" + name + R"("})"; }

TEST(HubListing, files_are_chosen_by_name_or_quantization) {
  const auto l =
      read_hub_listing(listing(file("README.md") + "," + file("a-f16.gguf") + "," + file("sub/a-q4_0.gguf")));
  ASSERT_TRUE(l) << l.error().message;
  EXPECT_EQ(l->commit, "0123abcd");
  EXPECT_EQ(l->files, (std::vector<std::string>{"a-f16.gguf", "sub/a-q4_0.gguf"}));
  EXPECT_EQ(choose_files(*l, "").value(), (std::vector<std::string>{"sub/a-q4_0.gguf"}));
  EXPECT_EQ(choose_files(*l, "f16").value(), (std::vector<std::string>{"a-f16.gguf"}));
  EXPECT_EQ(choose_files(*l, "a-f16.gguf").value(), (std::vector<std::string>{"a-f16.gguf"}));
  EXPECT_EQ(choose_files(*l, "Q8_0").error().code, ErrorCode::kModelNotFound);
  EXPECT_EQ(choose_files(*l, "b.gguf").error().code, ErrorCode::kModelNotFound);
}

TEST(HubListing, all_parts_of_a_split_file_are_chosen_and_a_missing_one_is_told) {
  const std::string parts[] = {"q/m-Q4_K_M-00001-of-00003.gguf", "q/m-Q4_K_M-00002-of-00003.gguf",
                               "q/m-Q4_K_M-00003-of-00003.gguf"};
  const std::vector<std::string> all(std::begin(parts), std::end(parts));
  // Whatever their order, and whichever of them is named.
  const auto whole = read_hub_listing(listing(file(parts[2]) + "," + file(parts[0]) + "," + file(parts[1])));
  ASSERT_TRUE(whole);
  EXPECT_EQ(choose_files(*whole, "q4_k_m").value(), all);
  EXPECT_EQ(choose_files(*whole, parts[1]).value(), all);
  const auto other = read_hub_listing(listing(file(parts[1]) + "," + file("n-Q4_K_M.gguf")));
  ASSERT_TRUE(other);
  EXPECT_EQ(choose_files(*other, "q4_k_m").value(), std::vector<std::string>{"n-Q4_K_M.gguf"}) << "which is whole";
  const auto some = read_hub_listing(listing(file(parts[0]) + "," + file(parts[2])));
  ASSERT_TRUE(some);
  EXPECT_EQ(choose_files(*some, "q4_k_m").error().code, ErrorCode::kModelNotFound);
  EXPECT_EQ(choose_files(*some, "q4_k_m").error().message, "the repository lacks part 2 of the 3 parts of this model");
}

TEST(HubListing, a_listing_with_one_bad_name_is_refused_whole) {
  for (const char* bad : {"../a.gguf", "/a.gguf", "a/../../b.gguf", "a\\u0000.gguf", "a\\u0001.gguf", "a\\\\b.gguf",
                          "./a.gguf", "a//b.gguf", ".gguf/../x.gguf"}) {
    const auto l = read_hub_listing(listing(file("good.gguf") + "," + file(bad)));
    ASSERT_FALSE(l) << bad;
    EXPECT_EQ(l.error().code, ErrorCode::kDownloadFailed);
    EXPECT_FALSE(l.error().message.contains("gguf")) << "the name is not repeated";
  }
  EXPECT_TRUE(read_hub_listing(listing(file("good.gguf") + "," + file("../x.txt")))) << "it is never fetched";
}

TEST(HubListing, its_size_depth_and_form_are_bounded) {
  std::string many = file("0.gguf");
  for (std::size_t i = 1; i <= kHubFilesMax; ++i) many += "," + file("a.gguf");
  for (const std::string& text :
       {std::string("{}"), std::string("[]"), std::string("<html>"), listing("", "../.."), listing("", ""),
        listing("", std::string(65, 'a')), listing("1"), listing(R"({"name":"x"})"), listing(many),
        R"({"sha":"ab","siblings":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}",
        listing(file(std::string(kHubListingBytesMax, 'a')))})
    EXPECT_FALSE(read_hub_listing(text)) << text.substr(0, 60);
}

TEST(HubListing, planned_names_stay_below_the_repository) {
  const ModelRef ref = parse_model_ref("hf:org/repo@main").value();
  const auto n = cache_names(ref, "0123abcd", "sub/a b.gguf", "00ff");
  ASSERT_TRUE(n) << n.error().message;
  EXPECT_EQ(n->blob, "models--org--repo/blobs/00ff");
  EXPECT_EQ(n->partial, "models--org--repo/blobs/00ff.incomplete");
  EXPECT_EQ(n->snapshot, "models--org--repo/snapshots/0123abcd/sub/a b.gguf");
  EXPECT_EQ(n->snapshot_folder, "models--org--repo/snapshots/0123abcd/sub");
  EXPECT_EQ(n->ref, "models--org--repo/refs/main");
  for (const char* etag : {"", "..", "a/b", "../x", "A", "."}) EXPECT_FALSE(cache_names(ref, "0123", "a.gguf", etag));
  for (const char* commit : {"", "..", "xyz"}) EXPECT_FALSE(cache_names(ref, commit, "a.gguf", "00ff"));
  EXPECT_FALSE(cache_names(ref, "0123", "../a.gguf", "00ff"));
  EXPECT_FALSE(cache_names(ref, "0123", std::string(1000, 'a') + "/x.gguf", "00ff"));
}

}  // namespace
}  // namespace llorch::colony
