// Ends the process when its orderly end takes longer than it may: a thread that computes, or hangs in the system,
// cannot be ended alone.
//
// Armed when the end begins; destroyed, and so disarmed, when everything else is gone. Threads: any.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace llorch::service {

class ExitDeadline {
 public:
  ExitDeadline() = default;
  ~ExitDeadline();
  ExitDeadline(const ExitDeadline&) = delete;
  ExitDeadline& operator=(const ExitDeadline&) = delete;

  /// The first call counts. In the end: a line in the log, then the process ends with `exit_code`, which is read then.
  void arm(std::chrono::milliseconds time, std::function<int()> exit_code);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool disarmed_ = false;
  std::thread thread_;
};

}  // namespace llorch::service
