#include "net/inbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace llorch::net {
namespace {

int new_event() {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw std::system_error(errno, std::system_category(), "eventfd");
  return fd;
}

struct Posted final : Inbox::Task {
  Posted(EventLoop& l, std::function<void()> t, EventLoop::Where w) : loop(l), task(std::move(t)), where(w) {}
  void run() override {
    const std::unique_ptr<Posted> self(this);
    loop.doing(where);
    task();
  }
  void drop() noexcept override { delete this; }
  EventLoop& loop;
  std::function<void()> task;
  EventLoop::Where where;
};

}  // namespace

Inbox::Inbox(EventLoop& loop, asio::io_context& io, const std::atomic<std::thread::id>& thread)
    : loop_(loop), io_(io), thread_(thread), event_(io, new_event()) {
  wait();
}

Inbox::~Inbox() {
  take();
  while (Task* const task = std::exchange(first_, first_ ? first_->next_ : nullptr)) task->drop();
}

void Inbox::push(Task* task) noexcept {
  Task* before = newest_.load(std::memory_order_relaxed);
  do task->next_ = before;
  while (!newest_.compare_exchange_weak(before, task));
  if (thread_.load() == std::this_thread::get_id()) return schedule();
  if (scheduled_.load()) return;  // the loop has not looked yet
  // Also where another task was there before: its thread may have been stopped before it came to this line.
  const std::uint64_t one = 1;
  while (write(event_.native_handle(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void Inbox::post(std::function<void()> task, EventLoop::Where where) {
  push(new Posted(loop_, std::move(task), where));
}

void Inbox::wait() {
  event_.async_wait(asio::posix::stream_descriptor::wait_read,
                    waiting_->in([this, keep = waiting_](const error_code& problem) {
                      if (problem) return;
                      std::uint64_t times = 0;
                      (void)!read(event_.native_handle(), &times, sizeof times);
                      wait();
                      schedule();
                    }));
}

void Inbox::schedule() {
  if (scheduled_.exchange(true)) return;
  asio::post(io_, turning_->in([this, keep = turning_] {
    scheduled_ = false;
    turn();
  }));
}

/// Runs one task: whatever else the loop has to do comes between them.
void Inbox::turn() {
  take();
  Task* const task = first_;
  if (!task) return;
  first_ = task->next_;
  if (first_) schedule();  // before the task, which may throw
  task->run();
}

/// Appends what was pushed, oldest first.
void Inbox::take() {
  Task* const newest = newest_.exchange(nullptr);
  Task* oldest = nullptr;
  for (Task* task = newest; task;) {
    Task* const before = std::exchange(task->next_, oldest);
    oldest = std::exchange(task, before);
  }
  if (!oldest) return;
  (first_ ? last_->next_ : first_) = oldest;
  last_ = newest;
}

}  // namespace llorch::net
