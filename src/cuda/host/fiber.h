// A fiber: a stack and where it stands. A switch is a function call of some nanoseconds (Boost.Context), announced to
// ASan in builds with it. Not thread-safe: the fibers of one host thread switch among themselves.
#pragma once

#include <boost/context/detail/fcontext.hpp>

#include <cstddef>
#include <span>

#if defined(__SANITIZE_ADDRESS__)
#define LLORCH_FIBERS_ANNOUNCED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LLORCH_FIBERS_ANNOUNCED
#endif
#endif
#ifdef LLORCH_FIBERS_ANNOUNCED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace llorch::cuda::host {

class Fiber {
 public:
  using Entry = void (*)(Fiber& self);  // never returns

  Fiber() = default;  // the host thread itself: it can be left and come back to
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Whatever ran here is forgotten; the next switch to it starts `entry`. Grows down from the end of `stack`.
  void start(std::span<std::byte> stack, Entry entry) {
    stack_ = stack;
    entry_ = entry;
    unpoison();
    context_ = boost::context::detail::make_fcontext(stack.data() + stack.size(), stack.size(), &Fiber::run);
  }

  /// Leaves this fiber, which runs now, for another. Returns when something switches back.
  void switch_to(Fiber& other) {
    target_ = &other;
#ifdef LLORCH_FIBERS_ANNOUNCED
    __sanitizer_start_switch_fiber(&sanitizer_, other.stack_.data(), other.stack_.size());
#endif
    arrive(boost::context::detail::jump_fcontext(other.context_, this));
  }

 private:
  void arrive(boost::context::detail::transfer_t from) {
    auto* left = static_cast<Fiber*>(from.data);
    left->context_ = from.fctx;
#ifdef LLORCH_FIBERS_ANNOUNCED
    const void* bottom = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(sanitizer_, &bottom, &bytes);
    // A host thread learns its own stack here, from the first fiber that it switched to.
    left->stack_ = {static_cast<std::byte*>(const_cast<void*>(bottom)), bytes};
#endif
  }
  static void run(boost::context::detail::transfer_t from) {
    Fiber& self = *static_cast<Fiber*>(from.data)->target_;
#ifdef LLORCH_FIBERS_ANNOUNCED
    self.sanitizer_ = nullptr;
#endif
    self.arrive(from);
    self.entry_(self);
  }
  void unpoison() {
#ifdef LLORCH_FIBERS_ANNOUNCED
    ASAN_UNPOISON_MEMORY_REGION(stack_.data(), stack_.size());
#endif
  }

  boost::context::detail::fcontext_t context_ = nullptr;
  std::span<std::byte> stack_;
  Entry entry_ = nullptr;
  Fiber* target_ = nullptr;  // of the last switch from here
  void* sanitizer_ = nullptr;  // what ASan keeps of a fiber that was left
};

}  // namespace llorch::cuda::host
