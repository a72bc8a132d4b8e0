// The thread that writes packed weights; what is in the file, and whose it may be, is tested in tests/load_test.cc.
#include "device/cpu/panel_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "base/ids.h"
#include "base/test_memory.h"
#include "base/test_own_new.h"

namespace llorch {
namespace {

using namespace std::chrono_literals;

TEST(PanelCache, a_writer_without_memory_leaves_no_file_and_the_next_one_writes_it) {  // 15.22
  LLORCH_NEEDS_OWN_NEW();
  const std::string folder = testing::TempDir() + "panels-" + random_hex(4);
  std::filesystem::create_directory(folder);
  const std::vector<std::byte> panels(100, std::byte{7});
  std::atomic<int> written = 0;
  const auto write_until = [&](const auto& done) {
    PanelCache cache({folder, "model", "source", [&](const Result<std::string>& file) { written += file ? 1 : 0; }},
                     "scalar");
    cache.add({"w", 1, 10, 10}, panels);
    cache.finish();
    const auto end = std::chrono::steady_clock::now() + 10s;
    while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_TRUE(done());
  };
  {
    const OthersWithoutMemory none;
    write_until([&] { return none.failed() > 0; });
  }
  EXPECT_EQ(written, 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  write_until([&] { return written > 0; });
  EXPECT_FALSE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace llorch
