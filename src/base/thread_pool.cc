#include "base/thread_pool.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "base/limits.h"
#include "base/thread_role.h"
#include "base/thread_slice.h"

namespace llorch {
namespace {

// Long enough to bridge the gap between two operators of one forward pass, short enough not to be seen when idle.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// std::atomic's own wait() yields some times before it sleeps, and on Linux whoever yields is behind all others, those
/// of low priority included, until the next tick.
using Word = std::atomic<std::uint32_t>;

void wait_while_equal(const Word& value, std::uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, old, nullptr);
}

void wake(Word& value, int threads) { syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, threads); }

}  // namespace

ThreadPool::ThreadPool(int threads) {
  const int crew = std::clamp(threads, 1, limits::kThreadsMax) - 1;
  try {
    for (int i = 0; i < crew; ++i) crew_.emplace_back([this] { crew_main(); });
  } catch (...) {  // no thread, or no memory: those that are there would be waited for
    end_crew();
    throw;
  }
}

ThreadPool::~ThreadPool() { end_crew(); }

void ThreadPool::end_crew() {
  stop_.store(true, std::memory_order_release);
  round_.fetch_add(1, std::memory_order_release);
  wake(round_, INT_MAX);
}

void ThreadPool::work() {
  try {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < pieces_;) call_(context_, i);
  } catch (...) {
    next_.store(pieces_, std::memory_order_relaxed);
    if (!thrown_.exchange(true)) exception_ = std::current_exception();
  }
}

void ThreadPool::dispatch(std::int64_t pieces, Call call, void* context) {
  call_ = call;
  context_ = context;
  pieces_ = pieces;
  next_.store(0, std::memory_order_relaxed);
  gate_.store(0, std::memory_order_release);
  round_.fetch_add(1, std::memory_order_release);
  wake(round_, INT_MAX);
  work();
  for (std::uint32_t at = gate_.fetch_or(kClosed, std::memory_order_acq_rel) | kClosed; at != kClosed;) {
    wait_while_equal(gate_, at);
    at = gate_.load(std::memory_order_acquire);
  }
  if (thrown_.load(std::memory_order_relaxed)) [[unlikely]] {
    thrown_ = false;
    std::rethrow_exception(std::exchange(exception_, nullptr));
  }
}

/// Whether this member has joined the round, whichever is open now.
bool ThreadPool::join() {
  for (std::uint32_t at = gate_.load(std::memory_order_relaxed); (at & kClosed) == 0;)
    if (gate_.compare_exchange_weak(at, at + 1, std::memory_order_acq_rel)) return true;
  return false;
}

void ThreadPool::crew_main() {
  const InRole role(ThreadRole::kCompute);
  ask_for_slice(kComputeSlice);
  for (std::uint32_t seen = 0;;) {
    wait_while_equal(round_, seen);
    seen = round_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_acquire)) return;
    if (!join()) continue;
    work();
    if (gate_.fetch_sub(1, std::memory_order_acq_rel) - 1 == kClosed) wake(gate_, 1);
  }
}

int ThreadPool::default_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace llorch
