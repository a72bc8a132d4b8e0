#include "service/exit_deadline.h"

#include <cstdlib>

#include "service/log.h"

namespace llorch::service {

void ExitDeadline::arm(std::chrono::milliseconds time, std::function<int()> exit_code) {
  if (thread_.joinable()) return;
  const auto end = std::chrono::steady_clock::now() + time;
  const auto wait = [this, end, exit_code = std::move(exit_code)] {
    std::unique_lock lock(mutex_);
    if (changed_.wait_until(lock, end, [this] { return disarmed_; })) return;
    const int code = exit_code();
    try {
      log(Level::kError, "end_forced", "a thread did not end in time: the process ends without it",
          {{"action", "shutdown"}, {"exit_code", code}});
      // The log's reader may be what hangs: the line above gets half a second.
      std::thread([] { stop_log(); }).detach();
      changed_.wait_for(lock, std::chrono::milliseconds(500), [] { return false; });
    } catch (const std::exception&) {  // of memory: it ends all the same
    }
    std::_Exit(code);
  };
  try {
    thread_ = std::thread(wait);
  } catch (const std::exception& e) {  // no memory for a thread: the end comes in order, or not by itself
    log(Level::kWarn, "end_unbounded", e.what(), {{"action", "shutdown"}});
  }
}

ExitDeadline::~ExitDeadline() {
  {
    const std::lock_guard lock(mutex_);
    disarmed_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace llorch::service
