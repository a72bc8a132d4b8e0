#include "base/output_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace llorch {
namespace {

class OutputFile : public testing::Test {
 protected:
  OutputFile() { std::filesystem::create_directories(folder_); }
  ~OutputFile() override { std::filesystem::remove_all(folder_); }
  std::string file(const char* name, std::string_view content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  std::filesystem::path folder_ = testing::TempDir() + "llorch-output-" + std::to_string(::getpid());
};

TEST_F(OutputFile, no_report_is_written_over_a_model) {
  using namespace std::string_view_literals;
  for (const auto content : {"GGUF\3\0\0\0"sv, "\x10\0\0\0\0\0\0\0{\"x\":1}"sv}) {
    const Status refused = may_replace_with_text(file("model", content));
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.ends_with("model is a model: it is not written over"))
        << refused.error().message;
  }
  for (const auto content : {""sv, "GG"sv, "{\"a\": 1}"sv, "0123456789"sv})
    EXPECT_TRUE(may_replace_with_text(file("report", content))) << content;
  EXPECT_TRUE(may_replace_with_text(folder_ / "none"));
  EXPECT_TRUE(may_replace_with_text("/dev/null"));
}

TEST_F(OutputFile, what_cannot_be_written_is_known_before) {
  EXPECT_TRUE(check_writable_with_text(""));
  for (const std::filesystem::path& path :
       {folder_ / "none", std::filesystem::path("/dev/null"), std::filesystem::path("none")})
    EXPECT_TRUE(check_writable_with_text(path)) << path;
  EXPECT_TRUE(check_writable_with_text(file("report", "old")));
  EXPECT_FALSE(check_writable_with_text(file("model", "GGUF")));
  const auto why = [](const std::string& path) { return check_writable_with_text(path).error().message; };
  EXPECT_EQ(why("/no/where/r.json"), "cannot write /no/where/r.json: No such file or directory");
  EXPECT_TRUE(why(folder_).ends_with(": it is a folder"));
}

TEST_F(OutputFile, a_model_is_written_over_nothing_but_another) {
  EXPECT_TRUE(may_replace_with_model(folder_ / "none"));
  EXPECT_TRUE(may_replace_with_model(file("empty", "")));
  EXPECT_TRUE(may_replace_with_model(file("old", "GGUF....")));
  for (const std::string& path : {file("notes", "important"), std::string("/dev/null"), folder_.string()})
    EXPECT_FALSE(may_replace_with_model(path)) << path;
}

}  // namespace
}  // namespace llorch
