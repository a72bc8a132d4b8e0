// A bound on one computation over input from outside: units of work, a deadline, and a flag that cancels it.
//
// Templates, tokenizers and parsers charge each step by the work it does (bytes copied, values visited), so that a
// small input cannot make much of it. Threads: one at a time; the flag may be set by any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "base/thread_slice.h"

namespace llorch {

/// Shared by who waits for a computation and the thread that runs it: true ends it at its next check.
using CancelFlag = std::shared_ptr<const std::atomic<bool>>;

class WorkLimit {
 public:
  using Clock = std::chrono::steady_clock;
  /// Called now and then while the computation runs: it may wait there until it may go on.
  using Pause = std::function<void()>;
  explicit WorkLimit(std::uint64_t units_max, Clock::time_point deadline = Clock::time_point::max(),
                     CancelFlag cancelled = nullptr, Pause pause = nullptr)
      : units_max_(units_max), deadline_(deadline), cancelled_(std::move(cancelled)), pause_(std::move(pause)) {}

  /// Errors: kInvalidRequest when the units are used up, kOperationTimeout past the deadline, kCancelled. After an
  /// error every later call fails too.
  [[nodiscard]] Status charge(std::uint64_t units = 1) {
    if (units > units_max_ - used_) [[unlikely]] {
      used_ = units_max_;
      return fail(ErrorCode::kInvalidRequest, "this takes more work than one request may ask for");
    }
    used_ += units;
    if (used_ < next_look_) [[likely]]
      return {};
    return look();
  }
  [[nodiscard]] std::uint64_t used() const { return used_; }

 private:
  static constexpr std::uint64_t kUnitsBetweenLooks = 4096;  // a unit takes some nanoseconds
  Status look() {
    give_way();
    if (pause_) pause_();
    if (cancelled_ && cancelled_->load(std::memory_order_relaxed))
      return fail(ErrorCode::kCancelled, "nobody waits for this any more");
    if (deadline_ != Clock::time_point::max() && Clock::now() >= deadline_)
      return fail(ErrorCode::kOperationTimeout, "this took longer than it may");
    next_look_ = used_ + kUnitsBetweenLooks;
    return {};
  }

  std::uint64_t units_max_, used_ = 0, next_look_ = 0;
  Clock::time_point deadline_;
  CancelFlag cancelled_;
  Pause pause_;
};

}  // namespace llorch
