// What a thread is for (W-20), asserted where work begins that others must not do: sockets belong to the loop, files
// and databases to anything but the loop, a step to the engine. A thread that was never told serves any of it: a
// command that answers on a terminal, a test. In builds with tests; what ships would rather be late than end.
#pragma once

#include <utility>

#include "base/assert.h"

#ifndef LLORCH_ROLES
#define LLORCH_ROLES 1
#endif

namespace llorch {

enum class ThreadRole : unsigned char { kAny, kLoop, kEngine, kCompute, kHelper };

namespace detail {
inline thread_local ThreadRole role_of_this_thread = ThreadRole::kAny;
}

inline ThreadRole thread_role() { return detail::role_of_this_thread; }

/// This thread's role for as long as the object lives; then what it was before.
class InRole {
 public:
  explicit InRole(ThreadRole role) : before_(std::exchange(detail::role_of_this_thread, role)) {}
  ~InRole() { detail::role_of_this_thread = before_; }
  InRole(const InRole&) = delete;
  InRole& operator=(const InRole&) = delete;

 private:
  ThreadRole before_;
};

inline void assert_may_compute() {
  LLORCH_ASSERT(!LLORCH_ROLES || (thread_role() != ThreadRole::kLoop && thread_role() != ThreadRole::kHelper),
                "this thread must not compute");
}
inline void assert_may_block() {
  LLORCH_ASSERT(!LLORCH_ROLES || thread_role() != ThreadRole::kLoop, "the event loop must not block");
}
inline void assert_may_serve() {
  LLORCH_ASSERT(!LLORCH_ROLES || thread_role() == ThreadRole::kLoop || thread_role() == ThreadRole::kAny,
                "served sockets belong to the event loop");
}

}  // namespace llorch
