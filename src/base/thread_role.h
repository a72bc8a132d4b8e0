// What a thread is for (W-20), asserted where work begins that others must not do: sockets belong to the loop, files
// and databases to anything but the loop, a step to the engine. A thread that was never told serves any of it: a
// command that answers on a terminal, a test. Asserted where the environment says LLORCH_ROLES=1, as every suite does;
// elsewhere a program would rather be late than end.
#pragma once

#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/assert.h"

namespace llorch {

enum class ThreadRole : unsigned char { kAny, kLoop, kEngine, kCompute, kHelper };

namespace detail {
inline thread_local ThreadRole role_of_this_thread = ThreadRole::kAny;
}  // namespace detail

/// Whether roles are asserted in this process; read once.
inline bool roles_asserted() {
  static const bool asserted = [] {
    const char* set = std::getenv("LLORCH_ROLES");
    return set && std::string_view(set) == "1";
  }();
  return asserted;
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
  LLORCH_ASSERT(!roles_asserted() || (thread_role() != ThreadRole::kLoop && thread_role() != ThreadRole::kHelper),
                "this thread must not compute");
}
inline void assert_may_block() {
  LLORCH_ASSERT(!roles_asserted() || thread_role() != ThreadRole::kLoop, "the event loop must not block");
}
inline void assert_may_serve() {
  LLORCH_ASSERT(!roles_asserted() || thread_role() == ThreadRole::kLoop || thread_role() == ThreadRole::kAny,
                "served sockets belong to the event loop");
}

}  // namespace llorch
