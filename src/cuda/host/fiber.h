// A fiber: a stack and where it stands. Switches are announced to ASan in builds with it. Not thread-safe: the fibers
// of one host thread switch among themselves.
#pragma once

#include <cstddef>
#include <span>

#include "cuda/host/asan.h"
#include "cuda/host/context.h"

namespace llorch::cuda::host {

class Fiber {
 public:
  using Entry = void (*)(Fiber& self);  // never returns

  Fiber() = default;  // the host thread itself: it can be left and come back to
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Whatever ran here is forgotten; the next switch to it starts `entry`.
  void start(std::span<std::byte> stack, Entry entry) {
    stack_ = stack;
    entry_ = entry;
    asan_open(stack.data(), stack.size());
    context_ = make_context<&Fiber::run>(stack.data(), stack.size());
  }

  /// Leaves this fiber, which runs now, for another. Returns when something switches back.
  void switch_to(Fiber& other) {
    target_ = &other;
    asan_before_switch(&sanitizer_, other.stack_);
    arrive(switch_context(&context_, other.context_, this));
  }

 private:
  void arrive([[maybe_unused]] Fiber* left) {
    // A host thread learns of its own stack here, from the first fiber that it switches to.
    asan_after_switch(sanitizer_, left->stack_);
  }
  static void run(Fiber* left) {
    Fiber& self = *left->target_;
    self.sanitizer_ = nullptr;
    self.arrive(left);
    self.entry_(self);
  }

  Context context_ = nullptr;
  std::span<std::byte> stack_;
  Entry entry_ = nullptr;
  Fiber* target_ = nullptr;    // of the last switch from here
  void* sanitizer_ = nullptr;  // what ASan keeps of a fiber that was left
};

}  // namespace llorch::cuda::host
