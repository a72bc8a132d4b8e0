// Text and files that a person gives.
#include "keeper/attachment.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace llorch::keeper {
namespace {

class Attachment : public testing::Test {
 protected:
  Attachment() : folder_(testing::TempDir() + "/llorch-attachment-" + std::to_string(::getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~Attachment() override { std::filesystem::remove_all(folder_); }
  std::string file(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name) << bytes;
    return folder_ + "/" + name;
  }
  std::string folder_;
};

TEST_F(Attachment, WhatIsNoUtf8IsToldWithItsByte) {
  EXPECT_TRUE(check_utf8("café", "the prompt"));
  EXPECT_TRUE(check_utf8("", "the prompt"));
  for (const auto& [text, words] :
       {std::pair<std::string, const char*>("caf\xe9", "the prompt is no UTF-8: byte 4 is 0xe9"),
        {"\xff", "byte 1 is 0xff"},
        {"a\xc3", "byte 2 is 0xc3"}}) {
    const Status s = check_utf8(text, "the prompt");
    ASSERT_FALSE(s);
    EXPECT_NE(s.error().message.find(words), std::string::npos) << s.error().message;
  }
}

TEST_F(Attachment, PathsAsTheyArePasted) {
  const std::string plain = file("a.txt", "x"), spaced = file("a b.txt", "x");
  EXPECT_EQ(file_meant(plain), plain);
  EXPECT_EQ(file_meant("  " + plain + " \n").has_value(), false) << "several lines are a message";
  EXPECT_EQ(file_meant("'" + spaced + "'"), spaced);
  EXPECT_EQ(file_meant(folder_ + "/a\\ b.txt "), spaced);
  EXPECT_EQ(file_meant(plain + " what is this?"), std::nullopt);
  EXPECT_EQ(file_meant(folder_), std::nullopt) << "a folder";
  EXPECT_EQ(file_meant("a.txt"), std::nullopt);
  EXPECT_EQ(file_meant(""), std::nullopt);
  EXPECT_EQ(path_of("~/x"), std::string(getenv("HOME") ? getenv("HOME") : "") + "/x");
}

TEST_F(Attachment, TextGoesAlongAndNothingElse) {
  EXPECT_EQ(attachment(file("n.md", "one\ntwo"), "m").value(), "n.md:\n```\none\ntwo\n```\n\n");
  const std::string png = file("cat.png", "\x89PNG\r\n");
  for (const auto& [path, words] : {std::pair<std::string, const char*>(png, "is a picture, and m takes text alone"),
                                    {file("z", std::string("a\0b", 3)), "is no text"},
                                    {file("l", "caf\xe9"), "is no UTF-8"},
                                    {file("big", std::string((4u << 20) + 1, 'x')), "4194304"},
                                    {folder_ + "/none", "none"}}) {
    const auto got = attachment(path, "m");
    ASSERT_FALSE(got) << path;
    EXPECT_NE(got.error().message.find(words), std::string::npos) << got.error().message;
  }
}

TEST_F(Attachment, ThePathOfAPictureAloneIsNoPrompt) {
  const std::string png = file("cat.png", "\x89PNG\r\n"), plain = file("a.txt", "x");
  for (const std::string& prompt : {png, " " + png + " ", "'" + png + "'"})
    EXPECT_FALSE(check_is_no_picture(prompt, "m")) << prompt;
  for (const std::string& prompt : {"what is on " + png + " ?", "error: cannot read " + png + " : broken\n\nwhy?",
                                    png + "\n\nwhat is wrong?", plain, folder_ + "/none.png", std::string("cat.png")})
    EXPECT_TRUE(check_is_no_picture(prompt, "m")) << prompt;
}

}  // namespace
}  // namespace llorch::keeper
