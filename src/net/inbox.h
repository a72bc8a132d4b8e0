// For the files of this module only: tasks that any thread hands to an event loop, each of which is a turn of its own.
//
// Asio's own post() wakes the loop while it holds the lock that the loop takes next: on a busy machine whoever is woken
// often gets the processor of the thread that woke it, and then waits until that has one again. Nothing is locked here.
#pragma once

#include <atomic>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>

#include "net/asio.h"
#include "net/operation_memory.h"

namespace llorch::net {

class Inbox {
 public:
  class Task {
   public:
    /// On the loop's thread. Also ends the task, as drop() does; may throw.
    virtual void run() = 0;
    /// Ends a task that is not run any more: its loop has gone.
    virtual void drop() noexcept = 0;

   protected:
    ~Task() = default;

   private:
    friend class Inbox;
    Task* next_ = nullptr;
  };

  /// Throws std::system_error where the process may open no more descriptors.
  Inbox(EventLoop& loop, asio::io_context& io, const std::atomic<std::thread::id>& thread);
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  /// From any thread. Tasks run in the order in which they were handed over.
  void push(Task* task) noexcept;
  void post(std::function<void()> task, EventLoop::Where where = EventLoop::Where::current());

 private:
  void wait();
  void schedule();
  void turn();
  void take();

  EventLoop& loop_;
  asio::io_context& io_;
  const std::atomic<std::thread::id>& thread_;  // the loop's
  asio::posix::stream_descriptor event_;
  std::atomic<Task*> newest_{nullptr};  // those that the loop has not taken yet
  Task *first_ = nullptr, *last_ = nullptr;
  std::atomic<bool> scheduled_{false};  // a turn will come, and look after it has cleared this
  std::shared_ptr<OperationMemory> waiting_ = std::make_shared<OperationMemory>(),
                                   turning_ = std::make_shared<OperationMemory>();  // outlive their operations
};

}  // namespace llorch::net
