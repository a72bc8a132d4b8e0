#include "service/memory_return.h"

#include <malloc.h>

#include <condition_variable>
#include <ctime>
#include <mutex>
#include <utility>

#include "base/thread_role.h"

namespace llorch::service {
namespace {

std::chrono::nanoseconds computed_by_process() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

void watch(const std::stop_token& stop, std::chrono::milliseconds look, const std::function<void()>& returned) {
  constexpr int kQuiet = 20;                      // of the time between two looks, a twentieth at most is used
  constexpr std::chrono::milliseconds kWork{50};  // less than that leaves little behind
  const InRole role(ThreadRole::kHelper);
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  auto trimmed_at = computed_by_process(), last = trimmed_at;
  while (!wake.wait_for(lock, stop, look, [&] { return stop.stop_requested(); })) {
    const auto now = computed_by_process();
    const bool quiet = (now - last) * kQuiet <= look;
    last = now;
    if (!quiet || now - trimmed_at < kWork) continue;
    malloc_trim(0);
    trimmed_at = last = computed_by_process();
    if (returned) returned();
  }
}

}  // namespace

MemoryReturn::MemoryReturn(std::chrono::milliseconds look, std::function<void()> returned) {
  constexpr int kOwnPagesFrom = 1 << 20, kArenas = 4;
  mallopt(M_MMAP_THRESHOLD, kOwnPagesFrom);
  mallopt(M_TRIM_THRESHOLD, kOwnPagesFrom);
  mallopt(M_ARENA_MAX, kArenas);
  thread_ = std::jthread(
      [look, returned = std::move(returned)](const std::stop_token& stop) { watch(stop, look, returned); });
}

}  // namespace llorch::service
