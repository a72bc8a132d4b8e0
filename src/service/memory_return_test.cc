#include "service/memory_return.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

namespace llorch::service {
namespace {

using namespace std::chrono_literals;

std::size_t resident_bytes() {
  std::size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Small blocks, every hundredth of which stays: nothing at the end of the heap becomes free.
TEST(MemoryReturn, what_is_free_between_blocks_in_use_goes_back_when_the_process_is_quiet) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "not run: a sanitizer has an allocator of its own";
#endif
#endif
  const std::size_t before = resident_bytes();
  std::vector<std::unique_ptr<char[]>> blocks(400'000);
  for (auto& block : blocks) block = std::make_unique<char[]>(500);
  const std::size_t full = resident_bytes();
  ASSERT_GT(full, before + 150'000'000);
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (i % 100 != 0) blocks[i] = nullptr;
  std::promise<void> returned;
  std::once_flag once;
  const MemoryReturn memory(20ms, [&] { std::call_once(once, [&] { returned.set_value(); }); });
  // It looks only after work, which is counted from the start of its thread on: on a loaded machine that comes late.
  const auto told = returned.get_future();
  const auto end = std::chrono::steady_clock::now() + 30s;
  do {
    for (const std::clock_t worked = std::clock() + CLOCKS_PER_SEC / 10; std::clock() < worked;) {
    }
  } while (told.wait_for(1s) != std::future_status::ready && std::chrono::steady_clock::now() < end);
  EXPECT_EQ(told.wait_for(0s), std::future_status::ready);
  EXPECT_LT(resident_bytes(), before + 50'000'000) << "of " << full - before;
}

}  // namespace
}  // namespace llorch::service
