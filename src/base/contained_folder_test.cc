// Names from outside: which are refused, and that no write leaves its folder, whichever way the kernel offers.
#include "base/contained_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/path_name.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

TEST(PathName, only_names_that_stay_in_their_folder_are_good) {
  for (const std::string& good :
       {"a"s, "a/b.gguf"s, "a b+%#.gguf"s, "..a"s, "a.."s, "\xC3\xA4/\xE6\xA8\xA1.gguf"s, std::string(255, 'x')})
    EXPECT_EQ(check_relative_path(good), PathFlaw::kNone) << good;
  std::string deep;
  for (int i = 0; i < 33; ++i) deep += i ? "/a" : "a";
  const std::pair<std::string, PathFlaw> bad[] = {{"", PathFlaw::kEmpty},
                                                  {"/etc/x.gguf", PathFlaw::kAbsolute},
                                                  {"../x.gguf", PathFlaw::kTraversal},
                                                  {"a/../x.gguf", PathFlaw::kTraversal},
                                                  {"a/..", PathFlaw::kTraversal},
                                                  {".", PathFlaw::kTraversal},
                                                  {"./x", PathFlaw::kTraversal},
                                                  {"a//b", PathFlaw::kTraversal},
                                                  {"a/", PathFlaw::kTraversal},
                                                  {"../x\0.gguf"s, PathFlaw::kNul},
                                                  {"a\\b", PathFlaw::kBackslash},
                                                  {"a\nb", PathFlaw::kControlCharacter},
                                                  {"a\x7f", PathFlaw::kControlCharacter},
                                                  {"a\xC2\x9B", PathFlaw::kControlCharacter},
                                                  {"a\xFF", PathFlaw::kNotUtf8},
                                                  {"\xC0\xAE\xC0\xAE/x", PathFlaw::kNotUtf8},
                                                  {std::string(256, 'x'), PathFlaw::kTooLong},
                                                  {deep, PathFlaw::kTooLong}};
  for (const auto& [name, flaw] : bad) EXPECT_EQ(check_relative_path(name), flaw) << name;
  EXPECT_EQ(check_file_name("a/b"), PathFlaw::kTraversal);
  EXPECT_EQ(check_file_name("a"), PathFlaw::kNone);
  for (int i = 0; i <= static_cast<int>(PathFlaw::kNotUtf8); ++i)
    EXPECT_FALSE(describe(static_cast<PathFlaw>(i)).empty());
}

class Contained : public testing::TestWithParam<ContainedFolder::Lookup> {
 protected:
  void SetUp() override {
    char name[] = "/tmp/llorch-contained-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    base_ = name;
    fs::create_directory(base_ / "outside");
    std::ofstream(base_ / "outside/victim") << "keep";
    auto opened = ContainedFolder::open((base_ / "root").string(), GetParam());
    ASSERT_TRUE(opened) << opened.error().message;
    folder_ = std::make_unique<ContainedFolder>(*std::move(opened));
  }
  void TearDown() override {
    std::ifstream in(base_ / "outside/victim");
    std::string text;
    in >> text;
    EXPECT_EQ(text, "keep") << "a file outside was changed";
    EXPECT_EQ(std::distance(fs::directory_iterator(base_ / "outside"), {}), 1) << "something was made outside";
    fs::remove_all(base_);
  }
  static std::string text_of(const fs::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path base_;
  std::unique_ptr<ContainedFolder> folder_;
};

TEST_P(Contained, files_folders_and_links_below_it) {
  ASSERT_TRUE(folder_->make_folders("a/b"));
  ASSERT_TRUE(folder_->make_folders("a/b")) << "it may be there already";
  ASSERT_TRUE(folder_->write_text("a/b/f", "one"));
  ASSERT_TRUE(folder_->write_text("a/b/f", "two"));
  EXPECT_EQ(text_of(base_ / "root/a/b/f"), "two");
  ASSERT_TRUE(folder_->make_folders("a/s/t"));
  ASSERT_TRUE(folder_->link("a/s/t/l", "a/b/f"));
  ASSERT_TRUE(folder_->link("a/s/t/l", "a/b/f")) << "a link is replaced";
  EXPECT_EQ(fs::read_symlink(base_ / "root/a/s/t/l"), "../../b/f");
  EXPECT_EQ(text_of(base_ / "root/a/s/t/l"), "two");
  EXPECT_TRUE(folder_->find("a/s/t/l")->value().link);
  EXPECT_EQ(folder_->find("a/b/f")->value().size, 3);
  EXPECT_FALSE(folder_->find("a/none")->has_value());
  ASSERT_TRUE(folder_->rename("a/b/f", "g"));
  EXPECT_EQ(text_of(base_ / "root/g"), "two");
  ASSERT_TRUE(folder_->remove("g"));
  ASSERT_TRUE(folder_->remove("g"));
  EXPECT_FALSE(fs::exists(base_ / "root/g"));
  for (const auto& entry : fs::recursive_directory_iterator(base_ / "root"))
    EXPECT_FALSE(entry.path().string().ends_with(".new")) << entry.path();
}

TEST_P(Contained, no_name_and_no_link_leads_out_of_it) {
  fs::create_directory_symlink(base_ / "outside", base_ / "root/way");
  fs::create_symlink(base_ / "outside/victim", base_ / "root/leaf");
  fs::create_directory(base_ / "root/in");
  fs::create_directory_symlink("../in", base_ / "root/in/again");  // stays inside, and is refused all the same
  for (const std::string& name : {"../outside/victim"s, "/"s + base_.string() + "/outside/victim"s, "way/victim"s,
                                  "way/new"s, "way/deep/new"s, "in/../../outside/victim"s, "x\0y"s, "in/again/x"s}) {
    EXPECT_FALSE(folder_->open_file(name, O_WRONLY | O_CREAT | O_TRUNC)) << name;
    EXPECT_FALSE(folder_->write_text(name, "changed")) << name;
    EXPECT_FALSE(folder_->remove(name)) << name;
    EXPECT_FALSE(folder_->link(name, "in")) << name;
    EXPECT_FALSE(folder_->find(name)) << name;
    EXPECT_FALSE(folder_->rename("in", name)) << name;
  }
  EXPECT_FALSE(folder_->make_folders("way/deep"));
  EXPECT_FALSE(folder_->make_folders("../outside/deep"));
  EXPECT_FALSE(folder_->link("in/l", "../outside/victim"));
  EXPECT_FALSE(folder_->open_file("leaf", O_WRONLY | O_TRUNC)) << "the last component is a link";
  ASSERT_TRUE(folder_->write_text("leaf", "mine")) << "a link is replaced, never followed";
  EXPECT_FALSE(fs::is_symlink(base_ / "root/leaf"));
  ASSERT_TRUE(folder_->remove("way")) << "the link, not what it names";
}

TEST_P(Contained, only_regular_files_are_opened_and_never_waited_for) {
  ASSERT_EQ(mkfifo((base_ / "root/pipe").c_str(), 0600), 0);
  EXPECT_FALSE(folder_->open_file("pipe", O_RDONLY));
  EXPECT_FALSE(folder_->open_file("pipe", O_WRONLY | O_CREAT));
  ASSERT_TRUE(folder_->make_folders("d"));
  EXPECT_FALSE(folder_->open_file("d", O_RDONLY));
}

INSTANTIATE_TEST_SUITE_P(, Contained, testing::Values(ContainedFolder::Lookup::kKernel, ContainedFolder::Lookup::kWalk),
                         [](const auto& i) { return i.param == ContainedFolder::Lookup::kWalk ? "walk" : "openat2"; });

}  // namespace
}  // namespace llorch
