#include "security/keys_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/ids.h"
#include "base/test_memory.h"
#include "base/test_own_new.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

using namespace std::chrono_literals;

/// How many threads this process has.
long threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

TEST(KeysFile, one_that_has_become_large_is_read_on_another_thread) {
  const std::string path = testing::TempDir() + "keys-" + random_hex(4);
  const std::string first = create_key(path, {Scope::kInfer}, "a").value();
  const auto file = KeysFile::open(path).value();
  ASSERT_EQ(file->keys().size(), 1u);
  const std::string second = create_key(path, {Scope::kInfer}, "b").value();
  std::ofstream(path, std::ios::app) << '#' << std::string(100'000, 'x') << '\n';
  const long before = threads();
  (void)file->keys();  // what it answers depends on which thread is quicker
  EXPECT_EQ(threads(), before + 1) << "it was read in place";
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (file->keys().size() != 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(file->keys().size(), 2u);
  ASSERT_TRUE(revoke_key(path, "a"));
  while (file->keys().size() != 1 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  ASSERT_EQ(file->keys().size(), 1u);
  EXPECT_EQ(file->keys()[0].hash, sha256(second));
  std::filesystem::remove(path);
}

TEST(KeysFile, a_thread_that_finds_no_memory_looks_again) {  // 15.22
  LLORCH_NEEDS_OWN_NEW();
  const std::string path = testing::TempDir() + "keys-" + random_hex(4);
  for (const char* name : {"a", "b"}) ASSERT_TRUE(create_key(path, {Scope::kInfer}, name));
  const auto end = std::chrono::steady_clock::now() + 10s;
  std::unique_ptr<KeysFile> file;
  {
    const OthersWithoutMemory none;
    file = KeysFile::open(path, KeysFileMode::kOwnThread).value();
    while (none.failed() == 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    ASSERT_GT(none.failed(), 0) << "the thread has asked for no memory";
    ASSERT_TRUE(revoke_key(path, "a"));
  }
  while (file->keys().size() != 1 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(file->keys().size(), 1u);
  std::filesystem::remove(path);
}

TEST(KeysFile, a_revoked_key_is_refused_though_there_is_no_memory_to_say_so) {  // 15.22
  for (const KeysFileMode mode : {KeysFileMode::kBySystem, KeysFileMode::kOwnThread}) {
    const std::string path = testing::TempDir() + "keys-" + random_hex(4);
    for (const char* name : {"a", "b"}) ASSERT_TRUE(create_key(path, {Scope::kInfer}, name));
    const auto file = KeysFile::open(path, mode).value();
    file->on_change([](auto&&...) { throw std::bad_alloc(); });
    ASSERT_TRUE(revoke_key(path, "a"));
    const auto end = std::chrono::steady_clock::now() + 10s;
    bool thrown = false;
    while (!thrown && std::chrono::steady_clock::now() < end) {
      try {
        (void)file->keys();
        std::this_thread::yield();
      } catch (const std::bad_alloc&) {
        thrown = true;
      }
    }
    ASSERT_TRUE(thrown);
    EXPECT_EQ(file->keys().size(), 1u);
    std::filesystem::remove(path);
  }
}

}  // namespace
}  // namespace llorch::security
