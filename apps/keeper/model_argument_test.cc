// What people type for a model, and for anything else that has a name.
#include "keeper/model_argument.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/ids.h"
#include "base/nearest.h"

namespace llorch::keeper {
namespace {

TEST(ModelArgument, addresses_of_hugging_face_are_repositories) {
  for (const auto& [typed, meant] : std::vector<std::pair<std::string, std::string>>{
           {"hf.co/org/repo", "hf:org/repo"},
           {"hf.co/org/repo:Q4_K_M", "hf:org/repo:Q4_K_M"},
           {"https://huggingface.co/org/Repo-1.5_B", "hf:org/Repo-1.5_B"},
           {"https://huggingface.co/org/repo/", "hf:org/repo"},
           {"http://www.huggingface.co/org/repo?library=x#files", "hf:org/repo"},
           {"https://huggingface.co/org/repo/tree/main", "hf:org/repo"},
           {"https://huggingface.co/org/repo/tree/v2", "hf:org/repo@v2"},
           {"https://huggingface.co/org/repo/blob/main/x-Q4_K_M.gguf", "hf:org/repo:x-Q4_K_M.gguf"},
           {"https://huggingface.co/org/repo/resolve/abc/sub/x.gguf?download=true", "hf:org/repo@abc:sub/x.gguf"},
           {"https://huggingface.co/org/repo/discussions/3", "hf:org/repo"},
           {"org/repo", "org/repo"},
           {"org/repo:x.gguf", "org/repo:x.gguf"},
           {"hf:org/repo@main", "hf:org/repo@main"},
           {"builtin:haiku", "builtin:haiku"},
           {"my-alias", "my-alias"},
           {"file:/x/y", "file:/x/y"}}) {
    const auto got = model_meant(typed, true);
    ASSERT_TRUE(got) << typed << ": " << got.error().message;
    EXPECT_EQ(*got, meant);
  }
  for (const char* typed : {"https://example.org/m.gguf", "https://huggingface.co/org", "hf.co/", "http://",
                            "https://huggingface.co/datasets/org/data"}) {
    const auto got = model_meant(typed, true);
    ASSERT_FALSE(got) << typed;
    EXPECT_EQ(got.error().code, ErrorCode::kInvalidRequest) << typed;
  }
}

class Paths : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_ / "models/deep");
    std::ofstream(folder_ / "s.gguf") << "x";
    std::filesystem::current_path(folder_);
    setenv("HOME", (folder_ / "models").c_str(), 1);
    std::ofstream(folder_ / "models/x.gguf") << "x";
  }
  void TearDown() override {
    std::filesystem::current_path(before_);
    home_ ? setenv("HOME", home_->c_str(), 1) : unsetenv("HOME");
    std::filesystem::remove_all(folder_);
  }
  const std::filesystem::path before_ = std::filesystem::current_path();
  const std::optional<std::string> home_ =
      std::getenv("HOME") ? std::optional<std::string>(std::getenv("HOME")) : std::nullopt;
  const std::filesystem::path folder_ =
      std::filesystem::canonical(std::filesystem::temp_directory_path()) / ("model-argument-" + random_hex(4));
};

TEST_F(Paths, become_absolute_and_must_be_there) {
  for (const auto& [typed, meant] :
       std::vector<std::pair<std::string, std::string>>{{"s.gguf", "s.gguf"},
                                                        {"./s.gguf", "s.gguf"},
                                                        {"models/../s.gguf", "s.gguf"},
                                                        {"~/x.gguf", "models/x.gguf"},
                                                        {"./models/deep", "models/deep"},
                                                        {(folder_ / "s.gguf").string(), "s.gguf"}}) {
    const auto got = model_meant(typed, true);
    ASSERT_TRUE(got) << typed << ": " << got.error().message;
    EXPECT_EQ(*got, (folder_ / meant).string()) << typed;
  }
  const auto missing = model_meant("S2.gguf", true);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kModelNotFound);
  EXPECT_EQ(missing.error().message, "there is no " + (folder_ / "S2.gguf").string() + ": did you mean 's.gguf'?");
  EXPECT_FALSE(model_meant("no/such/folder", true));
  EXPECT_FALSE(model_meant("~/nothing.gguf", true));
  EXPECT_EQ(model_meant("/on/another/machine.gguf", false).value(), "/on/another/machine.gguf");
  unsetenv("HOME");
  EXPECT_FALSE(model_meant("~/x.gguf", true));
}

TEST(Nearest, letters_left_out_added_replaced_or_exchanged) {
  const std::vector<std::string> known{"run", "chat", "status", "model", "queen", "completion"};
  EXPECT_EQ(nearest("rnu", known), "run");
  EXPECT_EQ(nearest("chta", known), "chat");
  EXPECT_EQ(nearest("CHAT", known), "chat");
  EXPECT_EQ(nearest("stats", known), "status");
  EXPECT_EQ(nearest("modell", known), "model");
  EXPECT_EQ(nearest("xyz", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest(std::string(100'000, 'a'), known), "");
  EXPECT_EQ(nearest("run", {}), "");
  EXPECT_EQ(did_you_mean("quen", known), ": did you mean 'queen'?");
  EXPECT_EQ(did_you_mean("xyz", known), "");
}

}  // namespace
}  // namespace llorch::keeper
