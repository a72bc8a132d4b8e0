#include "base/thread_slice.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace llorch {
namespace {

/// As sched_setattr(2) has it; the C library of Debian 12 does not.
struct Attributes {
  std::uint32_t size = sizeof(Attributes), policy = SCHED_OTHER;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0, deadline_ns = 0, period_ns = 0;
};

constexpr std::chrono::microseconds kRunBeforeGivingWay{150};

thread_local bool long_worker = false;
thread_local std::chrono::steady_clock::time_point gives_way_at;

}  // namespace

void ask_for_slice(std::chrono::microseconds slice) {
  if (sched_getscheduler(0) != SCHED_OTHER) return;  // somebody else decided how this program runs
  Attributes a;
  a.nice = getpriority(PRIO_PROCESS, 0);
  a.runtime_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(slice).count());
  (void)syscall(SYS_sched_setattr, 0, &a, 0);
}

void become_long_worker(int nice) {
  (void)setpriority(PRIO_PROCESS, 0, nice);  // Linux: of this thread alone
  ask_for_slice(kLongWorkSlice);
  long_worker = true;
}

void give_way() {
  if (!long_worker || std::chrono::steady_clock::now() < gives_way_at) return;
  sched_yield();
  gives_way_at = std::chrono::steady_clock::now() + kRunBeforeGivingWay;
}

}  // namespace llorch
