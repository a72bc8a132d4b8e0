// Wakes other threads without ever waiting for one.
//
// A thread that signals a condition variable of glibc (2.25 to 2.40) may have to wait until a thread that was woken
// before has had a processor. An event loop must not: beside other programs that takes milliseconds.
#pragma once

#include <semaphore.h>
#include <time.h>

#include <cerrno>
#include <chrono>

namespace llorch {

class Semaphore {
 public:
  Semaphore() { sem_init(&semaphore_, 0, 0); }
  ~Semaphore() { sem_destroy(&semaphore_); }
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  /// Lets `times` calls of acquire() return.
  void release(int times = 1) noexcept {
    for (int i = 0; i < times; ++i) sem_post(&semaphore_);
  }
  void acquire() noexcept {
    while (sem_wait(&semaphore_) != 0 && errno == EINTR) {
    }
  }
  /// False: `limit` has come first.
  bool acquire_until(std::chrono::steady_clock::time_point limit) noexcept {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(limit.time_since_epoch()).count();
    const timespec at{ns / 1'000'000'000, ns % 1'000'000'000};
    int problem = 0;
    while ((problem = sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &at)) != 0 && errno == EINTR) {
    }
    return problem == 0;
  }

 private:
  sem_t semaphore_;
};

}  // namespace llorch
