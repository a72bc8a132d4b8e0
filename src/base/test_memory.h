// For tests: threads that have no memory. Included by one source of a test program, whose `new` and aligned_alloc() it
// replaces (Asio takes memory by the latter; what C libraries take by malloc() is not touched). Under ThreadSanitizer,
// which has a `new` of its own, there is none: such tests begin with LLORCH_NEEDS_OWN_NEW().
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace llorch {

/// Of this thread: whatever it asks for fails.
inline thread_local bool out_of_memory = false;
/// Of this thread: how often it has asked.
inline thread_local std::int64_t allocations = 0;

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
    ++allocations;
    if (out_of_memory) return true;
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

// Not inlined: GCC takes malloc() and `delete` of one object for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  void* p = llorch::OthersWithoutMemory::next_fails() ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
  if (!p) throw std::bad_alloc();
  return p;
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return llorch::OthersWithoutMemory::next_fails() ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  void* p = nullptr;
  if (llorch::OthersWithoutMemory::next_fails() || posix_memalign(&p, alignment, bytes) != 0) return nullptr;
  return p;
}
#endif
