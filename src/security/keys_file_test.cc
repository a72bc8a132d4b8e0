#include "security/keys_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/ids.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

using namespace std::chrono_literals;

TEST(KeysFile, one_that_has_become_large_is_read_on_another_thread) {
  const std::string path = testing::TempDir() + "keys-" + random_hex(4);
  const std::string first = create_key(path, {Scope::kInfer}, "a").value();
  const auto file = KeysFile::open(path).value();
  ASSERT_EQ(file->keys().size(), 1u);
  const std::string second = create_key(path, {Scope::kInfer}, "b").value();
  std::ofstream(path, std::ios::app) << '#' << std::string(100'000, 'x') << '\n';
  EXPECT_EQ(file->keys().size(), 1u) << "it was read in place";
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (file->keys().size() != 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(file->keys().size(), 2u);
  ASSERT_TRUE(revoke_key(path, "a"));
  while (file->keys().size() != 1 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  ASSERT_EQ(file->keys().size(), 1u);
  EXPECT_EQ(file->keys()[0].hash, sha256(second));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace llorch::security
