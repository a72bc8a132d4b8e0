// For tests: a thread that has no memory. Included by one source of a test program, whose `new` it replaces.
#pragma once

#include <cstdlib>
#include <new>

namespace llorch {
/// Of this thread: whatever it asks for fails.
inline thread_local bool out_of_memory = false;
}  // namespace llorch

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
