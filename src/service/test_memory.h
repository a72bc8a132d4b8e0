// For tests: a thread that has no memory. Included by one source of a test program, whose `new` it replaces. Under
// ThreadSanitizer, which has a `new` of its own, there is none: such tests begin with LLORCH_NEEDS_OWN_NEW().
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

namespace llorch {
/// Of this thread: whatever it asks for fails.
inline thread_local bool out_of_memory = false;
}  // namespace llorch

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LLORCH_NEEDS_OWN_NEW() GTEST_SKIP() << "not run: ThreadSanitizer has a `new` of its own"
#endif
#endif

#ifndef LLORCH_NEEDS_OWN_NEW
#define LLORCH_NEEDS_OWN_NEW()

void* operator new(std::size_t bytes) {
  void* p = llorch::out_of_memory ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
  if (!p) throw std::bad_alloc();
  return p;
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return llorch::out_of_memory ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif
