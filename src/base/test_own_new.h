// For tests: included by one source of a test program, whose `new` and aligned_alloc() it replaces by those that fail
// where base/test_memory.h says so. Asio takes memory by the latter; what C libraries take by malloc() is not touched.
#pragma once

#include <cstdlib>
#include <new>

#include "base/test_memory.h"

#if !defined(__has_feature)
#define LLORCH_OWN_NEW 1
#elif !__has_feature(thread_sanitizer)
#define LLORCH_OWN_NEW 1
#endif

#ifdef LLORCH_OWN_NEW
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
