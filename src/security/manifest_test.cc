// One hash over all that a model is made of, and what a file would have to keep for it.
#include "security/manifest.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "security/digest.h"
#include "test_data.h"

namespace llorch::security {
namespace {

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Manifest, of_a_file_and_of_a_folder) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("llorch-manifest-{}", getpid());
  std::filesystem::create_directories(folder / "m");
  std::ofstream(folder / "b.json") << "abc";
  const std::string abc = kAbc;
  EXPECT_EQ(manifest_of(folder / "b.json").value(), abc);
  EXPECT_EQ(manifest_of(folder).value(), sha256_hex(abc + "  b.json\n"));
  for (const char* name : {".hidden", "m/c.json"}) std::ofstream(folder / name) << "x";
  EXPECT_EQ(manifest_of(folder).value(), sha256_hex(abc + "  b.json\n")) << "no model is read from these";
  for (const char* name : {"a.json", "m/config.json"}) std::ofstream(folder / name) << "abc";
  for (int i = 0; i < 8; ++i) std::filesystem::create_symlink("nowhere", folder / fmt::format("link-{}", i));
  EXPECT_EQ(manifest_of(folder).value(),
            sha256_hex(abc + "  a.json\n" + abc + "  b.json\n" + abc + "  m/config.json\n"));
  EXPECT_EQ(manifest_of(folder / "none").error().code, ErrorCode::kIo);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(manifest_of(folder / "b.json", stop.get_token()).error().code, ErrorCode::kCancelled);
  const std::string before = identity_of(folder / "b.json");
  EXPECT_FALSE(before.empty());
  EXPECT_EQ(identity_of(folder / "b.json"), before);
  std::ofstream(folder / "b.json") << "abd";
  EXPECT_NE(identity_of(folder / "b.json"), before);
  EXPECT_EQ(identity_of(folder / "none"), "");
  std::filesystem::remove_all(folder);
}

TEST(Manifest, of_all_parts_of_a_split_file_whichever_is_named) {
  ScratchDirectory folder;
  const std::string abc = kAbc;
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) std::ofstream(folder / name) << "abc";
  for (const char* name : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"})
    EXPECT_EQ(manifest_of(folder / name).value(),
              sha256_hex(abc + "  m-00001-of-00002.gguf\n" + abc + "  m-00002-of-00002.gguf\n"));
  const std::string whole = identity_of(folder / "m-00001-of-00002.gguf");
  std::filesystem::remove(folder / "m-00002-of-00002.gguf");
  EXPECT_EQ(manifest_of(folder / "m-00001-of-00002.gguf").error().code, ErrorCode::kIo);
  EXPECT_NE(whole, "");
  EXPECT_EQ(identity_of(folder / "m-00001-of-00002.gguf"), "");
}

}  // namespace
}  // namespace llorch::security
