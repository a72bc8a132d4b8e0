// What the emulated device tells AddressSanitizer; nothing in builds without it (kAsan).
#pragma once

#include <cstddef>
#include <span>

#if defined(__SANITIZE_ADDRESS__)
#define LLORCH_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LLORCH_ASAN
#endif
#endif
#ifdef LLORCH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace llorch::cuda::host {

#ifdef LLORCH_ASAN
inline constexpr bool kAsan = true;
/// Memory that must not be touched, and may be again.
inline void asan_close(const void* at, std::size_t bytes) { ASAN_POISON_MEMORY_REGION(at, bytes); }
inline void asan_open(const void* at, std::size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(at, bytes); }
/// `kept` is what ASan keeps of the stack that is left.
inline void asan_before_switch(void** kept, std::span<std::byte> stack) {
  __sanitizer_start_switch_fiber(kept, stack.data(), stack.size());
}
inline void asan_after_switch(void* kept, std::span<std::byte>& left_stack) {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(kept, &bottom, &bytes);
  left_stack = {static_cast<std::byte*>(const_cast<void*>(bottom)), bytes};
}
#else
inline constexpr bool kAsan = false;
inline void asan_close(const void*, std::size_t) {}
inline void asan_open(const void*, std::size_t) {}
inline void asan_before_switch(void**, std::span<std::byte>) {}
inline void asan_after_switch(void*, std::span<std::byte>&) {}
#endif

}  // namespace llorch::cuda::host
