// For tests: threads that have no memory. One source of such a test program includes base/test_own_new.h besides, whose
// `new` looks here. Under ThreadSanitizer, which has a `new` of its own, there is none: such tests begin with
// LLORCH_NEEDS_OWN_NEW().
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>

namespace llorch {

/// Of this thread: whatever it asks for fails.
inline thread_local bool out_of_memory = false;
/// Of this thread: how often it has asked.
inline thread_local std::int64_t allocations = 0;
/// Of this thread: the one of them that fails, counted from 1; 0: none.
inline thread_local std::int64_t failing_allocation = 0;

/// As long as it lives, allocations of all threads but its own fail. One at a time.
class OthersWithoutMemory {
 public:
  enum class Which { kOne, kAllFromThere };
  explicit OthersWithoutMemory(std::int64_t first = 0, Which which = Which::kAllFromThere) {
    asked_ = 0, failed_ = 0, first_ = first, last_ = which == Which::kOne ? first : INT64_MAX;
    spared_ = &allocations;
  }
  ~OthersWithoutMemory() { spared_ = nullptr; }
  OthersWithoutMemory(const OthersWithoutMemory&) = delete;
  OthersWithoutMemory& operator=(const OthersWithoutMemory&) = delete;
  /// How many have failed so far.
  [[nodiscard]] std::int64_t failed() const { return failed_; }

  /// Of the calling thread: whether its next allocation fails.
  static bool next_fails() {
    if (++allocations == failing_allocation || out_of_memory) return true;
    const void* const spared = spared_;
    if (!spared || spared == &allocations) return false;
    const std::int64_t n = asked_++;
    const bool fails = n >= first_ && n <= last_;
    if (fails) ++failed_;
    return fails;
  }

 private:
  inline static std::atomic<const void*> spared_ = nullptr;  // a variable of that thread's own
  inline static std::atomic<std::int64_t> asked_, failed_, first_, last_;
};

}  // namespace llorch

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LLORCH_NEEDS_OWN_NEW() GTEST_SKIP() << "not run: ThreadSanitizer has a `new` of its own"
#endif
#endif

#ifndef LLORCH_NEEDS_OWN_NEW
#define LLORCH_NEEDS_OWN_NEW()
#endif
